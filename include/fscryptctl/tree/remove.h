#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/tree/compare.h"

namespace fscryptctl {

/// Removes `name` below `parent` with everything in it, also what is not writable, immutable or
/// locked (then nothing is opened but directories), through no symlink and no mount. With
/// `unchanged_since` a file whose contents were changed at that time or later, or that somebody has
/// open for writing, stays with the directories above it, and is returned (at most 1000). False
/// beginnings are harmless: it can be run again. Not durable before `parent` is synced. Throws io,
/// permission, interrupted; files_in_use for a mount that is in the way.
[[nodiscard]] std::vector<TreeFinding> remove_tree(int parent, const std::string& name,
                                                   std::optional<FileTime> unchanged_since,
                                                   TreeProgress& progress, const Tick& tick);

}  // namespace fscryptctl
