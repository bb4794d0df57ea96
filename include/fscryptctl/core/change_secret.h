#pragma once

#include "fscryptctl/core/protector_update.h"
#include "fscryptctl/core/secrets.h"

namespace fscryptctl {

/// Replaces the secret of a protector: the protector key is wrapped anew, data, key identifiers and
/// policies stay. Copies of the protector on other filesystems that the proven secret or the new
/// one opens get the same wrapping. The new wrapping is unwrapped from what was written before the
/// old one goes. A login protector's new secret must be the user's login password.
/// Throws usage, metadata_locked, no_space, and what choose_protector and opening
/// throw.
[[nodiscard]] UpdatedProtector change_secret(Context& context, const ProtectorWish& wish,
                                             SecretProvider& secrets);

}  // namespace fscryptctl
