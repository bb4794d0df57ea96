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
#include "record_writer.h"

namespace fscryptctl {
namespace {

void emit_costs(Lines& lines, const KdfCosts& costs) {
  lines.item_field("passes", costs.passes);
  lines.item_field("memory_kib", costs.memory_kib);
  lines.item_field("lanes", costs.lanes);
}

void emit_any_wrapped_key(Lines& lines, const AnyWrappedKey& wrapped) {
  const auto* const google = std::get_if<GoogleWrappedKey>(&wrapped);
  if (google == nullptr) return emit_wrapped_key(lines, std::get<WrappedKey>(wrapped));
  lines.item_field("iv", to_hex(google->iv));
  lines.item_field("ciphertext", to_hex(google->ciphertext));
  lines.item_field("mac", to_hex(google->mac));
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
  emit_any_wrapped_key(lines, wrapping.wrapped);
}

// --- policies

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
    emit_any_wrapped_key(lines, wrapping.wrapped);
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
