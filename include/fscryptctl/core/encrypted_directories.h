#pragma once

#include <functional>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/context.h"

namespace fscryptctl {

/// Who wants to know what a search comes across.
struct EncryptedDirectorySearch {
  /// An encrypted directory. It is not entered: all below has the same key.
  std::function<void(const std::string& path, const KernelPolicy& policy)> encrypted;
  /// One that cannot be looked into: closed to this user, a mount, too deep.
  std::function<void(const std::string& path, const Error& error)> closed;
};

/// Looks through everything below an open directory, whose path is `path`, on the same mount and
/// through no symlink. Throws interrupted, io.
void search_encrypted_directories(Context& context, int directory, const std::string& path,
                                  const EncryptedDirectorySearch& search);

}  // namespace fscryptctl
