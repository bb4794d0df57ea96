#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// One of systemd-homed's wrappings of a home directory's volume key, which is used as the policy
/// key as it is: PBKDF2-HMAC-SHA512 -> AES-256 in counter mode (with nothing that tells a wrong
/// password), or, in later versions, in Galois counter mode.
struct HomedSlot {
  struct Seal {
    std::array<std::uint8_t, 12> iv;
    std::array<std::uint8_t, 16> tag;
  };

  std::uint32_t iterations = 0;
  std::array<std::uint8_t, 64> salt{};
  std::array<std::uint8_t, PolicyKey::kSize> ciphertext{};
  std::optional<Seal> seal{};  ///< with `$v2`
};

/// More is refused: a hostile directory could keep the machine busy for hours. About ten times what
/// systemd-homed writes.
inline constexpr std::uint32_t kMaxHomedIterations = 6'000'000;

/// nullopt for a password that does not open a sealed slot. What comes out of another one may be
/// nonsense: compare it with the directory's policy. Throws internal for too many iterations.
[[nodiscard]] std::optional<PolicyKey> open_homed_slot(const HomedSlot& slot,
                                                       const SecretBytes& password);

/// A recovery key of systemd-homed as that tool normalises it before use: 64 letters of
/// cbdefghijklnrtuv, lower case, in groups of 8 joined by '-'. `text` may be in any case, with or
/// without hyphens. nullopt for what is no such key.
[[nodiscard]] std::optional<SecretBytes> normalise_homed_recovery_key(const SecretBytes& text);

}  // namespace fscryptctl
