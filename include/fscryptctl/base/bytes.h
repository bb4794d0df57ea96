#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fscryptctl {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

/// Lower-case hex, two digits a byte.
[[nodiscard]] std::string to_hex(ByteView bytes);

/// Strict: lower-case digits only, an even number of them. nullopt for anything else.
[[nodiscard]] std::optional<Bytes> from_hex(std::string_view hex);

/// One character of UTF-8 text and the number of bytes it takes.
struct Utf8Character {
  char32_t code_point;
  std::size_t size;
};

/// The character at the start of `text`; nullopt if that is not well-formed, or text is empty.
[[nodiscard]] std::optional<Utf8Character> first_utf8_character(std::string_view text) noexcept;

/// True if `text` is well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates).
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// Bytes of a string, without a copy.
[[nodiscard]] inline ByteView as_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// A public identifier of fixed size. `Tag` keeps identifiers of different things apart.
template <class Tag, std::size_t N>
struct Identifier {
  static constexpr std::size_t kSize = N;
  std::array<std::uint8_t, N> bytes{};

  auto operator<=>(const Identifier&) const = default;

  [[nodiscard]] std::string hex() const { return to_hex(bytes); }
  [[nodiscard]] static std::optional<Identifier> from_hex(std::string_view hex) {
    const std::optional<Bytes> raw = fscryptctl::from_hex(hex);
    if (!raw || raw->size() != N) return std::nullopt;
    Identifier id;
    std::copy(raw->begin(), raw->end(), id.bytes.begin());
    return id;
  }
};

/// Names a v2 policy key in the kernel: HKDF-SHA512 of the key (see crypto/key_identifier.h).
using KeyIdentifier = Identifier<struct KeyIdentifierTag, 16>;
/// Names a v1 policy key: the first 8 bytes of SHA512(SHA512(key)).
using KeyDescriptor = Identifier<struct KeyDescriptorTag, 8>;
/// Names a protector key: the first 8 bytes of SHA512(SHA512(protector key)).
using ProtectorId = Identifier<struct ProtectorIdTag, 8>;
/// Names one run of a conversion, by which an interrupted one is resumed.
using OperationId = Identifier<struct OperationIdTag, 16>;
/// Names a filesystem, whatever it is mounted on. A hint: whoever makes a filesystem chooses it.
using FilesystemUuid = Identifier<struct FilesystemUuidTag, 16>;

}  // namespace fscryptctl
