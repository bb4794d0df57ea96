#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fscryptctl/tree/progress.h"

namespace fscryptctl {

/// Something in a tree that cannot be taken along.
struct Obstacle {
  enum class Kind {
    mount_point,     ///< another filesystem, or a bind mount, begins here
    encrypted,       ///< below a plain root
    swap_file,       ///< in use as swap
    verity,          ///< fs-verity
    symlink_target,  ///< too long for an encrypted symlink
    foreign_owner,   ///< a uid, gid, device or capability that only root can give
    unreadable,      ///< the caller may not read it
    not_movable,     ///< the root itself: immutable or append-only, it cannot be renamed
  };
  Kind kind;
  std::string path;  ///< relative to the root of the tree
};

struct ScanRules {
  bool root_encrypted = false;         ///< then encrypted entries are expected
  bool destination_encrypted = false;  ///< then symlink targets have at most 4093 bytes
  std::size_t obstacle_limit = 1000;
};

/// What a tree is made of, and what is in the way of copying it.
struct TreeScan {
  std::uint64_t files = 0;          ///< entries of every kind but the root
  std::uint64_t directories = 0;    ///< with the root
  std::uint64_t inodes = 0;         ///< that a copy needs: hard links count once, the root too
  std::uint64_t bytes = 0;          ///< of contents, apparent sizes, each inode once
  std::uint64_t bytes_on_disk = 0;  ///< that a copy needs, with directories and xattrs, rounded up
  std::uint64_t largest_file = 0;   ///< bytes on disk
  std::uint64_t largest_linked_file = 0;  ///< the same of files with several names
  std::uint64_t linked_outside = 0;       ///< files with a name outside of the tree
  std::vector<Obstacle> obstacles;
  bool obstacles_complete = true;
};

/// Looks at every entry below `root` (an open directory) without opening what is listed as FIFO or
/// device, or what is locked, through no symlink and no mount. Changes nothing, not even times of
/// access. Memory is bounded but for files with several names. By all processors. Throws io,
/// interrupted.
[[nodiscard]] TreeScan scan_tree(int root, const ScanRules& rules, TreeProgress& progress,
                                 const Tick& tick);

}  // namespace fscryptctl
