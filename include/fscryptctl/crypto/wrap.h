#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/crypto/kdf.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// A wrapped key: HKDF-SHA256 (RFC 5869) with a fresh salt -> AES-256-CTR and HMAC-SHA256, encrypt
/// then MAC. Normative text: metadata-format/README.md, "Wrapping".
struct WrappedKey {
  std::array<std::uint8_t, 32> salt;
  Bytes ciphertext;  ///< as long as the key: 32 or 64 bytes
  std::array<std::uint8_t, 32> mac;

  bool operator==(const WrappedKey&) const = default;
};

/// A key as google/fscrypt wraps it: HKDF-SHA256 without salt and info -> AES-256-CTR with a random
/// IV and HMAC-SHA256 over IV and ciphertext. Bound to nothing else. Opened and carried along when
/// records are imported; nothing new is ever wrapped so.
struct GoogleWrappedKey {
  std::array<std::uint8_t, 16> iv;
  Bytes ciphertext;  ///< as long as the key: 32 or 64 bytes
  std::array<std::uint8_t, 32> mac;

  bool operator==(const GoogleWrappedKey&) const = default;
};

using AnyWrappedKey = std::variant<WrappedKey, GoogleWrappedKey>;

enum class WrapAlgorithm { fscryptctl_wrap_1, google_fscrypt_1 };
/// "fscryptctl-wrap-1", "google-fscrypt-1"
[[nodiscard]] std::string_view wrap_algorithm_name(WrapAlgorithm algorithm);
[[nodiscard]] std::optional<WrapAlgorithm> wrap_algorithm_from_name(std::string_view name);
[[nodiscard]] WrapAlgorithm algorithm_of(const AnyWrappedKey& wrapped) noexcept;
[[nodiscard]] const Bytes& ciphertext_of(const AnyWrappedKey& wrapped) noexcept;

/// How a wrapping key comes from what a person has; nullopt where the secret is the key itself.
struct Argon2id {
  KdfCosts costs;
  KdfSalt salt;

  bool operator==(const Argon2id&) const = default;
};

/// What a protector key's wrapping is bound to. All of it is authenticated by fscryptctl-wrap-1.
struct ProtectorKeyContext {
  ProtectorId protector;
  std::string method;  ///< the method's name in the format: "passphrase", "raw-key", ...
  std::uint64_t generation;
  std::optional<Argon2id> kdf;
};

/// What a policy key's wrapping is bound to.
struct PolicyKeyContext {
  KeyIdentifier policy;
  ProtectorId protector;
  EncryptionOptions options;
  std::optional<OperationId> operation;
};

/// What a policy key is bound to that one user hands to another under a one-time code.
struct SharedKeyContext {
  KeyIdentifier policy;
  EncryptionOptions options;
};

/// The exact bytes that the MAC covers before the ciphertext (and that are hashed into the HKDF
/// info): fields in fixed order, each a big-endian u32 length and its bytes, integers as u64.
[[nodiscard]] Bytes context_bytes(const ProtectorKeyContext& context);
[[nodiscard]] Bytes context_bytes(const PolicyKeyContext& context);
[[nodiscard]] Bytes context_bytes(const SharedKeyContext& context);

[[nodiscard]] WrappedKey wrap(const WrappingKey& wrapping_key, const ProtectorKeyContext& context,
                              const ProtectorKey& key);
[[nodiscard]] WrappedKey wrap(const ProtectorKey& wrapping_key, const PolicyKeyContext& context,
                              const PolicyKey& key);
[[nodiscard]] WrappedKey wrap(const WrappingKey& wrapping_key, const SharedKeyContext& context,
                              const PolicyKey& key);

/// nullopt: this key and context did not make the wrapping (a wrong passphrase, or bytes that were
/// changed; nobody can tell which). The MAC is checked before anything is decrypted, then the
/// result against the identifier in the context, which is all of it that google/fscrypt's way of
/// wrapping knows.
[[nodiscard]] std::optional<ProtectorKey> unwrap(const WrappingKey& wrapping_key,
                                                 const ProtectorKeyContext& context,
                                                 const AnyWrappedKey& wrapped);
[[nodiscard]] std::optional<PolicyKey> unwrap(const ProtectorKey& wrapping_key,
                                              const PolicyKeyContext& context,
                                              const AnyWrappedKey& wrapped);
[[nodiscard]] std::optional<PolicyKey> unwrap(const WrappingKey& wrapping_key,
                                              const SharedKeyContext& context,
                                              const WrappedKey& wrapped);

}  // namespace fscryptctl
