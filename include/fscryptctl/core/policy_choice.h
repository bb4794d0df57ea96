#pragma once

#include <optional>
#include <vector>

#include "fscryptctl/core/encrypt.h"
#include "fscryptctl/core/login.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/core/target_directory.h"

namespace fscryptctl {

/// The policy for a directory that is to be encrypted, and the protector records that have to be on
/// its filesystem before. Nothing has been written yet.
struct PolicyChoice {
  PolicyRecord record;
  std::optional<PolicyKey> key;  ///< nullopt: an existing policy whose key the user has added
  std::vector<ProtectorRecord> new_protectors;
  std::optional<ProtectorId> named_by_user;  ///< the protector whose name is the user's wish
  /// One of them that is on disk already, as it was found: what an interrupted run left.
  std::optional<ProtectorRecord> taken_up{};
  /// The protector among them that got a recovery key, which is kept already.
  std::optional<ProtectorId> with_recovery_key{};
  std::optional<LoginProtector::Origin> login{};  ///< when the user's login protector opens it
  /// What the policy's record becomes when the operation of the request has ended; nullopt without
  /// one, and for an existing policy.
  std::optional<PolicyRecord> afterwards{};
};

/// Finds the policy that `request.policy` names, or makes one, opened by the protectors that the
/// request names or by a new one. A protector, and a policy meant for this very directory, that an
/// interrupted earlier run left are taken up if the new secret opens them. A login password is
/// asked for once and kept in `login_password`, for when it has to be started again. Throws usage,
/// ambiguous, no_such_policy, no_such_protector, wrong_key, stale_copy, previous_login_password,
/// kdf_limit.
[[nodiscard]] PolicyChoice choose_policy(Context& context, const Filesystem& filesystem,
                                         const UserStore& store, const TargetDirectory& target,
                                         const EncryptRequest& request, SecretProvider& secrets,
                                         Opener& opener, std::optional<Secret>& login_password);

/// The key identifier that `request.policy` stands for: itself, or that of a path on the same
/// filesystem. Throws usage (another filesystem), not_encrypted, and what looking throws.
[[nodiscard]] KeyIdentifier named_policy_key(const Context& context, const Filesystem& filesystem,
                                             const EncryptRequest& request);

/// The error for a wished name that another protector has.
[[nodiscard]] Error name_taken(const std::string& name);

}  // namespace fscryptctl
