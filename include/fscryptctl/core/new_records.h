#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/policy_choice.h"
#include "fscryptctl/core/recovery.h"

namespace fscryptctl {

/// The records of a policy that was chosen for a directory, on their way to the disk, and its key
/// on the way to the kernel; and back, if the directory does not get encrypted after all.
class NewRecords {
 public:
  /// All of them must outlive it. `recovery_key` may be null.
  NewRecords(Context& context, const Filesystem& filesystem, const UserStore& store,
             PolicyChoice& choice, RecoveryKeyKeeper* recovery_key)
      : context_(context),
        filesystem_(filesystem),
        store_(store),
        choice_(choice),
        recovery_key_(recovery_key) {}

  /// Adds the user's claim, if the key is in hand. Throws key_quota.
  void add_key();
  /// Takes the claim back, if there was none before. What has descriptors in the directory keeps
  /// the key busy.
  void remove_added_key();

  /// Tries the policy's ciphers with the key that was added. Throws mode.
  void try_ciphers() const;

  /// Protectors first, then the policy with `hint` as the place of its directory. A policy that was
  /// there is taken as it is now. Throws usage (the wished name is taken), metadata_locked,
  /// no_such_protector; io with EEXIST if somebody else was faster and it should be begun anew.
  void write(const UserStore::Lock& lock, const std::optional<std::string>& hint);

  /// For take_back(); nullopt if nothing was written. Throws metadata_locked.
  [[nodiscard]] std::optional<UserStore::Lock> lock_to_take_back() const;
  /// Removes what write() wrote, as far as nobody else relies on it by now. False if somebody has
  /// encrypted another directory with the same key meanwhile.
  [[nodiscard]] bool take_back(const UserStore::Lock& lock);

 private:
  [[nodiscard]] bool is_to_be_written(const ProtectorId& id) const;
  void write_protector(const UserStore::Lock& lock, ProtectorRecord& protector);
  void remove_unneeded_protectors(const UserStore::Lock& lock) const;

  Context& context_;
  const Filesystem& filesystem_;
  const UserStore& store_;
  PolicyChoice& choice_;
  RecoveryKeyKeeper* recovery_key_;

  bool key_added_ = false;
  bool policy_written_ = false;
  std::vector<ProtectorId> written_;
};

}  // namespace fscryptctl
