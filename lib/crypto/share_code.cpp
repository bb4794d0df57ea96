#include "fscryptctl/crypto/share_code.h"

#include <algorithm>
#include <string_view>

#include "primitives.h"

namespace fscryptctl {
namespace {

constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::string_view kCheckLabel = "fscryptctl-share-check-1";
constexpr std::string_view kKeyLabel = "fscryptctl-share-code-1";
constexpr std::size_t kCheckSize = 4;
constexpr std::size_t kDataSize = ShareCode::kSize + kCheckSize;
constexpr std::size_t kCharacters = kDataSize * 8 / 5;
constexpr std::size_t kGroup = 4;
static_assert(kDataSize % 5 == 0);

/// The first bytes of SHA-256(label || 00 || code): of a secret, so kept as one.
SecretBytes check_of(ByteView code) {
  SecretBytes text(kCheckLabel.size() + 1 + code.size());
  std::copy(kCheckLabel.begin(), kCheckLabel.end(), text.writable().begin());
  std::copy(code.begin(), code.end(),
            text.writable().end() - static_cast<std::ptrdiff_t>(code.size()));
  const crypto::Sha256 hash = crypto::sha256(text.view());
  return SecretBytes(ByteView(hash).first(kCheckSize));
}

/// The five bits that a character stands for.
std::optional<std::uint8_t> value_of(std::uint8_t byte) {
  char c = static_cast<char>(byte);
  if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  if (c == 'O') c = '0';
  if (c == 'I' || c == 'L') c = '1';
  const std::size_t value = kAlphabet.find(c);
  if (value == std::string_view::npos) return std::nullopt;
  return static_cast<std::uint8_t>(value);
}

/// Character number `i` holds the bits from 5 i on, the most significant first.
unsigned bits_at(ByteView data, std::size_t i) {
  unsigned value = 0;
  for (std::size_t bit = 5 * i; bit < 5 * i + 5; ++bit) {
    value = value << 1U | ((data[bit / 8] >> (7 - bit % 8)) & 1U);
  }
  return value;
}

void set_bits_at(std::span<std::uint8_t> data, std::size_t i, unsigned value) {
  for (std::size_t k = 0; k < 5; ++k) {
    const std::size_t bit = 5 * i + k;
    if (((value >> (4 - k)) & 1U) == 0) continue;
    data[bit / 8] = static_cast<std::uint8_t>(data[bit / 8] | 1U << (7 - bit % 8));
  }
}

/// nullopt unless there are exactly as many characters as a code has.
std::optional<SecretBytes> decode(ByteView text) {
  SecretBytes data(kDataSize);
  std::size_t count = 0;
  for (const std::uint8_t byte : text) {
    if (byte == '-' || byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n') continue;
    const std::optional<std::uint8_t> value = value_of(byte);
    if (!value || count == kCharacters) return std::nullopt;
    set_bits_at(data.writable(), count++, *value);
  }
  if (count != kCharacters) return std::nullopt;
  return data;
}

}  // namespace

SecretBytes write_share_code(const ShareCode& code) {
  SecretBytes data(kDataSize);
  const SecretBytes check = check_of(code.view());
  std::copy(code.view().begin(), code.view().end(), data.writable().begin());
  std::copy(check.view().begin(), check.view().end(),
            data.writable().begin() + static_cast<std::ptrdiff_t>(ShareCode::kSize));
  SecretBytes text(kShareCodeTextSize);
  auto out = text.writable().begin();
  for (std::size_t i = 0; i < kCharacters; ++i) {
    if (i != 0 && i % kGroup == 0) *out++ = '-';
    *out++ = static_cast<std::uint8_t>(kAlphabet[bits_at(data.view(), i)]);
  }
  return text;
}

std::optional<ShareCode> read_share_code(ByteView text) {
  const std::optional<SecretBytes> data = decode(text);
  if (!data) return std::nullopt;
  SecretBytes code(data->view().first(ShareCode::kSize));
  const SecretBytes check(data->view().last(kCheckSize));
  if (!equal_secrets(check, check_of(code.view()))) return std::nullopt;
  return ShareCode(std::move(code));
}

WrappingKey wrapping_key_of(const ShareCode& code) {
  return WrappingKey(
      crypto::hkdf(crypto::Hash::sha256, code.view(), {}, as_bytes(kKeyLabel), WrappingKey::kSize));
}

}  // namespace fscryptctl
