#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>

namespace fscryptctl::test {

/// A child process, forked from the test and running as an ordinary user or as root (0). It ends
/// with `body`, and at the latest with this object. Needs root. Catch2's checks do not work in
/// there: `body` returns whether all was as it should be, and an exception counts as false.
class OtherProcess {
 public:
  /// Returns when `body` has called its argument: then the child has made its preparations.
  using Ready = std::function<void()>;
  OtherProcess(uid_t uid, const std::function<bool(const Ready&)>& body);
  ~OtherProcess();
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// What `body` returned; false if it has not by then.
  [[nodiscard]] bool finish(std::chrono::milliseconds patience);

 private:
  pid_t pid_ = -1;
};

/// Runs `body` as another user, for up to ten seconds: false if it returned false, threw or hangs.
[[nodiscard]] bool run_as(uid_t uid, const std::function<bool()>& body);

/// Does something over and over, as `uid`, while this object lives.
class Repeatedly {
 public:
  Repeatedly(uid_t uid, const std::function<void()>& action);

 private:
  OtherProcess process_;
};

/// Repeats `attempt` for as long as races need to show, and on until it has `seen` all that it
/// wants to see: on a busy machine that may take longer.
void race(const std::function<void()>& attempt, const std::function<bool()>& seen);

/// From here on the calling process gets `answer` (ENOSYS, EPERM) to this system call, as from an
/// old kernel or an old container's filter. False if that cannot be arranged.
[[nodiscard]] bool refuse_system_call(int number, int answer);

}  // namespace fscryptctl::test
