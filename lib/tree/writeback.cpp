#include "writeback.h"

#include <unistd.h>

#include <system_error>

#include "blocked_signals.h"
#include "contents.h"
#include "entry.h"

namespace fscryptctl {
namespace {

/// So much is worth the end of a transaction of the filesystem.
constexpr std::uint64_t kTogether = std::uint64_t{4} << 20;
/// With so much waiting, each thread writes for itself.
constexpr std::uint64_t kBehind = 2 * kTogether;

}  // namespace

Writeback::Writeback(int directory) : directory_(reopen_directory(directory)) {
  const BlockedSignals blocked;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    // Then each thread writes for itself as soon as so much is waiting.
  }
}

Writeback::~Writeback() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Writeback::add(int file, std::uint64_t bytes) {
  std::uint64_t waiting = 0;
  {
    const std::lock_guard lock(mutex_);
    waiting_ += bytes;
    waiting = waiting_;
  }
  if (waiting >= kTogether) changed_.notify_one();
  if (waiting >= kBehind) begin_writing(file, {0, bytes});
}

void Writeback::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ended_ || waiting_ >= kTogether; });
    if (ended_) return;
    waiting_ = 0;
    lock.unlock();
    syncfs(directory_.get());
    lock.lock();
  }
}

}  // namespace fscryptctl
