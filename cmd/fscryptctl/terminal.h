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

  /// A line that is seen while it is typed. Throws missing_input, usage (too long), interrupted,
  /// io.
  [[nodiscard]] SecretBytes read_shown(std::string_view prompt) { return read_line(prompt, true); }

  /// "QUESTION [y/N] ": true for y and yes. Throws missing_input (end of input), interrupted, io.
  [[nodiscard]] bool ask(std::string_view question);

  /// A line for whoever sits there.
  void say(std::string_view line);
  /// Something secret that is to be seen, as it is.
  void show(const SecretBytes& text) {
    write_all({reinterpret_cast<const char*>(text.view().data()), text.size()});
  }

 private:
  explicit Terminal(UniqueFd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] SecretBytes read_line(std::string_view prompt, bool echo);
  void write_all(std::string_view text);

  UniqueFd fd_;
};

}  // namespace fscryptctl
