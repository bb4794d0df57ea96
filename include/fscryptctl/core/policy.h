#pragma once

#include <optional>
#include <string>

#include "fscryptctl/core/protector.h"

namespace fscryptctl {

/// A policy whose key is still wrapped.
struct LockedPolicy {
  PolicyRecord record;
};

/// A policy whose key is in hand, proven to be the one that the record names.
struct UnlockedPolicy {
  PolicyRecord record;
  PolicyKey key;
};

/// Unwraps with an open protector. Throws no_such_protector if it is none of the policy's, and
/// corrupt_metadata if the wrapping does not open with the proven key.
[[nodiscard]] UnlockedPolicy unlock_policy(const LockedPolicy& policy,
                                           const OpenProtector& protector);

/// A new policy key, wrapped by each protector.
[[nodiscard]] UnlockedPolicy make_policy(const EncryptionOptions& options,
                                         const std::vector<const OpenProtector*>& protectors,
                                         const std::string& hint);

/// Notes where a directory of this policy lies; the newest hint is last.
void add_hint(PolicyRecord& record, const std::string& hint);

/// Opens a policy with whatever secret the opener gets. With `protector` only by that one.
[[nodiscard]] UnlockedPolicy open_policy(const UserStore& store, PolicyRecord record,
                                         const std::optional<std::string>& protector,
                                         Opener& opener, const std::string& target);

}  // namespace fscryptctl
