#pragma once

#include <optional>
#include <string>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/protector.h"

namespace fscryptctl {

struct UnlockRequest {
  std::optional<std::string> protector;
  bool dry_run = false;  ///< prove that the secret opens it, touch nothing
};

struct UnlockResult {
  KeyIdentifier key_identifier;
  KeyStatus key;
  bool changed = false;
};

/// Adds the user's claim to the directory's key. Asks for no secret if she has it already (unless
/// `dry_run`). Throws not_encrypted, not_managed, wrong_key, key_quota, and what opening throws.
[[nodiscard]] UnlockResult unlock_directory(Context& context, const std::string& path,
                                            const UnlockRequest& request, Opener& opener);

/// The same for a policy named by its key identifier.
[[nodiscard]] UnlockResult unlock_key(Context& context, const Filesystem& filesystem,
                                      const KeyIdentifier& key, const UnlockRequest& request,
                                      Opener& opener);

}  // namespace fscryptctl
