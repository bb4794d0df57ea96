#pragma once

#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/context.h"
#include "fscryptctl/core/secrets.h"
#include "fscryptctl/crypto/recovery_key.h"
#include "fscryptctl/metadata/store.h"

namespace fscryptctl {

/// The records of some protectors, as far as they can be read.
struct ReadProtectors {
  std::vector<ProtectorRecord> records;
  std::optional<Error> unreadable;  ///< why the first of the others is not among them
};

/// A protector whose key is in hand.
struct OpenProtector {
  ProtectorRecord record;
  ProtectorKey key;
  Method opened_with = Method::passphrase;  ///< which kind of wrapping gave the key
};

/// Opens protectors with what a SecretProvider gives. Remembers secrets and keys for one command,
/// so that several paths cost one question and one hashing, and hashes one at a time.
class Opener {
 public:
  Opener(SecretProvider& provider, Context& context) : provider_(provider), context_(context) {}

  /// Opens any one of the candidates. `named`: the user chose them, so all are tried; otherwise one
  /// secret is hashed at most kMaxHashings times. `target` is what the person thinks she opens.
  /// The reference is good as long as the Opener.
  /// Throws wrong_key, ambiguous (candidates remain untried), kdf_limit, and what the provider
  /// throws; and, if nothing opens, why a candidate was unreadable: its secret may have been right.
  [[nodiscard]] const OpenProtector& open_any(const ReadProtectors& candidates,
                                              const std::string& target, bool named);

  /// Opens with a secret that was given before; nullopt if none fits. Asks nobody.
  [[nodiscard]] std::optional<ProtectorKey> try_known(const ProtectorRecord& record);

  /// The secret given before that opens the record's own method (no recovery key), as one of the
  /// record's source, to wrap with it again; nullopt if none does. Asks nobody.
  [[nodiscard]] std::optional<Secret> known_secret(const ProtectorRecord& record);
  /// The record's imported wrapping made again by our own algorithm, with the same hashing, by a
  /// secret that was given before and opens it to `key`; nullopt if none does. Asks nobody.
  [[nodiscard]] std::optional<ProtectorWrapping> wrap_again(const ProtectorRecord& record,
                                                            const ProtectorKey& key);

  /// A secret that did not come from the provider (a new one that may fit an existing record).
  void remember(Secret secret);

  static constexpr int kMaxHashings = 4;

 private:
  /// A secret with what reading it as a recovery key and hashing it have given so far.
  struct Known {
    Secret secret;
    RecoveryKeyReading recovery_key;
    std::vector<std::pair<Argon2id, WrappingKey>> hashed;
  };
  struct Opened {
    ProtectorKey key;
    Method with;
  };
  /// What has been tried for one open_any.
  struct Attempt {
    bool unlimited = false;
    int hashings = 0;
    std::optional<std::string> over_limit{};
    std::vector<std::string> untried{};
  };

  Known& learn(Secret secret);
  [[nodiscard]] Error wrong_key(const std::string& target) const;
  [[nodiscard]] std::optional<Opened> try_record(Known& known, const ProtectorRecord& record,
                                                 Attempt& attempt);
  [[nodiscard]] const WrappingKey* wrapping_key(Known& known, const Argon2id& kdf,
                                                Attempt& attempt);
  [[nodiscard]] const OpenProtector* try_all(Known& known,
                                             const std::vector<ProtectorRecord>& candidates,
                                             Attempt& attempt);

  [[nodiscard]] const KdfLimits& limits();
  /// True if the secret is the caller's login password now and only login protectors of her on this
  /// machine did not open with it: then they still open with the previous one.
  [[nodiscard]] bool is_newer_login_password(const Secret& secret,
                                             const std::vector<ProtectorRecord>& candidates) const;
  /// Nobody is asked for a passphrase that could not be tried.
  void require_some_within_limits(const std::vector<ProtectorRecord>& candidates,
                                  const std::string& target);

  SecretProvider& provider_;
  Context& context_;
  std::optional<KdfLimits> limits_;  ///< known once something has to be hashed
  std::list<Known> known_;
  std::map<ProtectorId, OpenProtector> open_;
};

/// A new protector key wrapped by a new secret. `name` must be valid; generation 1.
[[nodiscard]] OpenProtector make_protector(const Secret& secret, const std::string& name,
                                           const KdfCosts& costs);

/// The record with its own secret replaced: all wrappings of the source's method go, one new one
/// comes, of generation `at_least` or the largest so far + 1, if that is more; recovery keys stay.
/// Throws usage if the secret is of another kind than the protector's.
[[nodiscard]] ProtectorRecord with_new_secret(const OpenProtector& protector, const Secret& secret,
                                              const KdfCosts& costs, std::uint64_t at_least);

/// The record of a login protector with one more password, of generation `at_least` or more. Of the
/// passwords that it had, only the one of generation `kept` stays, until the new one is proven by a
/// login, or the newest if there is none such; recovery keys stay.
[[nodiscard]] ProtectorRecord with_newer_login_password(const OpenProtector& protector,
                                                        const Secret& secret, const KdfCosts& costs,
                                                        std::uint64_t at_least, std::uint64_t kept);

/// The largest generation of a record's wrappings.
[[nodiscard]] std::uint64_t newest_generation(const ProtectorRecord& record);

/// Costs for new hashing: the configuration's, or a default that suits this machine's memory.
[[nodiscard]] KdfCosts costs_for_new_hashing(Context& context);

/// Why a new protector may not have this name, or nullopt: empty, too long, not UTF-8, control
/// characters, ':' or '/', "login", or what looks like an id (4..16 hex digits).
[[nodiscard]] std::optional<std::string> invalid_name(const std::string& name);

/// `wish` made valid, with -2, -3, ... appended where it is forbidden or taken.
[[nodiscard]] std::string free_name(const std::string& wish,
                                    const std::vector<ProtectorSummary>& existing);

/// By exact name, full id, or a unique prefix of the id with at least 4 digits, in this order.
/// Throws no_such_protector, ambiguous (with candidates).
[[nodiscard]] const ProtectorSummary& find_protector(const std::vector<ProtectorSummary>& all,
                                                     const std::string& name);

/// NAME, or MOUNTPOINT:NAME taken apart.
struct ProtectorName {
  std::optional<std::string> mount;
  std::string name;
};
[[nodiscard]] ProtectorName split_protector_name(const std::string& text);

/// "name (id)", as candidates are listed.
[[nodiscard]] std::string protector_label(const ProtectorSummary& protector);

/// The records of these protectors. One that is damaged or missing does not hide the others; if
/// none is left, throws the first one's error, or no_such_protector.
[[nodiscard]] ReadProtectors read_protectors(const UserStore& store,
                                             const std::vector<ProtectorId>& ids);

}  // namespace fscryptctl
