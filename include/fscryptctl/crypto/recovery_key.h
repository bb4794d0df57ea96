#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// 256 random bits that people write down: one more way into a protector.
using RecoveryKey = Key<struct RecoveryKeyRole, 32>;

/// How people write it: 8 groups of 8 characters of Crockford's base32 (no I, L, O, U), with dashes
/// between them. Each group is 7 characters of data and a check character; the data is the key and
/// 24 bits of a hash of it. Normative text: metadata-format/README.md, "Recovery keys".
///
/// Why this code. The check character is a sum in GF(32) with a different weight for each place,
/// and with the group's number added. So within a group every single wrong character and every
/// exchange of two characters is found and the group named, as is every exchange of two groups (one
/// check character for all 64 would find the first as well, but could not say where). Any other
/// garbling of a group passes its check once in 32 times, and then the hash, which covers
/// everything, with 2^-24: 2^-29 together. Random text of the right length passes all with 2^-64. A
/// lost or extra character is found by the length, and located because the groups before it fit
/// when counted from the start, those behind it when counted from the end. Longer groups would need
/// fewer check characters, but people copy short ones; correcting instead of naming the group would
/// put right characters on a screen that somebody may be watching, and saves nobody much.
inline constexpr std::size_t kRecoveryKeyGroups = 8;
inline constexpr std::size_t kRecoveryKeyGroupSize = 8;
inline constexpr std::size_t kRecoveryKeyTextSize =
    kRecoveryKeyGroups * (kRecoveryKeyGroupSize + 1) - 1;

/// The canonical spelling: kRecoveryKeyTextSize characters, upper case, with dashes.
[[nodiscard]] SecretBytes write_recovery_key(const RecoveryKey& key);

/// A text taken for a recovery key.
struct RecoveryKeyReading {
  std::optional<RecoveryKey> key;
  /// Without a key: what is wrong, as "group 3 is mistyped". Tells nothing of the text itself.
  std::string fault;
  /// Without a key: it was surely meant for one, since no other text has so many groups right.
  bool resembles = false;
};

/// Reads any case, with spaces, dashes and line breaks anywhere or nowhere; O is 0, I and L are 1,
/// U is V.
[[nodiscard]] RecoveryKeyReading read_recovery_key(ByteView text);

/// What is wrong with `typed` as a copy of `key`, by group; empty if it is the same.
[[nodiscard]] std::string fault_of_copy(const RecoveryKey& key, ByteView typed);

}  // namespace fscryptctl
