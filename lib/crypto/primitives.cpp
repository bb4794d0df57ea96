// OpenSSL's own functions for SHA-2 and AES, not its providers: fetching one algorithm from these
// makes them build all of theirs, which takes a fifth of the time of a whole `unlock`, and links
// every one of them, which makes the PAM module three times as large. They do not read OpenSSL's
// configuration either, which could only replace what the format fixes, and register nothing with a
// process that is not ours. HMAC and HKDF above them are a few lines; the vectors of their RFCs and
// of the format test them.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "primitives.h"

#include <openssl/aes.h>
#include <openssl/crypto.h>
#include <openssl/modes.h>
#include <openssl/sha.h>

#include <algorithm>

#include "fscryptctl/base/error.h"

namespace fscryptctl::crypto {
namespace {

void require(bool ok, const char* what) {
  if (!ok) throw Error(Errc::internal, std::string(what) + " failed");
}

constexpr std::size_t kAesKeySize = 32;

struct WipedAesKey {
  WipedAesKey() = default;
  ~WipedAesKey() { OPENSSL_cleanse(&key, sizeof key); }
  WipedAesKey(const WipedAesKey&) = delete;
  WipedAesKey& operator=(const WipedAesKey&) = delete;

  AES_KEY key{};
};

/// AES itself, as CRYPTO_ctr128_encrypt wants it. The price of not using EVP is a software AES
/// whose time may depend on the key; each key here encrypts one 32 or 64 byte text once, and is
/// opened only after its MAC was checked.
void aes_block(const unsigned char* in, unsigned char* out, const void* key) {
  AES_encrypt(in, out, static_cast<const AES_KEY*>(key));
}

struct Sha256Functions {
  using Context = SHA256_CTX;
  using Digest = Sha256;
  static constexpr std::size_t kBlockSize = SHA256_CBLOCK;
  static constexpr auto kInit = SHA256_Init;
  static constexpr auto kUpdate = SHA256_Update;
  static constexpr auto kFinal = SHA256_Final;
};

struct Sha512Functions {
  using Context = SHA512_CTX;
  using Digest = Sha512;
  static constexpr std::size_t kBlockSize = SHA512_CBLOCK;
  static constexpr auto kInit = SHA512_Init;
  static constexpr auto kUpdate = SHA512_Update;
  static constexpr auto kFinal = SHA512_Final;
};

/// One hashing, of keys mostly: wiped afterwards.
template <class Functions>
class Hashing {
 public:
  Hashing() { require(Functions::kInit(&context_) == 1, "hashing"); }
  ~Hashing() { OPENSSL_cleanse(&context_, sizeof context_); }
  Hashing(const Hashing&) = delete;
  Hashing& operator=(const Hashing&) = delete;

  Hashing& add(ByteView data) {
    require(Functions::kUpdate(&context_, data.data(), data.size()) == 1, "hashing");
    return *this;
  }
  typename Functions::Digest finish() {
    typename Functions::Digest digest;
    require(Functions::kFinal(digest.data(), &context_) == 1, "hashing");
    return digest;
  }

 private:
  typename Functions::Context context_{};
};

/// RFC 2104.
template <class Functions>
class Hmac {
 public:
  explicit Hmac(ByteView key) {
    Block block{};
    if (key.size() > block.size()) {
      typename Functions::Digest digest = Hashing<Functions>().add(key).finish();
      std::ranges::copy(digest, block.begin());
      OPENSSL_cleanse(digest.data(), digest.size());
    } else {
      std::ranges::copy(key, block.begin());
    }
    constexpr std::uint8_t kInner = 0x36;
    constexpr std::uint8_t kOuter = 0x5c;
    add_padded(inner_, block, kInner);
    add_padded(outer_, block, kOuter);
    OPENSSL_cleanse(block.data(), block.size());
  }

  Hmac& add(ByteView data) {
    inner_.add(data);
    return *this;
  }
  typename Functions::Digest finish() {
    typename Functions::Digest inner = inner_.finish();
    typename Functions::Digest mac = outer_.add(inner).finish();
    OPENSSL_cleanse(inner.data(), inner.size());
    return mac;
  }

 private:
  using Block = std::array<std::uint8_t, Functions::kBlockSize>;

  static void add_padded(Hashing<Functions>& hashing, Block block, std::uint8_t pad) {
    for (std::uint8_t& byte : block) byte ^= pad;
    hashing.add(block);
    OPENSSL_cleanse(block.data(), block.size());
  }

  Hashing<Functions> inner_;
  Hashing<Functions> outer_;
};

/// RFC 5869. An absent salt is zeros there, which for HMAC is the same as an empty one.
template <class Functions>
SecretBytes extract_and_expand(ByteView key, ByteView salt, ByteView info, std::size_t size) {
  typename Functions::Digest block{};
  constexpr std::size_t kMost = 255;
  require(size <= kMost * block.size(), "key derivation");
  typename Functions::Digest extracted = Hmac<Functions>(salt).add(key).finish();
  SecretBytes out(size);
  std::uint8_t number = 0;
  for (std::size_t at = 0; at < size;) {
    Hmac<Functions> hmac(extracted);
    if (number > 0) hmac.add(block);
    ++number;
    block = hmac.add(info).add(ByteView(&number, 1)).finish();
    const std::size_t used = std::min(block.size(), size - at);
    std::copy_n(block.begin(), used, out.writable().begin() + static_cast<std::ptrdiff_t>(at));
    at += used;
  }
  OPENSSL_cleanse(block.data(), block.size());
  OPENSSL_cleanse(extracted.data(), extracted.size());
  return out;
}

}  // namespace

SecretBytes hkdf(Hash hash, ByteView key, ByteView salt, ByteView info, std::size_t size) {
  return hash == Hash::sha256 ? extract_and_expand<Sha256Functions>(key, salt, info, size)
                              : extract_and_expand<Sha512Functions>(key, salt, info, size);
}

Sha256 sha256(ByteView data) { return Hashing<Sha256Functions>().add(data).finish(); }

Sha512 sha512(ByteView data) { return Hashing<Sha512Functions>().add(data).finish(); }

Sha256 hmac_sha256(ByteView key, ByteView data) {
  return Hmac<Sha256Functions>(key).add(data).finish();
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

}  // namespace fscryptctl::crypto
