// For AES_encrypt, see aes_256_ctr.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "primitives.h"

#include <openssl/aes.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/modes.h>
#include <openssl/params.h>

#include <memory>

#include "fscryptctl/base/error.h"

namespace fscryptctl::crypto {
namespace {

/// Before any use: without this OpenSSL reads its configuration file, builds tables of names and
/// registers a clean-up at exit, which doubles what our first hash costs. The configuration could
/// only replace the algorithms that the format fixes. The clean-up would run when a PAM module is
/// unloaded, under threads of a program that we do not know. Cheap when done already.
void init_openssl() {
  constexpr std::uint64_t kOptions =
      OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS |
      OPENSSL_INIT_NO_ADD_ALL_CIPHERS | OPENSSL_INIT_NO_ADD_ALL_DIGESTS | OPENSSL_INIT_NO_ATEXIT;
  if (OPENSSL_init_crypto(kOptions, nullptr) != 1) {
    throw Error(Errc::internal, "starting the cryptographic library failed");
  }
}

void require(bool ok, const char* what) {
  if (!ok) throw Error(Errc::internal, std::string(what) + " failed");
}

template <auto free_function>
struct Free {
  template <class T>
  void operator()(T* object) const noexcept {
    free_function(object);
  }
};
using Kdf = std::unique_ptr<EVP_KDF, Free<EVP_KDF_free>>;
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, Free<EVP_CIPHER_CTX_free>>;
using KdfContext = std::unique_ptr<EVP_KDF_CTX, Free<EVP_KDF_CTX_free>>;

/// The parameter types take pointers to non-const; OpenSSL only reads them.
OSSL_PARAM octets(const char* name, ByteView bytes) noexcept {
  return OSSL_PARAM_construct_octet_string(name, const_cast<std::uint8_t*>(bytes.data()),
                                           bytes.size());
}

constexpr std::size_t kAesKeySize = 32;

struct WipedAesKey {
  WipedAesKey() = default;
  ~WipedAesKey() { OPENSSL_cleanse(&key, sizeof key); }
  WipedAesKey(const WipedAesKey&) = delete;
  WipedAesKey& operator=(const WipedAesKey&) = delete;

  AES_KEY key{};
};

/// AES itself, as CRYPTO_ctr128_encrypt wants it. Not through EVP: fetching one cipher makes the
/// provider build all of its about 150, which would take a fifth of the time of a whole `unlock`.
/// The price is a software AES whose time may depend on the key; each key here encrypts one 32 or
/// 64 byte text once, and is opened only after its MAC was checked.
void aes_block(const unsigned char* in, unsigned char* out, const void* key) {
  AES_encrypt(in, out, static_cast<const AES_KEY*>(key));
}

template <class Digest>
Digest digest(const EVP_MD* algorithm, ByteView data) {
  init_openssl();
  Digest out;
  require(EVP_Digest(data.data(), data.size(), out.data(), nullptr, algorithm, nullptr) == 1,
          "hashing");
  return out;
}

}  // namespace

SecretBytes hkdf(Hash hash, ByteView key, ByteView salt, ByteView info, std::size_t size) {
  init_openssl();
  const Kdf kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  require(kdf != nullptr, "key derivation");
  const KdfContext context(EVP_KDF_CTX_new(kdf.get()));
  require(context != nullptr, "key derivation");

  char sha256_name[] = "SHA256";
  char sha512_name[] = "SHA512";
  const std::array params = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                       hash == Hash::sha256 ? sha256_name : sha512_name, 0),
      octets(OSSL_KDF_PARAM_KEY, key),
      octets(OSSL_KDF_PARAM_INFO, info),
      // Last, so that an absent salt ends the list: RFC 5869 then takes zeros.
      salt.empty() ? OSSL_PARAM_construct_end() : octets(OSSL_KDF_PARAM_SALT, salt),
      OSSL_PARAM_construct_end(),
  };
  SecretBytes out(size);
  require(EVP_KDF_derive(context.get(), out.writable().data(), size, params.data()) == 1,
          "key derivation");
  return out;
}

Sha256 sha256(ByteView data) { return digest<Sha256>(EVP_sha256(), data); }

Sha512 sha512(ByteView data) { return digest<Sha512>(EVP_sha512(), data); }

Sha256 hmac_sha256(ByteView key, ByteView data) {
  init_openssl();
  Sha256 mac;
  unsigned size = 0;
  const bool ok = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data.data(),
                       data.size(), mac.data(), &size) != nullptr;
  require(ok && size == mac.size(), "authentication");
  return mac;
}

void aes_256_ctr(ByteView key, AesCounter counter, ByteView in, std::span<std::uint8_t> out) {
  require(key.size() == kAesKeySize && in.size() == out.size() && in.size() < 4096, "encryption");
  WipedAesKey schedule;
  require(AES_set_encrypt_key(key.data(), 8 * kAesKeySize, &schedule.key) == 0, "encryption");
  std::array<std::uint8_t, AES_BLOCK_SIZE> key_stream{};
  unsigned used = 0;
  CRYPTO_ctr128_encrypt(in.data(), out.data(), in.size(), &schedule.key, counter.data(),
                        key_stream.data(), &used, aes_block);
  OPENSSL_cleanse(key_stream.data(), key_stream.size());
}

SecretBytes pbkdf2_sha512(ByteView password, ByteView salt, std::uint32_t iterations,
                          std::size_t size) {
  init_openssl();
  SecretBytes out(size);
  require(PKCS5_PBKDF2_HMAC(reinterpret_cast<const char*>(password.data()),
                            static_cast<int>(password.size()), salt.data(),
                            static_cast<int>(salt.size()), static_cast<int>(iterations),
                            EVP_sha512(), static_cast<int>(size), out.writable().data()) == 1,
          "key derivation");
  return out;
}

bool open_aes_256_gcm(ByteView key, ByteView iv, ByteView in, ByteView tag,
                      std::span<std::uint8_t> out) {
  constexpr std::size_t kIvSize = 12;
  constexpr std::size_t kTagSize = 16;
  init_openssl();
  require(key.size() == kAesKeySize && iv.size() == kIvSize && tag.size() == kTagSize &&
              in.size() == out.size() && in.size() < 4096,
          "decryption");
  const CipherContext context(EVP_CIPHER_CTX_new());
  int size = 0;
  require(context != nullptr &&
              EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(),
                                 iv.data()) == 1 &&
              EVP_DecryptUpdate(context.get(), out.data(), &size, in.data(),
                                static_cast<int>(in.size())) == 1 &&
              // OpenSSL only reads it.
              EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kTagSize,
                                  const_cast<std::uint8_t*>(tag.data())) == 1,
          "decryption");
  if (EVP_DecryptFinal_ex(context.get(), out.data() + size, &size) == 1) return true;
  OPENSSL_cleanse(out.data(), out.size());
  return false;
}

}  // namespace fscryptctl::crypto
