#include "fscryptctl/base/proc_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fscryptctl/base/file.h"

namespace fscryptctl {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

/// Three octal digits that make a byte.
bool is_octal_byte(std::string_view digits) {
  return digits.size() == 3 && std::ranges::all_of(digits, is_octal) && digits[0] <= '3';
}

}  // namespace

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

std::string decode_octal_escapes(std::string_view text) {
  if (text.find('\\') == std::string_view::npos) return std::string(text);
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view digits = text.substr(i + 1, 3);
    if (text[i] != '\\' || !is_octal_byte(digits)) {
      decoded.push_back(text[i]);
      continue;
    }
    const int value = (digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0');
    decoded.push_back(static_cast<char>(value));
    i += digits.size();
  }
  return decoded;
}

}  // namespace fscryptctl
