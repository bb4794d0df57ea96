#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/context.h"

namespace fscryptctl {

/// Who wants to know what a search comes across.
struct DirectorySearch {
  /// An encrypted directory, which is not entered: all below has the same key. Or an encrypted file
  /// that was moved out of its directory.
  std::function<void(const std::string& path, const KernelPolicy& policy)> encrypted;
  /// What does not tell: closed to this user, a mount, too deep, a file that is locked.
  std::function<void(const std::string& path, const Error& error)> closed;
};

/// Looks through everything below an open directory, whose path is `path`, on the same mount and
/// through no symlink. Throws interrupted, io (also when descriptors run out).
void search_directories(const Context& context, int directory, const std::string& path,
                        const DirectorySearch& search);

/// What needs some keys on a filesystem.
struct KeySearch {
  std::vector<std::string> found;   ///< directories and files with one of the keys
  std::vector<std::string> closed;  ///< what could not be looked at: nobody can tell what is there
};

/// Looks at every directory of the filesystem, since directories are moved and path hints do not
/// follow. Throws as search_directories.
[[nodiscard]] KeySearch search_by_key(const Context& context, const Filesystem& filesystem,
                                      const std::set<KeyIdentifier>& keys);

}  // namespace fscryptctl
