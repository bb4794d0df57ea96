#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "fscryptctl/base/file.h"

namespace fscryptctl {

/// Lets the kernel write many small files while more are copied. Writing is when it encrypts, and
/// for one file alone it costs as much again; so a thread of this has all of them written together,
/// again and again, and only where that lags behind does a file's own thread help. Used by all
/// threads. What fails to be written is reported to whoever syncs, by a descriptor that was open
/// before.
class Writeback {
 public:
  /// For files of the filesystem that `directory` is on.
  explicit Writeback(int directory);
  ~Writeback();
  Writeback(const Writeback&) = delete;
  Writeback& operator=(const Writeback&) = delete;

  /// So much was written to it, from its beginning. Throws io, no_space.
  void add(int file, std::uint64_t bytes);

 private:
  void run();

  UniqueFd directory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t waiting_ = 0;  ///< bytes
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace fscryptctl
