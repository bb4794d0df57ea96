#include "record_writer.h"

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/base64.h"

namespace fscryptctl {
namespace {

// Takes the first code point off `text`, which is valid UTF-8.
std::uint32_t take_code_point(std::string_view& text) {
  const auto byte_at = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i]));
  };
  const std::uint32_t first = byte_at(0);
  const std::size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  // The bits that the first byte contributes: 7, 5, 4 or 3 of them.
  std::uint32_t code_point = length == 1 ? first : first & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) code_point = code_point << 6 | (byte_at(i) & 0x3fU);
  text.remove_prefix(length);
  return code_point;
}

std::string escape(std::uint32_t code_point) {
  const auto byte = [&](unsigned shift) { return static_cast<std::uint8_t>(code_point >> shift); };
  if (code_point < 0x100) return "\\x" + to_hex({{byte(0)}});
  if (code_point < 0x10000) return "\\u" + to_hex({{byte(8), byte(0)}});
  return "\\U" + to_hex({{byte(24), byte(16), byte(8), byte(0)}});
}

void emit_flags(Lines& lines, const EncryptionOptions& options) {
  if (!options.direct_key && !options.iv_ino_lblk_64 && !options.iv_ino_lblk_32) {
    lines.field("flags", "[]");
    return;
  }
  lines.begin_list("flags");
  if (options.direct_key) lines.item("DIRECT_KEY");
  if (options.iv_ino_lblk_64) lines.item("IV_INO_LBLK_64");
  if (options.iv_ino_lblk_32) lines.item("IV_INO_LBLK_32");
}

}  // namespace

std::string quote(std::string_view text) {
  std::string quoted = "\"";
  while (!text.empty()) {
    const std::uint32_t code_point = take_code_point(text);
    if (code_point < 0x20 || code_point > 0x7e) {
      quoted += escape(code_point);
    } else {
      if (code_point == '"' || code_point == '\\') quoted += '\\';
      quoted += static_cast<char>(code_point);
    }
  }
  return quoted += '"';
}

void emit_wrapped_key(Lines& lines, const WrappedKey& wrapped) {
  lines.item_field("salt", to_hex(wrapped.salt));
  lines.item_field("ciphertext", to_hex(wrapped.ciphertext));
  lines.item_field("mac", to_hex(wrapped.mac));
}

void emit_path(Lines& lines, const std::string& path) {
  if (is_utf8(path)) {
    lines.item(quote(path));
  } else {
    lines.first_item_field("base64", '"' + base64_encode(as_bytes(path)) + '"');
  }
}

void emit_options(Lines& lines, const EncryptionOptions& options) {
  lines.field("contents", mode_name(options.contents));
  lines.field("filenames", mode_name(options.filenames));
  lines.field("padding", std::to_string(options.padding_bytes));
  emit_flags(lines, options);
  const unsigned log2 = options.log2_data_unit_size;
  lines.field("data_unit_size", std::to_string(log2 == 0 ? 0U : 1U << log2));
}

}  // namespace fscryptctl
