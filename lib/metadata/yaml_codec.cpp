#include "fscryptctl/metadata/yaml_codec.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/record_rules.h"
#include "record_fields.h"
#include "record_layout.h"
#include "record_lines.h"
#include "strict_yaml.h"

namespace fscryptctl {
namespace {

using yaml::corrupt;
using yaml::Fields;
using yaml::Node;

constexpr std::uint64_t kMaxU64 = std::numeric_limits<std::uint64_t>::max();

WrapAlgorithm read_algorithm(Fields& fields) {
  return known(wrap_algorithm_from_name(yaml::plain(fields.required("algorithm"))),
               "wrapping algorithm");
}

Method read_method(Fields& fields) {
  return known(method_from_name(yaml::plain(fields.required("method"))), "method");
}

std::optional<KdfCosts> read_costs(Fields& fields) {
  const std::string& kdf = yaml::plain(fields.required("kdf"));
  if (kdf == "none") return std::nullopt;
  if (kdf != "argon2id") throw unknown("kdf");
  return KdfCosts{read_u32(fields.required("passes")), read_u32(fields.required("memory_kib")),
                  read_u32(fields.required("lanes"))};
}

AnyWrappedKey read_any_wrapped_key(Fields& fields, WrapAlgorithm algorithm, std::size_t key_size) {
  if (algorithm == WrapAlgorithm::google_fscrypt_1) {
    return GoogleWrappedKey{read_array<16>(fields.required("iv")),
                            read_bytes(fields.required("ciphertext"), key_size),
                            read_array<32>(fields.required("mac"))};
  }
  return read_wrapped_key(fields, key_size);
}

// --- protectors

ProtectorSummary::Way read_way(const Node& node) {
  Fields fields(node);
  const Method method = read_method(fields);
  ProtectorSummary::Way way{method, read_costs(fields)};
  fields.finish();
  return way;
}

ProtectorSummary read_protector_summary(const Node& document) {
  Fields fields(document);
  (void)yaml::plain(fields.required("format"));  // which one it is was judged by split_record
  ProtectorSummary summary;
  summary.id = read_identifier<ProtectorId>(fields.required("id"));
  summary.name = read_text(fields.required("name"));
  summary.source = known(source_from_name(yaml::plain(fields.required("source"))), "source");
  summary.created = yaml::plain(fields.required("created"));
  if (const Node* user = fields.optional("user")) summary.user = read_text(*user);
  if (const Node* machine = fields.optional("machine_id"))
    summary.machine_id = yaml::plain(*machine);
  summary.algorithm = read_algorithm(fields);
  for (const Node& way : yaml::list(fields.required("methods"))) {
    summary.ways.push_back(read_way(way));
  }
  fields.finish();
  return summary;
}

std::optional<Argon2id> read_kdf(Fields& fields) {
  const std::optional<KdfCosts> costs = read_costs(fields);
  if (!costs) return std::nullopt;
  if (read_u32(fields.required("kdf_version")) != kArgon2Version) throw unknown("kdf version");
  return Argon2id{*costs, read_array<16>(fields.required("kdf_salt"))};
}

ProtectorWrapping read_protector_wrapping(const Node& node, WrapAlgorithm algorithm) {
  Fields fields(node);
  ProtectorWrapping wrapping;
  wrapping.method = read_method(fields);
  wrapping.generation = yaml::integer(fields.required("generation"), 1, kMaxU64);
  wrapping.kdf = read_kdf(fields);
  wrapping.wrapped = read_any_wrapped_key(fields, algorithm, ProtectorKey::kSize);
  fields.finish();
  return wrapping;
}

void read_second_document(const Node& document, ProtectorRecord& record) {
  Fields fields(document);
  const ProtectorId id = read_identifier<ProtectorId>(fields.required("id"));
  for (const Node& wrapping : yaml::list(fields.required("wrappings"))) {
    record.wrappings.push_back(read_protector_wrapping(wrapping, record.summary.algorithm));
  }
  fields.finish();
  if (id != record.summary.id || ways_of(record.wrappings) != record.summary.ways) {
    throw corrupt("the two documents disagree");
  }
}

// --- policies

PolicySummary read_policy_summary(const Node& document) {
  Fields fields(document);
  (void)yaml::plain(fields.required("format"));  // which one it is was judged by split_record
  PolicySummary summary;
  summary.key_identifier = read_identifier<KeyIdentifier>(fields.required("key_identifier"));
  for (const Node& protector : yaml::list(fields.required("protectors"))) {
    summary.protectors.push_back(read_identifier<ProtectorId>(protector));
  }
  for (const Node& path : yaml::list(fields.required("paths"))) {
    summary.paths.push_back(read_path(path));
  }
  fields.finish();
  return summary;
}

PolicyWrapping read_policy_wrapping(const Node& node) {
  Fields fields(node);
  PolicyWrapping wrapping;
  wrapping.protector = read_identifier<ProtectorId>(fields.required("protector"));
  wrapping.wrapped = read_any_wrapped_key(fields, read_algorithm(fields), PolicyKey::kSize);
  fields.finish();
  return wrapping;
}

void read_second_document(const Node& document, PolicyRecord& record) {
  Fields fields(document);
  const KeyIdentifier id = read_identifier<KeyIdentifier>(fields.required("key_identifier"));
  record.options = read_options(fields);
  if (const Node* operation = fields.optional("operation")) {
    record.operation = read_identifier<OperationId>(*operation);
  }
  for (const Node& wrapping : yaml::list(fields.required("wrappings"))) {
    record.wrappings.push_back(read_policy_wrapping(wrapping));
  }
  fields.finish();
  if (id != record.summary.key_identifier ||
      protectors_of(record.wrappings) != record.summary.protectors) {
    throw corrupt("the two documents disagree");
  }
}

// --- both

template <class T>
T checked(T value) {
  if (const std::optional<std::string> broken = broken_rule(value)) throw corrupt(*broken);
  return value;
}

}  // namespace

PolicySummary parse_policy_summary(std::string_view text) {
  const RecordDocuments documents = split_record(text, "policy");
  return checked(read_policy_summary(read_record_lines(documents.first)));
}

ProtectorSummary parse_protector_summary(std::string_view text) {
  const RecordDocuments documents = split_record(text, "protector");
  return checked(read_protector_summary(read_record_lines(documents.first)));
}

PolicyRecord parse_policy(std::string_view text) {
  const RecordDocuments documents = split_record(text, "policy");
  PolicyRecord record;
  record.summary = read_policy_summary(read_record_lines(documents.first));
  read_second_document(read_record_lines(documents.second), record);
  return checked(std::move(record));
}

ProtectorRecord parse_protector(std::string_view text) {
  const RecordDocuments documents = split_record(text, "protector");
  ProtectorRecord record;
  record.summary = read_protector_summary(read_record_lines(documents.first));
  read_second_document(read_record_lines(documents.second), record);
  return checked(std::move(record));
}

}  // namespace fscryptctl
