#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/base/file.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// The controlling terminal, apart from standard input and output.
class Terminal {
 public:
  /// nullopt if this process has none.
  [[nodiscard]] static std::optional<Terminal> open();

  /// A line typed without echo, without its newline. The terminal is as before afterwards, also
  /// when interrupted or stopped with Ctrl-Z (then asked again when continued).
  /// Throws missing_input (end of input), usage (too long, NUL), interrupted, io.
  [[nodiscard]] SecretBytes read_secret(std::string_view prompt);

  /// "QUESTION [y/N] ": true for y and yes. Throws missing_input (end of input), interrupted, io.
  [[nodiscard]] bool ask(std::string_view question);

  /// A line for whoever sits there.
  void say(std::string_view line);

 private:
  explicit Terminal(UniqueFd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] SecretBytes read_line(std::string_view prompt, bool echo);

  UniqueFd fd_;
};

}  // namespace fscryptctl
