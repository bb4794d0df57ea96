#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/protector.h"
#include "fscryptctl/core/secrets.h"

namespace fscryptctl {

struct ChangeSecretRequest {
  std::optional<std::string> path;
  std::optional<std::string> protector;
  std::string mount;           ///< where to look for the protector when no path is named
  std::optional<Source> kind;  ///< of the secrets that are given, if that is known
};

struct CopyState {
  std::string mount_point;
  bool written;  ///< false: stale, it still opens with the previous secret or could not be written
};

struct ChangeSecretResult {
  ProtectorSummary protector;
  std::vector<CopyState> copies;
};

/// Replaces the secret of a protector: the protector key is wrapped anew, data, key identifiers and
/// policies stay. Copies of the protector on other filesystems that the proven secret opens get the
/// same wrapping. The new wrapping is unwrapped from what was written before the old one goes.
/// Of several protectors of a path the given secret chooses; without a path only one may qualify.
/// Throws usage, ambiguous, not_managed, no_such_protector, wrong_key, metadata_locked, no_space.
[[nodiscard]] ChangeSecretResult change_secret(Context& context, const ChangeSecretRequest& request,
                                               SecretProvider& secrets);

}  // namespace fscryptctl
