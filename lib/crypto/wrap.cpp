#include "fscryptctl/crypto/wrap.h"

#include <openssl/crypto.h>

#include <string_view>

#include "fscryptctl/crypto/key_identifier.h"
#include "fscryptctl/crypto/random.h"
#include "primitives.h"

namespace fscryptctl {
namespace {

constexpr std::string_view kLabel = "fscryptctl-wrap-1";
constexpr std::string_view kGoogleName = "google-fscrypt-1";
constexpr crypto::AesCounter kZeroCounter{};
constexpr std::size_t kCipherKeySize = 32;
constexpr std::size_t kMacKeySize = 32;

/// Writes the fields of a context. Every field carries its length, so no two lists of fields have
/// the same bytes.
class ContextWriter {
 public:
  ContextWriter& field(ByteView bytes) {
    append(bytes.size(), 4);
    out_.insert(out_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  ContextWriter& text(std::string_view value) { return field(as_bytes(value)); }
  ContextWriter& integer(std::uint64_t value) {
    append(8, 4);
    append(value, 8);
    return *this;
  }
  ContextWriter& options(const EncryptionOptions& options) {
    return integer(static_cast<std::uint64_t>(options.contents))
        .integer(static_cast<std::uint64_t>(options.filenames))
        .integer(policy_flags(options))
        .integer(options.log2_data_unit_size);
  }
  ContextWriter& kdf(const std::optional<Argon2id>& kdf) {
    if (!kdf) {
      return text("none").integer(0).integer(0).integer(0).integer(0).field(ByteView{});
    }
    return text("argon2id")
        .integer(kArgon2Version)
        .integer(kdf->costs.passes)
        .integer(kdf->costs.memory_kib)
        .integer(kdf->costs.lanes)
        .field(kdf->salt);
  }
  [[nodiscard]] Bytes take() { return std::move(out_); }

 private:
  void append(std::uint64_t value, unsigned size) {
    for (unsigned left = size; left > 0; --left) {
      out_.push_back(static_cast<std::uint8_t>(value >> (8 * (left - 1))));
    }
  }

  Bytes out_;
};

/// The two keys of one wrapping.
class WrapKeys {
 public:
  WrapKeys(ByteView wrapping_key, ByteView salt, ByteView context)
      : okm_(crypto::hkdf(crypto::Hash::sha256, wrapping_key, salt, info(context),
                          kCipherKeySize + kMacKeySize)) {}

  /// google/fscrypt's: no salt, no info.
  explicit WrapKeys(ByteView wrapping_key)
      : okm_(crypto::hkdf(crypto::Hash::sha256, wrapping_key, {}, {},
                          kCipherKeySize + kMacKeySize)) {}

  [[nodiscard]] ByteView cipher_key() const noexcept { return okm_.view().first(kCipherKeySize); }
  [[nodiscard]] ByteView mac_key() const noexcept { return okm_.view().last(kMacKeySize); }

 private:
  static Bytes info(ByteView context) {
    Bytes info(kLabel.begin(), kLabel.end());
    info.push_back(0);
    const crypto::Sha256 hash = crypto::sha256(context);
    info.insert(info.end(), hash.begin(), hash.end());
    return info;
  }

  SecretBytes okm_;
};

/// `prefix` is the context, or the IV.
crypto::Sha256 mac_of(const WrapKeys& keys, Bytes prefix, const Bytes& ciphertext) {
  prefix.insert(prefix.end(), ciphertext.begin(), ciphertext.end());
  return crypto::hmac_sha256(keys.mac_key(), prefix);
}

WrappedKey wrap_bytes(ByteView wrapping_key, const Bytes& context, ByteView key) {
  WrappedKey wrapped{};
  // A fresh salt makes a fresh cipher key, so that the zero counter block never meets a key twice.
  fill_random(wrapped.salt);
  const WrapKeys keys(wrapping_key, wrapped.salt, context);
  wrapped.ciphertext.resize(key.size());
  crypto::aes_256_ctr(keys.cipher_key(), kZeroCounter, key, wrapped.ciphertext);
  wrapped.mac = mac_of(keys, context, wrapped.ciphertext);
  return wrapped;
}

/// Nothing is decrypted before the MAC is found right.
template <class KeyType>
std::optional<KeyType> decrypt(const WrapKeys& keys, const Bytes& authenticated_prefix,
                               const crypto::AesCounter& counter, const Bytes& ciphertext,
                               const crypto::Sha256& expected_mac) {
  const crypto::Sha256 mac = mac_of(keys, authenticated_prefix, ciphertext);
  if (CRYPTO_memcmp(mac.data(), expected_mac.data(), mac.size()) != 0) return std::nullopt;
  KeyType key;
  crypto::aes_256_ctr(keys.cipher_key(), counter, ciphertext, key.writable());
  return key;
}

template <class KeyType, class Context>
std::optional<KeyType> unwrap_bytes(ByteView wrapping_key, const Context& context,
                                    const AnyWrappedKey& wrapped) {
  if (ciphertext_of(wrapped).size() != KeyType::kSize) return std::nullopt;
  if (const auto* google = std::get_if<GoogleWrappedKey>(&wrapped)) {
    return decrypt<KeyType>(WrapKeys(wrapping_key), Bytes(google->iv.begin(), google->iv.end()),
                            google->iv, google->ciphertext, google->mac);
  }
  const WrappedKey& ours = std::get<WrappedKey>(wrapped);
  const Bytes bytes = context_bytes(context);
  return decrypt<KeyType>(WrapKeys(wrapping_key, ours.salt, bytes), bytes, kZeroCounter,
                          ours.ciphertext, ours.mac);
}

}  // namespace

std::string_view wrap_algorithm_name(WrapAlgorithm algorithm) {
  return algorithm == WrapAlgorithm::google_fscrypt_1 ? kGoogleName : kLabel;
}

std::optional<WrapAlgorithm> wrap_algorithm_from_name(std::string_view name) {
  if (name == kLabel) return WrapAlgorithm::fscryptctl_wrap_1;
  if (name == kGoogleName) return WrapAlgorithm::google_fscrypt_1;
  return std::nullopt;
}

WrapAlgorithm algorithm_of(const AnyWrappedKey& wrapped) noexcept {
  return std::holds_alternative<GoogleWrappedKey>(wrapped) ? WrapAlgorithm::google_fscrypt_1
                                                           : WrapAlgorithm::fscryptctl_wrap_1;
}

const Bytes& ciphertext_of(const AnyWrappedKey& wrapped) noexcept {
  const auto* const google = std::get_if<GoogleWrappedKey>(&wrapped);
  return google != nullptr ? google->ciphertext : std::get_if<WrappedKey>(&wrapped)->ciphertext;
}

Bytes context_bytes(const ProtectorKeyContext& context) {
  return ContextWriter()
      .text(kLabel)
      .text("protector-key")
      .field(context.protector.bytes)
      .text(context.method)
      .integer(context.generation)
      .kdf(context.kdf)
      .take();
}

Bytes context_bytes(const PolicyKeyContext& context) {
  return ContextWriter()
      .text(kLabel)
      .text("policy-key")
      .field(context.policy.bytes)
      .field(context.protector.bytes)
      .integer(0)
      .kdf(std::nullopt)
      .options(context.options)
      .field(context.operation ? ByteView(context.operation->bytes) : ByteView{})
      .take();
}

Bytes context_bytes(const SharedKeyContext& context) {
  return ContextWriter()
      .text(kLabel)
      .text("shared-policy-key")
      .field(context.policy.bytes)
      .text("share-code")
      .integer(0)
      .kdf(std::nullopt)
      .options(context.options)
      .field(ByteView{})
      .take();
}

WrappedKey wrap(const WrappingKey& wrapping_key, const ProtectorKeyContext& context,
                const ProtectorKey& key) {
  return wrap_bytes(wrapping_key.view(), context_bytes(context), key.view());
}

WrappedKey wrap(const ProtectorKey& wrapping_key, const PolicyKeyContext& context,
                const PolicyKey& key) {
  return wrap_bytes(wrapping_key.view(), context_bytes(context), key.view());
}

std::optional<ProtectorKey> unwrap(const WrappingKey& wrapping_key,
                                   const ProtectorKeyContext& context,
                                   const AnyWrappedKey& wrapped) {
  auto key = unwrap_bytes<ProtectorKey>(wrapping_key.view(), context, wrapped);
  if (key && protector_id_of(*key) != context.protector) return std::nullopt;
  return key;
}

std::optional<PolicyKey> unwrap(const ProtectorKey& wrapping_key, const PolicyKeyContext& context,
                                const AnyWrappedKey& wrapped) {
  auto key = unwrap_bytes<PolicyKey>(wrapping_key.view(), context, wrapped);
  if (key && key_identifier_of(key->view()) != context.policy) return std::nullopt;
  return key;
}

WrappedKey wrap(const WrappingKey& wrapping_key, const SharedKeyContext& context,
                const PolicyKey& key) {
  return wrap_bytes(wrapping_key.view(), context_bytes(context), key.view());
}

std::optional<PolicyKey> unwrap(const WrappingKey& wrapping_key, const SharedKeyContext& context,
                                const WrappedKey& wrapped) {
  auto key = unwrap_bytes<PolicyKey>(wrapping_key.view(), context, wrapped);
  if (key && key_identifier_of(key->view()) != context.policy) return std::nullopt;
  return key;
}

}  // namespace fscryptctl
