#include "fscryptctl/tree/trim.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <limits>

#include "fscryptctl/base/error.h"

namespace fscryptctl {

void trim_filesystem(int fd) {
  fstrim_range range{};
  range.len = std::numeric_limits<decltype(range.len)>::max();
  if (ioctl(fd, FITRIM, &range) != 0) {
    throw system_error(errno, "the freed blocks could not be trimmed");
  }
}

}  // namespace fscryptctl
