#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/protector.h"
#include "fscryptctl/core/recovery.h"
#include "fscryptctl/core/secrets.h"

namespace fscryptctl {

struct EncryptRequest {
  std::string path;
  bool create = false;
  bool ensure = false;
  bool leave_locked = false;
  std::optional<Source> source;         ///< of a new protector; none is made when protectors are
                                        ///< named and neither source nor name is
  std::optional<std::string> name;      ///< of the new protector; default: the directory's
  std::vector<std::string> protectors;  ///< existing ones: NAME, id, or MOUNTPOINT:NAME
  std::optional<std::string> policy;    ///< PATH or key identifier of the policy to use
  EncryptionOptions options;
  bool options_given = false;  ///< some mode or flag was chosen explicitly
  std::optional<mode_t> mode;  ///< permissions to set
  bool keep_mode = false;
  /// Gets to keep a recovery key of a protector that is made; null: none is made.
  RecoveryKeyKeeper* recovery_key = nullptr;
  /// Part of a conversion: stands in the record of a policy that is made.
  std::optional<OperationId> operation{};
};

struct EncryptResult {
  bool changed = false;
  Identity user{};
  KeyIdentifier key_identifier;
  KeyStatus key;
  EncryptionOptions options;
  std::vector<ProtectorSummary> protectors;
  bool only_owner_enters = false;
  bool recovery_key_made = false;
  bool login_copied = false;  ///< the login protector came from another filesystem
};

/// Encrypts an empty directory. The order of durable work: the recovery key where it is kept,
/// protector, policy, then the key, the kernel's policy, fsync. After a failure a record is removed
/// only if the kernel says that the directory is not encrypted with its key and if nobody relies on
/// it. Repeating the command after an interruption finishes it: an empty directory whose policy has
/// a record that the secret opens is adopted, and so are records that were written for it before.
/// Throws usage, not_a_directory, filesystem_root, not_set_up, not_enabled, filesystem, mode,
/// not_empty, already_encrypted, wrong_key, stale_copy, permission, no_space, key_quota, io.
[[nodiscard]] EncryptResult encrypt_directory(Context& context, const EncryptRequest& request,
                                              SecretProvider& secrets);

}  // namespace fscryptctl
