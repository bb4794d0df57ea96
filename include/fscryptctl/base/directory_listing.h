#pragma once

#include <cstddef>
#include <string>

namespace fscryptctl {

/// What a listing says of an entry.
struct DirectoryEntry {
  std::string name;
  unsigned char type;  ///< DT_*
};

/// The entries of a directory, a buffer at a time, so that their number does not matter.
class DirectoryListing {
 public:
  /// False at the end. "." and ".." are left out. `fd` must be the same at every call; it has the
  /// position. Throws no_such_path if the directory has been removed, io.
  [[nodiscard]] bool next(int fd, DirectoryEntry& entry);
  /// Gives up the memory of what was returned already.
  void shrink();

 private:
  std::string buffer_;
  std::size_t position_ = 0;
};

}  // namespace fscryptctl
