#pragma once

#include <set>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"

namespace fscryptctl {

/// What needs some keys on a filesystem.
struct KeySearch {
  std::vector<std::string> found;   ///< directories with one of the keys
  std::vector<std::string> closed;  ///< what could not be looked at: nobody can tell what is there
};

/// Looks at every directory of the filesystem, since directories are moved and path hints do not
/// follow. An encrypted file that was moved out of its directory counts as well: as found if it has
/// one of the keys, as closed if it is locked. Below an encrypted directory all has the same key.
/// Throws interrupted, io (also when descriptors run out).
[[nodiscard]] KeySearch search_by_key(const Context& context, const Filesystem& filesystem,
                                      const std::set<KeyIdentifier>& keys);

}  // namespace fscryptctl
