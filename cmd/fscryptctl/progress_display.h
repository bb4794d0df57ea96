#pragma once

#include <chrono>
#include <string>

#include "fscryptctl/core/conversion.h"
#include "output.h"

namespace fscryptctl {

/// Shows how far long work is, on standard error: on a terminal a line that is drawn again and
/// again, with rate and remaining time; with --json one object a line, about once a second;
/// otherwise nothing.
class ProgressDisplay {
 public:
  explicit ProgressDisplay(const Output& out);
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;
  ~ProgressDisplay() { clear(); }

  void show(const ConversionProgress& progress);
  /// Takes the line away, before something else is written.
  void clear() noexcept;

 private:
  using Clock = std::chrono::steady_clock;

  [[nodiscard]] std::string line(const ConversionProgress& progress, double seconds) const;

  enum class Form { none, bar, json };
  Form form_ = Form::none;
  std::string phase_;
  Clock::time_point phase_start_{};
  Clock::time_point last_{};
  bool drawn_ = false;
};

/// "3 seconds", "about 2 minutes", "about 5 hours"
[[nodiscard]] std::string human_time(double seconds);

}  // namespace fscryptctl
