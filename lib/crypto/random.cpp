#include "fscryptctl/crypto/random.h"

#include <sys/random.h>

#include <cerrno>

#include "fscryptctl/base/error.h"

namespace fscryptctl {

void fill_random(std::span<std::uint8_t> out) {
  while (!out.empty()) {
    const ssize_t count = getrandom(out.data(), out.size(), 0);
    if (count < 0) {
      if (errno == EINTR) continue;
      throw system_error(errno, "reading random bytes");
    }
    out = out.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace fscryptctl
