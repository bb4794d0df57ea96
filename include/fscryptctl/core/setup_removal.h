#pragma once

#include "fscryptctl/core/context.h"

namespace fscryptctl {

/// Throws unless the metadata of everybody could be taken away without losing access to anything:
/// in_use, naming the directories, while a directory anywhere on the filesystem is encrypted with a
/// recorded key, wherever it was moved to, and corrupt_metadata unless every record could be read.
/// Looks at every directory of the filesystem.
void require_removable(Context& context, const Filesystem& filesystem);

/// Takes it away. Holds every user's lock and looks again before. Throws as require_removable, and
/// metadata_locked.
void remove_set_up(Context& context, const Filesystem& filesystem);

}  // namespace fscryptctl
