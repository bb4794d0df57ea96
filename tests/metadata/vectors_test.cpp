// Runs what another implementation of the format wrote: metadata-format/vectors, and the worked
// example of the normative text.

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/base64.h"
#include "fscryptctl/crypto/kdf.h"
#include "fscryptctl/crypto/recovery_key.h"
#include "fscryptctl/crypto/wrap.h"
#include "fscryptctl/metadata/yaml_codec.h"

using namespace fscryptctl;

namespace {

const std::filesystem::path kFormatDirectory =
    std::filesystem::path(FSCRYPTCTL_SOURCE_DIR) / "metadata-format";

std::string contents_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.is_open());
  return {std::istreambuf_iterator<char>(file), {}};
}

// Headers `key: value`, then the records, each after a line `=== kind`.
struct Vector {
  std::map<std::string, std::string> headers;
  std::map<std::string, std::string> records;

  [[nodiscard]] std::optional<std::string> header(const std::string& key) const {
    const auto found = headers.find(key);
    if (found == headers.end()) return std::nullopt;
    return found->second;
  }
  [[nodiscard]] bool has(const std::string& kind) const { return records.count(kind) != 0; }
};

std::string decoded(std::string base64) {
  base64.erase(std::remove(base64.begin(), base64.end(), '\n'), base64.end());
  const std::optional<Bytes> bytes = base64_decode(base64);
  REQUIRE(bytes);
  return {bytes->begin(), bytes->end()};
}

Vector read_vector(const std::string& text) {
  Vector vector;
  std::string* record = nullptr;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.rfind("=== ", 0) == 0) {
      record = &vector.records[line.substr(4)];
    } else if (record != nullptr) {
      *record += line + '\n';
    } else {
      const std::size_t colon = line.find(": ");
      REQUIRE(colon != std::string::npos);
      vector.headers[line.substr(0, colon)] = line.substr(colon + 2);
    }
  }
  if (vector.header("encoding")) {
    REQUIRE(vector.headers["encoding"] == "base64");
    for (auto& [kind, body] : vector.records) body = decoded(body);
  }
  return vector;
}

// A passphrase, or the 32 bytes of a key file or recovery key.
struct Secret {
  std::optional<SecretBytes> passphrase;
  std::optional<WrappingKey> key;
};

Secret secret_of(const Vector& vector) {
  Secret secret;
  if (const auto text = vector.header("passphrase")) {
    secret.passphrase.emplace(as_bytes(*text));
  }
  if (const auto hex = vector.header("passphrase-hex")) {
    secret.passphrase.emplace(from_hex(*hex).value());
  }
  if (const auto hex = vector.header("key")) {
    secret.key.emplace(SecretBytes(from_hex(*hex).value()));
  }
  if (const auto text = vector.header("recovery-key")) {
    const RecoveryKeyReading reading = read_recovery_key(as_bytes(*text));
    CHECK(reading.key.has_value() == reading.fault.empty());
    if (reading.key) secret.key.emplace(SecretBytes(reading.key->view()));
  }
  return secret;
}

std::optional<ProtectorKey> open_wrapping(const ProtectorRecord& record,
                                          const ProtectorWrapping& wrapping, const Secret& secret) {
  const ProtectorKeyContext context = context_of(record, wrapping);
  if (wrapping.kdf && secret.passphrase) {
    const WrappingKey key =
        derive_wrapping_key(*secret.passphrase, wrapping.kdf->salt, wrapping.kdf->costs);
    return unwrap(key, context, wrapping.wrapped);
  }
  if (!wrapping.kdf && secret.key) return unwrap(*secret.key, context, wrapping.wrapped);
  return std::nullopt;
}

std::optional<ProtectorKey> open_protector(const ProtectorRecord& record, const Secret& secret) {
  for (const ProtectorWrapping& wrapping : record.wrappings) {
    if (auto key = open_wrapping(record, wrapping, secret)) return key;
  }
  return std::nullopt;
}

std::optional<PolicyKey> open_policy(const PolicyRecord& record, const ProtectorId& protector,
                                     const ProtectorKey& key) {
  for (const PolicyWrapping& wrapping : record.wrappings) {
    if (wrapping.protector != protector) continue;
    return unwrap(key, context_of(record, protector), wrapping.wrapped);
  }
  return std::nullopt;
}

// What was read is what its summary says, and survives being written.
template <class Record, class Summary>
void check_reading(const std::string& text, const Record& record, const Summary& summary,
                   Record (*parse)(std::string_view)) {
  CHECK(summary == record.summary);
  CHECK(parse(emit(record)) == record);
  CHECK(emit(record).size() <= text.size());
}

std::string outcome_of(const Vector& vector) {
  std::optional<PolicyRecord> policy;
  std::optional<ProtectorRecord> protector;
  if (vector.has("policy")) {
    const std::string& text = vector.records.at("policy");
    policy = parse_policy(text);
    check_reading(text, *policy, parse_policy_summary(text), parse_policy);
  }
  if (vector.has("protector")) {
    const std::string& text = vector.records.at("protector");
    protector = parse_protector(text);
    check_reading(text, *protector, parse_protector_summary(text), parse_protector);
  }
  const Secret secret = secret_of(vector);
  if (!secret.passphrase && !secret.key) {
    return vector.header("recovery-key") ? "wrong_key" : "ok";  // mistyped
  }

  REQUIRE(protector);
  const std::optional<ProtectorKey> protector_key = open_protector(*protector, secret);
  if (!protector_key) return "wrong_key";
  if (!policy) return "ok";
  if (!open_policy(*policy, protector->summary.id, *protector_key)) return "wrong_key";
  CHECK(policy->summary.key_identifier.hex() == vector.header("key-identifier"));
  return "ok";
}

std::string outcome_or_refusal(const Vector& vector) {
  try {
    return outcome_of(vector);
  } catch (const Error& error) {
    return std::string(errc_info(error.code()).reason);
  }
}

}  // namespace

TEST_CASE("every vector has the outcome that it names") {
  std::set<std::string> outcomes;
  for (const auto& entry : std::filesystem::directory_iterator(kFormatDirectory / "vectors")) {
    const Vector vector = read_vector(contents_of(entry.path()));
    CAPTURE(entry.path().filename().string(), vector.header("comment").value_or(""));
    REQUIRE_FALSE(vector.records.empty());
    const std::string expected = vector.header("expect").value();
    CHECK(outcome_or_refusal(vector) == expected);
    outcomes.insert(expected);
  }
  // An empty directory, or one that lost a kind of vector, is no success.
  CHECK(outcomes == std::set<std::string>{"ok", "wrong_key", "corrupt_metadata", "newer_format"});
}

TEST_CASE("the worked example of the format opens") {
  std::string text = contents_of(kFormatDirectory / "README.md");
  text.erase(0, text.find("## Worked example"));
  const auto next_record = [&] {
    const std::string begin = "```yaml\n";
    text.erase(0, text.find(begin) + begin.size());
    return text.substr(0, text.find("```"));
  };
  Vector example;
  example.records["protector"] = next_record();
  example.records["policy"] = next_record();
  example.headers["passphrase"] = "correct horse";
  example.headers["key-identifier"] = "8699c2c53707405da5aba5ae4d8583c0";
  CHECK(outcome_or_refusal(example) == "ok");
  CHECK(emit(parse_protector(example.records["protector"])) == example.records["protector"]);
  CHECK(emit(parse_policy(example.records["policy"])) == example.records["policy"]);

  example.headers["passphrase"] = "correct house";
  CHECK(outcome_or_refusal(example) == "wrong_key");
}
