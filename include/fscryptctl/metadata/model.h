#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/crypto/kdf.h"
#include "fscryptctl/crypto/wrap.h"

namespace fscryptctl {

/// What opens a protector, as users name it: `--source`.
enum class Source { passphrase, raw_key, login };
[[nodiscard]] std::string_view source_name(Source source);  ///< "passphrase", "raw-key", "login"
[[nodiscard]] std::optional<Source> source_from_name(std::string_view name);

/// What one wrapping of a protector key opens with.
enum class Method { passphrase, raw_key, login, recovery_key };
[[nodiscard]] std::string_view method_name(Method method);  ///< as sources, and "recovery-key"
[[nodiscard]] std::optional<Method> method_from_name(std::string_view name);
/// The method of a protector's own secret.
[[nodiscard]] Method method_of(Source source) noexcept;
/// True for methods whose secret is hashed: passphrase and login.
[[nodiscard]] bool is_hashed(Method method) noexcept;

/// Limits of a record (metadata-format/README.md).
inline constexpr std::size_t kMaxRecordSize = 16 * 1024;
inline constexpr std::size_t kMaxProtectorsOfPolicy = 16;
inline constexpr std::size_t kMaxPaths = 16;
inline constexpr std::size_t kMaxNameSize = 255;

/// First document of a protector record: all that listing shows.
struct ProtectorSummary {
  struct Way {
    Method method;
    std::optional<KdfCosts> costs;  ///< for hashed methods, and only for them
    bool operator==(const Way&) const = default;
  };

  ProtectorId id;
  std::string name;  ///< UTF-8, 1..255 bytes, no control characters
  Source source = Source::passphrase;
  std::string created;     ///< RFC 3339 UTC, "2026-11-22T10:11:12Z"
  std::string user;        ///< login only, a hint: the user's name; else empty
  std::string machine_id;  ///< login only, a hint: 32 hex; else empty
  WrapAlgorithm algorithm = WrapAlgorithm::fscryptctl_wrap_1;  ///< of all the wrappings
  std::vector<Way> ways;  ///< 1..3, in the order of the wrappings

  /// One of the ways is a recovery key.
  [[nodiscard]] bool has_recovery_key() const;

  bool operator==(const ProtectorSummary&) const = default;
};

/// One wrapping of a protector key.
struct ProtectorWrapping {
  Method method = Method::passphrase;
  std::uint64_t generation = 1;
  std::optional<Argon2id> kdf;  ///< for hashed methods, and only for them
  AnyWrappedKey wrapped;

  bool operator==(const ProtectorWrapping&) const = default;
};

/// A whole protector record. Its summary's `algorithm` and `ways` are derived from `wrappings` when
/// it is written.
struct ProtectorRecord {
  ProtectorSummary summary;
  /// One of the source's own method (for login up to two: the current and the previous password),
  /// and at most one recovery key; all by one algorithm. google/fscrypt's: its one wrapping alone.
  std::vector<ProtectorWrapping> wrappings;

  bool operator==(const ProtectorRecord&) const = default;
};

/// First document of a policy record.
struct PolicySummary {
  KeyIdentifier key_identifier;
  std::vector<ProtectorId> protectors;  ///< 1..16, no duplicates, in the order of the wrappings
  std::vector<std::string> paths;       ///< 0..16 hints, any bytes but NUL, relative to the
                                        ///< filesystem's root, newest last

  bool operator==(const PolicySummary&) const = default;
};

/// One wrapping of a policy key by a protector key.
struct PolicyWrapping {
  ProtectorId protector;
  AnyWrappedKey wrapped;

  bool operator==(const PolicyWrapping&) const = default;
};

/// A whole policy record. Its summary's `protectors` are derived from `wrappings` when written.
struct PolicyRecord {
  PolicySummary summary;
  EncryptionOptions options;
  std::optional<OperationId> operation;  ///< a conversion in progress
  std::vector<PolicyWrapping> wrappings;

  bool operator==(const PolicyRecord&) const = default;
};

/// What the summaries say about the wrappings.
[[nodiscard]] WrapAlgorithm algorithm_of(const std::vector<ProtectorWrapping>& wrappings) noexcept;
[[nodiscard]] std::vector<ProtectorSummary::Way> ways_of(
    const std::vector<ProtectorWrapping>& wrappings);
[[nodiscard]] std::vector<ProtectorId> protectors_of(const std::vector<PolicyWrapping>& wrappings);

/// Makes the summary say what the wrappings are.
void summarise(ProtectorRecord& record);
void summarise(PolicyRecord& record);

/// The context that a wrapping of a record is bound to.
[[nodiscard]] ProtectorKeyContext context_of(const ProtectorRecord& record,
                                             const ProtectorWrapping& wrapping);
[[nodiscard]] PolicyKeyContext context_of(const PolicyRecord& record, const ProtectorId& protector);

}  // namespace fscryptctl
