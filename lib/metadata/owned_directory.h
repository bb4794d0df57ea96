#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/fs_identity.h"

namespace fscryptctl {

/// The uid that stands for all users that have none here (user namespaces, NFS): never an owner to
/// trust.
[[nodiscard]] uid_t overflow_uid();

/// Acts as `owner` if that is an ordinary user. Root's own things are handled as whoever calls.
class ActAsOwner {
 public:
  explicit ActAsOwner(Identity owner) {
    if (owner.uid != 0) acting_.emplace(owner);
  }

 private:
  std::optional<ActAs> acting_;
};

/// Opens a directory of `owner`'s keyring below `dirfd`; call it acting as `owner`. nullopt if
/// there is none. Throws untrusted_metadata unless it is a directory of `owner`, closed to
/// everybody else and not encrypted; `file` is what the error's path says.
[[nodiscard]] std::optional<UniqueFd> open_private_directory(int dirfd, const std::string& name,
                                                             uid_t owner, const std::string& file);

/// Runs `action`; an Error that leaves it gets `file` as its path.
template <class Action>
auto with_error_path(const std::string& file, Action action) {
  try {
    return action();
  } catch (Error& error) {
    error.with_path(file);
    throw;
  }
}

}  // namespace fscryptctl
