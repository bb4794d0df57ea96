#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "entry.h"
#include "walk.h"

namespace fscryptctl {

/// Which copy belongs to a file with several names. Used by all threads.
class CopiedLinks {
 public:
  /// Where the first copy is, relative to the root of the destination; nullopt: the caller makes
  /// it, and says done or failed. Waits while another thread makes it.
  [[nodiscard]] std::optional<std::string> first_copy(const EntryStatus& source,
                                                      const Interruption& interruption);
  /// `late_flags`: those that would forbid further names, set at the end.
  void done(const EntryStatus& source, std::string path, std::uint32_t late_flags);
  void failed(const EntryStatus& source);

  /// Whether a file of the destination may be the copy of `source`: the first one to ask has it.
  [[nodiscard]] bool claim(std::uint64_t destination_inode, const EntryStatus& source);

  /// What is to be set at the end: paths and flags.
  [[nodiscard]] const std::vector<std::pair<std::string, std::uint32_t>>& late_flags() const {
    return late_flags_;
  }

 private:
  struct Copy {
    bool made = false;
    std::string path;
    std::uint64_t names_left = 0;
  };

  std::mutex mutex_;
  std::condition_variable made_;
  std::map<std::uint64_t, Copy> copies_;
  std::map<std::uint64_t, std::uint64_t> claims_;
  std::vector<std::pair<std::string, std::uint32_t>> late_flags_;
};

/// Opens what stands at a path below `root`, component by component where it is longer than the
/// kernel takes at once. An O_PATH descriptor.
[[nodiscard]] UniqueFd open_path(int root, const std::string& path);

}  // namespace fscryptctl
