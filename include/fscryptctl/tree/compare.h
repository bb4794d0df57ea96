#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fscryptctl/tree/attributes.h"
#include "fscryptctl/tree/progress.h"

namespace fscryptctl {

/// Something that is not what it should be.
struct TreeFinding {
  std::string path;  ///< relative to the root of the tree; "." for the root
  std::string what;  ///< "contents", "missing", "mode", "changed", "open for writing", ...
};

/// `what` of a file that somebody may be writing to now.
inline constexpr const char* kOpenForWriting = "open for writing";

/// Reads both trees, the destination's contents from the disk (whatever is cached of them is
/// dropped first, so sync_tree comes before), and compares names, kinds, hard links, contents,
/// holes as far as contents go, and every attribute but times of access,
/// which change whenever somebody looks. At most `limit` differences. By all
/// processors, in bounded memory but for files with several names. Changes nothing.
/// Throws io (also for contents that cannot be read), interrupted.
[[nodiscard]] std::vector<TreeFinding> compare_trees(int source, int destination, std::size_t limit,
                                                     TreeProgress& progress, const Tick& tick);

/// The time that the filesystem gives to a change just now: that of a file made in `directory` and
/// removed again.
[[nodiscard]] FileTime filesystem_now(int directory);

enum class ChangeSigns {
  times,              ///< change times
  times_and_writers,  ///< and who has a regular file open for writing now: a read lease tells
};
/// What was changed at `since` or later; special files are left out, which are the same in both
/// trees. At most `limit`. Throws io, interrupted.
[[nodiscard]] std::vector<TreeFinding> changes_since(int root, FileTime since, ChangeSigns signs,
                                                     std::size_t limit, TreeProgress& progress,
                                                     const Tick& tick);

}  // namespace fscryptctl
