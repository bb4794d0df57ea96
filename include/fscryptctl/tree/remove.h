#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/tree/compare.h"

namespace fscryptctl {

/// What a tree was replaced by, and when the copying of it began.
struct Replaced {
  FileTime since;
  int copy;  ///< descriptor of its root
};

/// How names begin, beside the tree, of files that are on their way out.
inline constexpr std::string_view kRemoving = "removing-";

/// Removes `name` below `parent` with everything in it, also what is not writable, immutable or
/// locked (then nothing is opened but directories), through no symlink and no mount. With
/// `replaced` a file stays, with the directories above it, if it was changed since and is not in
/// the copy as it is here, if somebody has it open for writing, or if it was put in the place of
/// one that was just looked at; what stays is returned (at most 1000). For that each file goes by
/// way of `parent`, where nobody else has any business; what cannot go back to its place from there
/// is found as "../removing-...". It can be cut off anywhere and run again. Not durable before
/// `parent` is synced. Throws io, permission, interrupted; files_in_use for a mount that is in the
/// way.
[[nodiscard]] std::vector<TreeFinding> remove_tree(int parent, const std::string& name,
                                                   const std::optional<Replaced>& replaced,
                                                   TreeProgress& progress, const Tick& tick);

}  // namespace fscryptctl
