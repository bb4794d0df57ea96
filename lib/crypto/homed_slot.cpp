#include "fscryptctl/crypto/homed_slot.h"

#include <algorithm>
#include <string_view>

#include "fscryptctl/base/error.h"
#include "primitives.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kWrappingKeySize = 32;
constexpr std::string_view kModhex = "cbdefghijklnrtuv";
constexpr std::size_t kLetters = 64;
constexpr std::size_t kGroup = 8;
constexpr std::size_t kNormalisedSize = kLetters + kLetters / kGroup - 1;

std::uint8_t lower(std::uint8_t c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<std::uint8_t>(c - 'A' + 'a') : c;
}

}  // namespace

std::optional<PolicyKey> open_homed_slot(const HomedSlot& slot, const SecretBytes& password) {
  if (slot.iterations == 0 || slot.iterations > kMaxHomedIterations) {
    throw Error(Errc::internal, "invalid number of iterations");
  }
  const SecretBytes wrapping_key =
      crypto::pbkdf2_sha512(password.view(), slot.salt, slot.iterations, kWrappingKeySize);
  PolicyKey key;
  if (!slot.seal) {
    crypto::aes_256_ctr(wrapping_key.view(), {}, slot.ciphertext, key.writable());
    return key;
  }
  const bool opened = crypto::open_aes_256_gcm(wrapping_key.view(), slot.seal->iv, slot.ciphertext,
                                               slot.seal->tag, key.writable());
  if (!opened) return std::nullopt;
  return key;
}

std::optional<SecretBytes> normalise_homed_recovery_key(const SecretBytes& text) {
  SecretBytes normal(kNormalisedSize);
  std::size_t used = 0;
  for (const std::uint8_t byte : text.view()) {
    const std::uint8_t c = lower(byte);
    if (c == '-') continue;
    if (kModhex.find(static_cast<char>(c)) == std::string_view::npos) return std::nullopt;
    if (used == kNormalisedSize) return std::nullopt;
    if (used % (kGroup + 1) == kGroup) normal.writable()[used++] = '-';
    normal.writable()[used++] = c;
  }
  if (used != kNormalisedSize) return std::nullopt;
  return normal;
}

}  // namespace fscryptctl
