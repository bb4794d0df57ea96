// What only homes of systemd-homed need. Through OpenSSL's providers, which bring all of its
// algorithms along: nothing that the PAM module contains may call these two.
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <memory>

#include "fscryptctl/base/error.h"
#include "primitives.h"

namespace fscryptctl::crypto {
namespace {

constexpr std::size_t kAesKeySize = 32;

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

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

}  // namespace

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
