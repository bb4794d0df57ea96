#include "progress_display.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "fscryptctl/base/amount.h"
#include "fscryptctl/base/terminal_size.h"

namespace fscryptctl {
namespace {

constexpr std::chrono::milliseconds kBarInterval{200};
constexpr std::chrono::milliseconds kJsonInterval{1000};
constexpr std::size_t kBarWidth = 24;
/// Before that, a rate means little.
constexpr double kSettled = 1.0;

/// What goes wrong on standard error cannot be told anywhere.
void to_standard_error(const std::string& text) {
  static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size()));
}

double share_done(const ConversionProgress& progress) {
  if (progress.bytes_total + progress.files_total == 0) return 0;
  // A file takes time of its own, however small it is.
  constexpr double kBytesPerFile = 20000;
  const auto weight = [](std::uint64_t bytes, std::uint64_t files) {
    return static_cast<double>(bytes) + kBytesPerFile * static_cast<double>(files);
  };
  return std::min(1.0, weight(progress.bytes_done, progress.files_done) /
                           weight(progress.bytes_total, progress.files_total));
}

}  // namespace

std::string human_time(double seconds) {
  constexpr double kMinute = 60;
  constexpr double kHour = 3600;
  const auto whole = [](double value) { return std::to_string(std::lround(std::ceil(value))); };
  if (seconds < 1.5 * kMinute) {
    const std::string number = whole(std::max(seconds, 1.0));
    return number + (number == "1" ? " second" : " seconds");
  }
  if (seconds < 1.5 * kHour) return "about " + whole(seconds / kMinute) + " minutes";
  return "about " + whole(seconds / kHour) + " hours";
}

ProgressDisplay::ProgressDisplay(const Output& out) {
  if (out.quiet()) return;
  if (out.json_wanted()) {
    form_ = Form::json;
  } else if (::isatty(STDERR_FILENO) != 0) {
    form_ = Form::bar;
  }
}

void ProgressDisplay::show(const ConversionProgress& progress) {
  if (form_ == Form::none) return;
  const Clock::time_point now = Clock::now();
  const bool new_phase = phase_ != progress.phase;
  if (new_phase) {
    phase_ = progress.phase;
    phase_start_ = now;
  }
  if (!new_phase && now - last_ < (form_ == Form::bar ? kBarInterval : kJsonInterval)) return;
  last_ = now;
  if (form_ == Form::json) {
    const Json object{{"phase", std::string(progress.phase)},
                      {"bytes_done", progress.bytes_done},
                      {"bytes_total", progress.bytes_total},
                      {"files_done", progress.files_done},
                      {"files_total", progress.files_total}};
    return to_standard_error(object.dump() + "\n");
  }
  const double seconds = std::chrono::duration<double>(now - phase_start_).count();
  std::string text = line(progress, seconds);
  text.resize(std::min(text.size(), terminal_columns(STDERR_FILENO) - 1));
  to_standard_error("\r" + text + "\033[K");
  drawn_ = true;
}

std::string ProgressDisplay::line(const ConversionProgress& progress, double seconds) const {
  std::string text = phase_;
  text.resize(std::max<std::size_t>(text.size(), 10), ' ');
  if (progress.bytes_total + progress.files_total == 0) {
    const std::uint64_t files = progress.files_done;
    return files == 0 ? phase_ : text + " " + std::to_string(files) + " files";
  }
  const double share = share_done(progress);
  const auto filled = static_cast<std::size_t>(share * kBarWidth);
  text += " [" + std::string(filled, '#') + std::string(kBarWidth - filled, '.') + "] ";
  std::array<char, 16> percent{};
  std::snprintf(percent.data(), percent.size(), "%3.0f%%", std::floor(share * 100));
  text += percent.data();
  if (seconds < kSettled || share <= 0) return text;
  if (progress.bytes_total > 0) {
    const double rate = static_cast<double>(progress.bytes_done) / seconds;
    text += "  " + human_size(static_cast<std::uint64_t>(rate)) + "/s";
  }
  return text + "  " + human_time(seconds / share * (1 - share)) + " left";
}

void ProgressDisplay::clear() noexcept {
  if (!drawn_) return;
  drawn_ = false;
  static_cast<void>(!::write(STDERR_FILENO, "\r\033[K", 4));
}

}  // namespace fscryptctl
