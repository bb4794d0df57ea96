#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fscryptctl/core/protector_update.h"
#include "fscryptctl/crypto/recovery_key.h"

namespace fscryptctl {

/// Where new recovery keys go and come from, by whoever runs the core: a terminal, a file. One for
/// each key that is made.
class RecoveryKeyKeeper {
 public:
  RecoveryKeyKeeper() = default;
  RecoveryKeyKeeper(const RecoveryKeyKeeper&) = delete;
  RecoveryKeyKeeper& operator=(const RecoveryKeyKeeper&) = delete;
  /// Takes back what keep() wrote, unless set_in_use(true) was the last word on it.
  virtual ~RecoveryKeyKeeper() = default;

  /// What a key is for, so that whoever finds it in years knows.
  struct Label {
    std::string target;  ///< what the person named
    ProtectorSummary protector;
    std::string mount_point;
  };

  /// Makes a key and keeps it: written durably, or shown and typed again. No record holds it yet.
  /// nullopt if it was offered and is not wanted.
  /// Throws missing_input, declined, usage, no_space, interrupted, io: then no key exists.
  [[nodiscard]] virtual std::optional<RecoveryKey> keep(const Label& label) = 0;

  /// The key that an interrupted run has kept in the same place, if there is one.
  [[nodiscard]] virtual std::optional<RecoveryKey> left_over() = 0;

  /// Whether a record that the key opens may be on disk.
  virtual void set_in_use(bool in_use) noexcept = 0;

  /// Such a record is on disk, durably.
  virtual void finish() = 0;
};

/// The record with one recovery key, this one, and its other wrappings as they are. The generation
/// is at least `at_least` and above those of all others.
[[nodiscard]] ProtectorRecord with_recovery_key(const OpenProtector& protector,
                                                const RecoveryKey& key, std::uint64_t at_least);

/// The record without its recovery key, if it has one.
[[nodiscard]] ProtectorRecord without_recovery_key(ProtectorRecord record);

/// True if the record has a recovery key and this is it.
[[nodiscard]] bool opens_with(const ProtectorRecord& record, const RecoveryKey& key);

struct RecoveryChange {
  UpdatedProtector updated;
  bool changed = false;
};

/// Gives a protector a recovery key that the keeper keeps first, in all its copies that the proven
/// secret opens. With `replace` an earlier one stops working. A key that an interrupted run left in
/// the keeper's place and that opens the protector is success, without a change.
/// Throws recovery_key_exists, and what choose_protector, opening, updating and keeping throw.
[[nodiscard]] RecoveryChange create_recovery_key(Context& context, const ProtectorWish& wish,
                                                 bool replace, SecretProvider& secrets,
                                                 RecoveryKeyKeeper& keeper);

/// Takes a protector's recovery key away, in all its copies that the proven secret opens. That must
/// be the protector's own secret, so that a way in remains which somebody knows.
/// Throws last_way if only the recovery key was proven, and what create_recovery_key throws.
[[nodiscard]] RecoveryChange remove_recovery_key(Context& context, const ProtectorWish& wish,
                                                 SecretProvider& secrets);

/// Proves that a recovery key opens one of the protectors that are meant. Touches nothing.
/// Throws wrong_key, also if none of them has a recovery key.
[[nodiscard]] ProtectorSummary verify_recovery_key(Context& context, const ProtectorWish& wish,
                                                   SecretProvider& secrets);

}  // namespace fscryptctl
