#pragma once

#include <array>
#include <cstddef>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl::crypto {

/// The few algorithms that we take from OpenSSL. All throw internal if the library fails, which for
/// these it can only do when memory runs out.

enum class Hash { sha256, sha512 };

/// HKDF (RFC 5869), extract and expand.
[[nodiscard]] SecretBytes hkdf(Hash hash, ByteView key, ByteView salt, ByteView info,
                               std::size_t size);

using Sha256 = std::array<std::uint8_t, 32>;
using Sha512 = std::array<std::uint8_t, 64>;
[[nodiscard]] Sha256 sha256(ByteView data);
[[nodiscard]] Sha512 sha512(ByteView data);
[[nodiscard]] Sha256 hmac_sha256(ByteView key, ByteView data);

/// Encrypts, and likewise decrypts, with `counter` as the first counter block, a big-endian number.
/// `key` has 32 bytes; `out` is as long as `in`.
using AesCounter = std::array<std::uint8_t, 16>;
void aes_256_ctr(ByteView key, AesCounter counter, ByteView in, std::span<std::uint8_t> out);

/// For opening what systemd-homed made. PBKDF2 (RFC 8018) with HMAC-SHA512.
[[nodiscard]] SecretBytes pbkdf2_sha512(ByteView password, ByteView salt, std::uint32_t iterations,
                                        std::size_t size);
/// Decrypts and checks the tag (12-byte IV, no additional data); false if it is wrong, and `out` is
/// zeros then.
[[nodiscard]] bool open_aes_256_gcm(ByteView key, ByteView iv, ByteView in, ByteView tag,
                                    std::span<std::uint8_t> out);

}  // namespace fscryptctl::crypto
