#include "fscryptctl/base/terminal_size.h"

#include <sys/ioctl.h>

namespace fscryptctl {

std::size_t terminal_columns(int fd) noexcept {
  constexpr std::size_t kUsual = 80;
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsual;
  return size.ws_col;
}

}  // namespace fscryptctl
