#include "fscryptctl/metadata/share_codec.h"

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/record_rules.h"
#include "record_fields.h"
#include "record_layout.h"
#include "record_lines.h"
#include "record_writer.h"
#include "sealed_text.h"
#include "strict_yaml.h"

namespace fscryptctl {
namespace {

using yaml::Fields;
using yaml::Node;

constexpr std::string_view kWrapAlgorithm = "fscryptctl-wrap-1";
constexpr std::string_view kMark = "---\n";

std::optional<std::string> broken_rule(const SharedPolicy& shared) {
  if (!valid_time(shared.created)) return "the creation time is invalid";
  if (shared.paths.size() > kMaxPaths) return "there are too many paths";
  if (!std::all_of(shared.paths.begin(), shared.paths.end(), valid_path_hint)) {
    return "a path is invalid";
  }
  if (auto broken = invalid_combination(shared.options)) return broken;
  if (shared.wrapped.ciphertext.size() != PolicyKey::kSize) return "a wrapping has a wrong size";
  return std::nullopt;
}

std::string emit_all(const SharedPolicy& shared) {
  Lines lines;
  lines.begin_document();
  lines.field("format", "fscryptctl-share-1");
  lines.field("created", shared.created);
  lines.field("key_identifier", shared.key_identifier.hex());
  if (shared.filesystem) lines.field("filesystem", shared.filesystem->hex());
  if (shared.paths.empty()) {
    lines.field("paths", "[]");
  } else {
    lines.begin_list("paths");
    for (const std::string& path : shared.paths) emit_path(lines, path);
  }
  emit_options(lines, shared.options);
  lines.field("algorithm", kWrapAlgorithm);
  lines.field("salt", to_hex(shared.wrapped.salt));
  lines.field("ciphertext", to_hex(shared.wrapped.ciphertext));
  lines.field("mac", to_hex(shared.wrapped.mac));
  return with_digest(lines.take());
}

}  // namespace

SharedKeyContext context_of(const SharedPolicy& shared) {
  return {shared.key_identifier, shared.options};
}

std::string emit(const SharedPolicy& shared) {
  SharedPolicy fitting = shared;
  if (const auto broken = broken_rule(fitting)) {
    throw Error(Errc::internal, "a share to be written breaks a rule: " + *broken);
  }
  std::string text = emit_all(fitting);
  while (text.size() > kMaxRecordSize && !fitting.paths.empty()) {
    fitting.paths.erase(fitting.paths.begin());
    text = emit_all(fitting);
  }
  return text;
}

SharedPolicy parse_share(std::string_view text) {
  require_known_format(text, "share");
  if (text.size() > kMaxRecordSize) throw yaml::corrupt("the text is too long");
  std::string_view document = without_digest(text);
  document.remove_prefix(kMark.size());
  const Node node = read_record_lines(document);
  Fields fields(node);
  (void)yaml::plain(fields.required("format"));  // judged before
  SharedPolicy shared;
  shared.created = yaml::plain(fields.required("created"));
  shared.key_identifier = read_identifier<KeyIdentifier>(fields.required("key_identifier"));
  if (const Node* filesystem = fields.optional("filesystem")) {
    shared.filesystem = read_identifier<FilesystemUuid>(*filesystem);
  }
  for (const Node& path : yaml::list(fields.required("paths"))) {
    shared.paths.push_back(read_path(path));
  }
  shared.options = read_options(fields);
  if (yaml::plain(fields.required("algorithm")) != kWrapAlgorithm) {
    throw unknown("wrapping algorithm");
  }
  shared.wrapped = read_wrapped_key(fields, PolicyKey::kSize);
  fields.finish();
  if (const auto broken = broken_rule(shared)) throw yaml::corrupt(*broken);
  return shared;
}

}  // namespace fscryptctl
