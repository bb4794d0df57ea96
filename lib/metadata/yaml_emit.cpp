#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/base64.h"
#include "fscryptctl/metadata/record_rules.h"
#include "fscryptctl/metadata/yaml_codec.h"

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

// `text` is valid UTF-8.
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

// Lines of a record: a field of the document, or one of a list item.
class Lines {
 public:
  void begin_document() { text_ += "---\n"; }
  void field(std::string_view key, std::string_view value) { line("", key, value); }
  void begin_list(std::string_view key) { text_.append(key).append(":\n"); }
  void item(std::string_view value) { text_.append("  - ").append(value).append("\n"); }
  void first_item_field(std::string_view key, std::string_view value) { line("  - ", key, value); }
  void item_field(std::string_view key, std::string_view value) { line("    ", key, value); }
  void item_field(std::string_view key, std::uint64_t value) {
    item_field(key, std::to_string(value));
  }

  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  void line(std::string_view indent, std::string_view key, std::string_view value) {
    text_.append(indent).append(key).append(": ").append(value).append("\n");
  }

  std::string text_;
};

void emit_costs(Lines& lines, const KdfCosts& costs) {
  lines.item_field("passes", costs.passes);
  lines.item_field("memory_kib", costs.memory_kib);
  lines.item_field("lanes", costs.lanes);
}

void emit_wrapped_key(Lines& lines, const AnyWrappedKey& wrapped) {
  const auto* const google = std::get_if<GoogleWrappedKey>(&wrapped);
  if (google != nullptr) {
    lines.item_field("iv", to_hex(google->iv));
  } else {
    lines.item_field("salt", to_hex(std::get<WrappedKey>(wrapped).salt));
  }
  lines.item_field("ciphertext", to_hex(ciphertext_of(wrapped)));
  lines.item_field("mac", to_hex(std::visit([](const auto& key) { return key.mac; }, wrapped)));
}

// --- protectors

void emit_way(Lines& lines, const ProtectorSummary::Way& way) {
  lines.first_item_field("method", method_name(way.method));
  lines.item_field("kdf", way.costs ? "argon2id" : "none");
  if (way.costs) emit_costs(lines, *way.costs);
}

void emit_wrapping(Lines& lines, const ProtectorWrapping& wrapping) {
  lines.first_item_field("method", method_name(wrapping.method));
  lines.item_field("generation", wrapping.generation);
  lines.item_field("kdf", wrapping.kdf ? "argon2id" : "none");
  if (wrapping.kdf) {
    lines.item_field("kdf_version", kArgon2Version);
    emit_costs(lines, wrapping.kdf->costs);
    lines.item_field("kdf_salt", to_hex(wrapping.kdf->salt));
  }
  emit_wrapped_key(lines, wrapping.wrapped);
}

// --- policies

void emit_path(Lines& lines, const std::string& path) {
  if (is_utf8(path)) {
    lines.item(quote(path));
  } else {
    lines.first_item_field("base64", '"' + base64_encode(as_bytes(path)) + '"');
  }
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

void emit_options(Lines& lines, const EncryptionOptions& options) {
  lines.field("contents", mode_name(options.contents));
  lines.field("filenames", mode_name(options.filenames));
  lines.field("padding", std::to_string(options.padding_bytes));
  emit_flags(lines, options);
  const unsigned log2 = options.log2_data_unit_size;
  lines.field("data_unit_size", std::to_string(log2 == 0 ? 0U : 1U << log2));
}

void emit_summary(Lines& lines, const PolicyRecord& record) {
  lines.begin_document();
  lines.field("format", "fscryptctl-policy-1");
  lines.field("key_identifier", record.summary.key_identifier.hex());
  lines.begin_list("protectors");
  for (const PolicyWrapping& wrapping : record.wrappings) lines.item(wrapping.protector.hex());
  if (record.summary.paths.empty()) {
    lines.field("paths", "[]");
    return;
  }
  lines.begin_list("paths");
  for (const std::string& path : record.summary.paths) emit_path(lines, path);
}

std::string emit_all(const PolicyRecord& record) {
  Lines lines;
  emit_summary(lines, record);
  lines.begin_document();
  lines.field("key_identifier", record.summary.key_identifier.hex());
  emit_options(lines, record.options);
  if (record.operation) lines.field("operation", record.operation->hex());
  lines.begin_list("wrappings");
  for (const PolicyWrapping& wrapping : record.wrappings) {
    lines.first_item_field("protector", wrapping.protector.hex());
    lines.item_field("algorithm", wrap_algorithm_name(algorithm_of(wrapping.wrapped)));
    emit_wrapped_key(lines, wrapping.wrapped);
  }
  return lines.take();
}

template <class Record>
void require_rules(const Record& record) {
  if (const std::optional<std::string> broken = broken_rule(record)) {
    throw Error(Errc::internal, "a record to be written breaks a rule: " + *broken);
  }
}

}  // namespace

std::string emit(const ProtectorRecord& record) {
  require_rules(record);
  const ProtectorSummary& summary = record.summary;
  Lines lines;
  lines.begin_document();
  lines.field("format", "fscryptctl-protector-1");
  lines.field("id", summary.id.hex());
  lines.field("name", quote(summary.name));
  lines.field("source", source_name(summary.source));
  lines.field("created", summary.created);
  if (!summary.user.empty()) lines.field("user", quote(summary.user));
  if (!summary.machine_id.empty()) lines.field("machine_id", summary.machine_id);
  lines.field("algorithm", wrap_algorithm_name(algorithm_of(record.wrappings)));
  lines.begin_list("methods");
  for (const ProtectorSummary::Way& way : ways_of(record.wrappings)) emit_way(lines, way);
  lines.begin_document();
  lines.field("id", summary.id.hex());
  lines.begin_list("wrappings");
  for (const ProtectorWrapping& wrapping : record.wrappings) emit_wrapping(lines, wrapping);
  return lines.take();
}

std::string emit(const PolicyRecord& record) {
  PolicyRecord fitting = record;
  std::vector<std::string>& paths = fitting.summary.paths;
  if (paths.size() > kMaxPaths) paths.erase(paths.begin(), paths.end() - kMaxPaths);
  require_rules(fitting);
  std::string text = emit_all(fitting);
  while (text.size() > kMaxRecordSize && !paths.empty()) {
    paths.erase(paths.begin());
    text = emit_all(fitting);
  }
  return text;
}

}  // namespace fscryptctl
