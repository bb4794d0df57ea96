#include "fscryptctl/crypto/base64.h"

#include <openssl/evp.h>

#include <algorithm>
#include <climits>
#include <stdexcept>

namespace fscryptctl {
namespace {

constexpr std::size_t kKeySize = 32;

std::size_t encoded_size(std::size_t size) noexcept { return (size + 2) / 3 * 4; }

/// As EVP_EncodeBlock: `out` holds encoded_size(bytes) and a NUL.
void encode_into(std::uint8_t* out, ByteView bytes) {
  // The functions count in int; nothing that this program encodes comes near.
  if (bytes.size() > INT_MAX / 4 * 3) throw std::length_error("too long for base64");
  EVP_EncodeBlock(out, bytes.data(), static_cast<int>(bytes.size()));
}

/// How many of the last decoded bytes are only padding.
std::size_t padding_of(std::string_view text) noexcept {
  if (text.ends_with("==")) return 2;
  return text.ends_with('=') ? 1 : 0;
}

/// One newline at the end is what an editor or `echo` leaves.
ByteView without_newline(ByteView text) noexcept {
  return !text.empty() && text.back() == '\n' ? text.first(text.size() - 1) : text;
}

std::optional<std::uint8_t> hex_value_any_case(std::uint8_t digit) noexcept {
  if (digit >= '0' && digit <= '9') return static_cast<std::uint8_t>(digit - '0');
  const auto lower = static_cast<std::uint8_t>(digit | 0x20U);
  if (lower >= 'a' && lower <= 'f') return static_cast<std::uint8_t>(lower - 'a' + 10);
  return std::nullopt;
}

std::optional<SecretBytes> decode_hex_key(ByteView text) {
  if (text.size() != kKeySize * 2) return std::nullopt;
  SecretBytes key(kKeySize);
  for (std::size_t i = 0; i < kKeySize; ++i) {
    const auto high = hex_value_any_case(text[2 * i]);
    const auto low = hex_value_any_case(text[2 * i + 1]);
    if (!high || !low) return std::nullopt;
    key.writable()[i] = static_cast<std::uint8_t>(*high << 4U | *low);
  }
  return key;
}

std::optional<SecretBytes> decode_base64_key(ByteView text) {
  const std::size_t size = encoded_size(kKeySize);
  if (text.size() != size) return std::nullopt;
  SecretBytes key(size / 4 * 3);
  if (EVP_DecodeBlock(key.writable().data(), text.data(), static_cast<int>(size)) < 0) {
    return std::nullopt;
  }
  key.truncate(kKeySize);
  // The decoder takes more than the one right spelling: encode again and compare.
  SecretBytes again(size + 1);
  encode_into(again.writable().data(), key.view());
  if (!std::ranges::equal(again.view().first(size), text)) return std::nullopt;
  return key;
}

}  // namespace

std::string base64_encode(ByteView bytes) {
  std::string text(encoded_size(bytes.size()) + 1, '\0');
  encode_into(reinterpret_cast<std::uint8_t*>(text.data()), bytes);
  text.pop_back();
  return text;
}

std::optional<Bytes> base64_decode(std::string_view text) {
  if (text.empty()) return Bytes{};
  if (text.size() % 4 != 0 || text.size() > INT_MAX / 2) return std::nullopt;
  Bytes bytes(text.size() / 4 * 3);
  const ByteView input = as_bytes(text);
  if (EVP_DecodeBlock(bytes.data(), input.data(), static_cast<int>(input.size())) < 0) {
    return std::nullopt;
  }
  bytes.resize(bytes.size() - padding_of(text));
  // The decoder takes more than the one right spelling: encode again and compare.
  if (base64_encode(bytes) != text) return std::nullopt;
  return bytes;
}

std::optional<SecretBytes> decode_key(const SecretBytes& text, KeyFormat format) {
  switch (format) {
    case KeyFormat::raw:
      if (text.size() != kKeySize) return std::nullopt;
      return SecretBytes(text.view());
    case KeyFormat::hex:
      return decode_hex_key(without_newline(text.view()));
    case KeyFormat::base64:
      return decode_base64_key(without_newline(text.view()));
  }
  return std::nullopt;
}

}  // namespace fscryptctl
