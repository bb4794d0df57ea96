#pragma once

#include "fscryptctl/tree/progress.h"

namespace fscryptctl {

struct CopyOptions {
  /// Nothing is there yet: saves looking.
  bool destination_empty = false;
  /// Threads that copy contents; 0: one for each processor, at least two, at most eight.
  unsigned writers = 0;
};

/// Makes everything below `destination`, and its own attributes, what `source` is: contents with
/// their holes, hard links, all attributes, symlinks; FIFOs, sockets and devices get a second name
/// (the same inode). What is there already and the same, contents compared, stays; what differs is
/// replaced, what is too much is removed. The source is not changed in any way but for the change
/// time of special files. Nothing is durable before sync_tree.
///
/// The destination must be out of others' reach (a directory above it is the caller's alone). The
/// source may be changed meanwhile by its owner: nothing outside is ever touched, and changes_since
/// tells whether that happened. Memory is bounded but for files with several names.
/// Throws io, no_space, permission, files_in_use (the source vanished under it), interrupted; the
/// error's path is relative to the root.
void copy_tree(int source, int destination, const CopyOptions& options, TreeProgress& progress,
               const Tick& tick);

/// Makes all that was written on the filesystem of `fd` durable, and reports whatever failed to be
/// written. Throws io, no_space.
void sync_tree(int fd);

}  // namespace fscryptctl
