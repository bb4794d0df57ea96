#pragma once

#include <chrono>

namespace fscryptctl {

/// The time that a login may be kept waiting, on a clock that nobody can set. A question stops it.
class LoginBudget {
 public:
  explicit LoginBudget(std::chrono::milliseconds all) : left_(all) { resume(); }

  void pause() noexcept {
    left_ = left();
    running_ = false;
  }
  void resume() noexcept {
    since_ = Clock::now();
    running_ = true;
  }
  [[nodiscard]] std::chrono::milliseconds left() const noexcept {
    if (!running_) return left_;
    return left_ - std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since_);
  }
  [[nodiscard]] bool over() const noexcept { return left() <= std::chrono::milliseconds::zero(); }

 private:
  using Clock = std::chrono::steady_clock;
  std::chrono::milliseconds left_;
  Clock::time_point since_{};
  bool running_ = false;
};

}  // namespace fscryptctl
