#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/tree/compare.h"

namespace fscryptctl {

/// What a tree was replaced by, and when the copying of it began.
struct Replaced {
  FileTime since;
  int copy;  ///< descriptor of its root
  /// Somebody may have a directory of it open, and so put something else in the place of a file
  /// between the last look at it and its removal. Each file then goes by way of `parent`, where
  /// nobody else has any business: that takes longer.
  bool may_be_open = true;
};

/// Removes `name` below `parent` with everything in it, also what is not writable, immutable or
/// locked (then nothing is opened but directories), through no symlink and no mount. With
/// `replaced` a file stays, with the directories above it, if it was changed since and is not in
/// the copy as it is here, or if somebody has it open for writing; what stays is returned (at most
/// 1000). What cannot go back to its place from `parent` is found as "../NAME". It can be cut off
/// anywhere and run again. Not durable before `parent` is synced. Throws io, permission,
/// interrupted; files_in_use for a mount that is in the way.
[[nodiscard]] std::vector<TreeFinding> remove_tree(int parent, const std::string& name,
                                                   const std::optional<Replaced>& replaced,
                                                   TreeProgress& progress, const Tick& tick);

}  // namespace fscryptctl
