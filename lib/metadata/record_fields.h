#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/wrap.h"
#include "strict_yaml.h"

/// The values that fields of records and of texts like them have. All throw corrupt_metadata or
/// newer_format.
namespace fscryptctl {

/// A name that this program does not know. Whether it is damage or a later program's cannot be
/// told.
[[nodiscard]] inline Error unknown(const std::string& what) {
  return {Errc::newer_format, "the " + what + " is not known"};
}

template <class Value>
[[nodiscard]] Value known(std::optional<Value> value, const std::string& what) {
  if (!value) throw unknown(what);
  return *value;
}

template <class Id>
[[nodiscard]] Id read_identifier(const yaml::Node& node) {
  const std::optional<Id> id = Id::from_hex(yaml::plain(node));
  if (!id) throw yaml::corrupt("an identifier is malformed");
  return *id;
}

[[nodiscard]] Bytes read_bytes(const yaml::Node& node, std::size_t size);

template <std::size_t N>
[[nodiscard]] std::array<std::uint8_t, N> read_array(const yaml::Node& node) {
  const Bytes bytes = read_bytes(node, N);
  std::array<std::uint8_t, N> result{};
  std::copy(bytes.begin(), bytes.end(), result.begin());
  return result;
}

[[nodiscard]] std::uint32_t read_u32(const yaml::Node& node);
/// A quoted text that is not empty, UTF-8.
[[nodiscard]] std::string read_text(const yaml::Node& node);
/// A path hint in either of its spellings.
[[nodiscard]] std::string read_path(const yaml::Node& node);
/// salt, ciphertext, mac
[[nodiscard]] WrappedKey read_wrapped_key(yaml::Fields& fields, std::size_t key_size);
/// contents, filenames, padding, flags, data_unit_size
[[nodiscard]] EncryptionOptions read_options(yaml::Fields& fields);

}  // namespace fscryptctl
