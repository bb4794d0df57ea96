#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace fscryptctl {

/// How far long work on a tree is. Counted by all its threads.
struct TreeProgress {
  std::atomic<std::uint64_t> bytes{0};  ///< of contents, apparent sizes
  std::atomic<std::uint64_t> files{0};  ///< entries of every kind but the root
};

/// Called again and again by the thread that does or waits for the work, several times a second.
/// May throw (interrupted) to end it: then everything is closed, all threads have ended, and what
/// was done stays.
using Tick = std::function<void()>;

}  // namespace fscryptctl
