#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/secrets.h"
#include "fscryptctl/metadata/store.h"

namespace fscryptctl {

/// A protector whose key is in hand.
struct OpenProtector {
  ProtectorRecord record;
  ProtectorKey key;
};

/// Opens protectors with what a SecretProvider gives. Remembers secrets and keys for one command,
/// so that several paths cost one question and one hashing, and hashes one at a time.
class Opener {
 public:
  Opener(SecretProvider& provider, KdfLimits limits) : provider_(provider), limits_(limits) {}

  /// Opens any one of the candidates. `named`: the user chose them, so all are tried; otherwise at
  /// most kMaxHashings are. `target` is what the person thinks she opens.
  /// Throws wrong_key, ambiguous (candidates remain untried), kdf_limit, and what the provider
  /// throws.
  [[nodiscard]] const OpenProtector& open_any(const std::vector<ProtectorRecord>& candidates,
                                              const std::string& target, bool named);

  /// The wrapping of the record that an earlier secret opened; nullopt if none did. Asks nobody.
  [[nodiscard]] std::optional<ProtectorKey> try_known(const ProtectorRecord& record);

  static constexpr int kMaxHashings = 4;

 private:
  struct Attempt;
  [[nodiscard]] const OpenProtector* try_secret(const Secret& secret, Attempt& attempt);
  [[nodiscard]] std::optional<ProtectorKey> unwrap_with(const Secret& secret,
                                                        const ProtectorRecord& record,
                                                        const ProtectorWrapping& wrapping);

  SecretProvider& provider_;
  KdfLimits limits_;
  std::vector<Secret> known_;
  std::vector<std::tuple<std::size_t, Argon2id, WrappingKey>> hashed_;
  std::map<ProtectorId, OpenProtector> open_;
};

/// A new protector key wrapped by a new secret. `name` must be valid; generation 1.
[[nodiscard]] OpenProtector make_protector(const Secret& secret, const std::string& name,
                                           const KdfCosts& costs);

/// The record with its own secret replaced: all wrappings of the source's method go, one new one
/// comes, of generation max + 1; recovery keys stay. Proven by unwrapping it again.
[[nodiscard]] ProtectorRecord with_new_secret(const OpenProtector& protector, const Secret& secret,
                                              const KdfCosts& costs);

/// Costs for new hashing: the configuration's, or a default that suits this machine's memory.
[[nodiscard]] KdfCosts costs_for_new_hashing(const Context& context);

/// Why a new protector may not have this name, or nullopt: empty, too long, not UTF-8, control
/// characters, ':' or '/', "login", or something that looks like an id (4..16 hex digits).
[[nodiscard]] std::optional<std::string> invalid_name(const std::string& name);

/// `wish` made valid, with -2, -3, ... appended where it is not free.
[[nodiscard]] std::string free_name(std::string wish,
                                    const std::vector<ProtectorSummary>& existing);

/// By exact name, full id, or a unique prefix of the id with at least 4 digits, in this order.
/// Throws no_such_protector, ambiguous (with candidates).
[[nodiscard]] const ProtectorSummary& find_protector(const std::vector<ProtectorSummary>& all,
                                                     const std::string& name);

/// Reads the records of these protectors; damaged or missing ones are left out and reported.
[[nodiscard]] std::vector<ProtectorRecord> read_protectors(const UserStore& store,
                                                           const std::vector<ProtectorId>& ids,
                                                           std::vector<DamagedRecord>& damaged);

}  // namespace fscryptctl
