#pragma once

#include <optional>
#include <string>
#include <vector>

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
  /// Made when it was opened by an imported wrapping: the same by our algorithm. Whoever has a
  /// reason to write the record takes it along (move_wrapping).
  std::optional<PolicyWrapping> moved{};
};

/// True if the protector is one of the policy's.
[[nodiscard]] bool is_opened_by(const PolicySummary& policy, const ProtectorId& protector);

/// Unwraps with an open protector. Throws no_such_protector if it is none of the policy's, and
/// corrupt_metadata if the wrapping does not open with the proven key.
[[nodiscard]] UnlockedPolicy unlock_policy(const LockedPolicy& policy,
                                           const OpenProtector& protector);

/// A new policy key that nothing wraps yet.
[[nodiscard]] UnlockedPolicy make_policy(const EncryptionOptions& options);

/// Puts the imported wrapping that opened the policy under our own algorithm.
void move_wrapping(UnlockedPolicy& policy);

/// Adds a wrapping by one more protector, and moves the imported one that opened it.
void wrap_for(UnlockedPolicy& policy, const OpenProtector& protector);

/// Throws in_use while a directory is being converted with the policy: what the record becomes at
/// the end of that is made already, so that its protectors cannot be others then.
void require_no_operation(const PolicyRecord& record);

/// Wraps for one more protector, and proves that the new wrapping opens to the same key. Throws
/// usage if the policy has as many protectors as fit, and as require_no_operation. One that it has
/// already gets a new wrapping.
void add_way(UnlockedPolicy& policy, const OpenProtector& protector);

/// Takes a protector's wrapping away. False if there was none. Throws as require_no_operation.
bool drop_way(PolicyRecord& record, const ProtectorId& protector);

[[nodiscard]] bool has_hint(const PolicyRecord& record, const std::string& hint);

/// Notes where a directory of this policy lies, as the newest hint. False if it stood so already.
bool add_hint(PolicyRecord& record, const std::string& hint);
/// It is there no more. False if it was not noted.
bool drop_hint(PolicyRecord& record, const std::string& hint);

/// The user's record of a policy; nullopt if there is none, or no store.
[[nodiscard]] std::optional<PolicyRecord> find_policy(const std::optional<UserStore>& store,
                                                      const KeyIdentifier& key);

/// Opens a policy with whatever secret the opener gets; with `protector` only by that one.
/// Throws wrong_key, ambiguous, kdf_limit, no_such_protector, corrupt_metadata.
[[nodiscard]] UnlockedPolicy open_policy(const UserStore& store, const PolicyRecord& record,
                                         const std::optional<std::string>& protector,
                                         Opener& opener, const std::string& target);

}  // namespace fscryptctl
