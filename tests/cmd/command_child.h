#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

#include "fscryptctl/base/file.h"
#include "fscryptctl/core/secrets.h"

namespace fscryptctl::test {

/// What a child does; the text that it returns comes back to the parent. An Error becomes
/// "error REASON: MESSAGE".
using ChildWork = std::function<std::string()>;

/// Runs `work` in a child without a terminal whose standard input is `input`.
[[nodiscard]] std::string without_terminal(const std::string& input, const ChildWork& work);

/// A child on a terminal of its own, and the hands that type on it. Everything gives up after some
/// seconds, so that a hanging child is a failing test.
class TerminalSession {
 public:
  explicit TerminalSession(const ChildWork& work);
  ~TerminalSession();
  TerminalSession(const TerminalSession&) = delete;
  TerminalSession& operator=(const TerminalSession&) = delete;

  /// Waits until `text` has been shown, behind what an earlier call has waited for.
  [[nodiscard]] bool shows(const std::string& text);
  void type(const std::string& text);
  [[nodiscard]] bool echo_is_on() const;
  void send_signal(int signal) const;
  /// What `work` returned; nullopt if the child was killed or does not end.
  [[nodiscard]] std::optional<std::string> result();
  /// Everything shown so far.
  [[nodiscard]] const std::string& screen() const noexcept { return screen_; }

 private:
  [[nodiscard]] bool read_screen(int timeout_ms);

  pid_t child_ = -1;
  UniqueFd master_;
  UniqueFd result_;
  std::string screen_;
  std::size_t seen_ = 0;
};

/// "passphrase BYTES", "raw-key HEX", "none"
[[nodiscard]] std::string shown(const std::optional<Secret>& secret);

}  // namespace fscryptctl::test
