#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "fscryptctl/tree/attributes.h"
#include "fscryptctl/tree/exchange.h"
#include "fscryptctl/tree/progress.h"

namespace fscryptctl {

/// A file that is being moved piece by piece from its end, as a journal has to keep it: written
/// down durably before its source loses anything. The source then stands in the work directory
/// under kPartSource, the destination under kPartDestination, and the size of the source is how far
/// it is.
struct PartMove {
  InodeIdentity source;
  InodeIdentity destination;
  std::string path;  ///< where the destination goes, relative to the root of the tree
  std::uint64_t size = 0;
  FileTime accessed;
  FileTime modified;
  FileTime source_modified;  ///< of the source after the last piece, for noticing strangers' writes
  std::uint64_t source_size = 0;  ///< the same
  bool operator==(const PartMove&) const = default;
};
inline constexpr const char* kPartSource = "part-source";
inline constexpr const char* kPartDestination = "part";
/// Directory in the work directory: the copies made of files with several names, by their source's
/// inode, until the last of these is gone.
inline constexpr const char* kLinks = "links";

struct MoveRequest {
  int source = -1;       ///< root of the tree
  int destination = -1;  ///< root of the tree it becomes
  int work = -1;  ///< a directory of the caller's alone on the same filesystem, not encrypted
  std::uint64_t piece = 64ULL << 20;  ///< largest piece of a file moved in parts
  /// Makes durable which file is moved in parts; nullopt: none is any more.
  std::function<void(const std::optional<PartMove>&)> journal;
  std::optional<PartMove> resumed;  ///< what the journal says
};

/// Moves a tree file by file into another, with hardly more space than the largest file needs, or,
/// where that is too much, in pieces from the end. Each file is whole and durable in its new place,
/// read back and compared, before it goes from the old one. It can be interrupted at any point, and
/// run again, or, with source and destination exchanged, taken back (a file in parts is finished
/// first, by running it forward until `journal` was called with nullopt: finish_part).
/// Directories keep their attributes to the end in an extended attribute of the destination's
/// directories (kStash), since moving files changes them; at the end they get them.
/// Throws files_in_use for what somebody has open (nothing of that file has changed), no_space, io,
/// conflict (something else is in the place of the destination), interrupted; path as in copy_tree.
void move_tree(const MoveRequest& request, TreeProgress& progress, const Tick& tick);

/// Finishes a file that is moved in parts, if there is one.
void finish_part(const MoveRequest& request, TreeProgress& progress, const Tick& tick);

inline constexpr const char* kStash = "user.fscryptctl.directory";
/// The same made by root: the owner of a tree can neither forge nor remove it.
inline constexpr const char* kTrustedStash = "trusted.fscryptctl.directory";

}  // namespace fscryptctl
