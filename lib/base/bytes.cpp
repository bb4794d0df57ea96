#include "fscryptctl/base/bytes.h"

namespace fscryptctl {
namespace {

std::optional<std::uint8_t> hex_value(char digit) noexcept {
  if (digit >= '0' && digit <= '9') return static_cast<std::uint8_t>(digit - '0');
  if (digit >= 'a' && digit <= 'f') return static_cast<std::uint8_t>(digit - 'a' + 10);
  return std::nullopt;
}

/// A lead byte of UTF-8: the sequence's size, the lead's own bits, and the smallest code point that
/// needs this size (anything smaller is an overlong form).
struct Lead {
  std::size_t size;
  char32_t bits;
  char32_t smallest;
};

std::optional<Lead> lead_of(std::uint8_t byte) noexcept {
  if (byte < 0x80) return Lead{1, byte, 0};
  if ((byte & 0xe0U) == 0xc0) return Lead{2, byte & 0x1fU, 0x80};
  if ((byte & 0xf0U) == 0xe0) return Lead{3, byte & 0x0fU, 0x800};
  if ((byte & 0xf8U) == 0xf0) return Lead{4, byte & 0x07U, 0x10000};
  return std::nullopt;
}

}  // namespace

std::string to_hex(ByteView bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    hex += kDigits[byte >> 4U];
    hex += kDigits[byte & 0x0fU];
  }
  return hex;
}

std::optional<Bytes> from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  Bytes bytes;
  bytes.reserve(hex.size() / 2);
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const auto high = hex_value(hex[i]);
    const auto low = hex_value(hex[i + 1]);
    if (!high || !low) return std::nullopt;
    bytes.push_back(static_cast<std::uint8_t>(*high << 4U | *low));
  }
  return bytes;
}

std::optional<Utf8Character> first_utf8_character(std::string_view text) noexcept {
  if (text.empty()) return std::nullopt;
  const auto lead = lead_of(static_cast<std::uint8_t>(text[0]));
  if (!lead || text.size() < lead->size) return std::nullopt;
  char32_t code_point = lead->bits;
  for (const char next : text.substr(1, lead->size - 1)) {
    const auto byte = static_cast<std::uint8_t>(next);
    if ((byte & 0xc0U) != 0x80) return std::nullopt;
    code_point = code_point << 6U | (byte & 0x3fU);
  }
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  if (code_point < lead->smallest || code_point > 0x10ffff || surrogate) return std::nullopt;
  return Utf8Character{code_point, lead->size};
}

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto character = first_utf8_character(text);
    if (!character) return false;
    text.remove_prefix(character->size);
  }
  return true;
}

}  // namespace fscryptctl
