#include "fscryptctl/base/proc_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fscryptctl/base/file.h"

namespace fscryptctl {

std::optional<std::string> read_proc_file(int dirfd, const std::string& name, std::size_t limit) {
  const UniqueFd file(openat(dirfd, name.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file) return std::nullopt;
  // Large steps: the kernel makes each one's text anew, so that fewer are faster and agree better.
  constexpr std::size_t kFirstStep = 4096;
  std::string text;
  std::size_t used = 0;
  while (used < limit) {
    if (used == text.size()) text.resize(std::min(limit, std::max(kFirstStep, 2 * used)));
    const ssize_t count = read(file.get(), text.data() + used, text.size() - used);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::nullopt;
    if (count == 0) break;
    used += static_cast<std::size_t>(count);
  }
  text.resize(used);
  return text;
}

}  // namespace fscryptctl
