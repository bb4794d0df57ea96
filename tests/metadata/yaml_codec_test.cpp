#include "fscryptctl/metadata/yaml_codec.h"

#include <catch2/catch.hpp>
#include <functional>
#include <random>

#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/record_rules.h"
#include "metadata/sample_records.h"

using namespace fscryptctl;

namespace {

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string replaced_last(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.rfind(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// Why `read` refused, or nullopt if it did not.
std::optional<Errc> refusal(const std::function<void()>& read) {
  try {
    read();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

std::optional<Errc> policy_refusal(const std::string& text) {
  return refusal([&] { (void)parse_policy(text); });
}

std::optional<Errc> protector_refusal(const std::string& text) {
  return refusal([&] { (void)parse_protector(text); });
}

PolicyRecord policy_with_paths(std::vector<std::string> paths) {
  PolicyRecord record = sample_policy();
  record.summary.paths = std::move(paths);
  return record;
}

// The policy whose one path is spelled `spelling`.
std::string policy_text_with_path(const std::string& spelling) {
  return replaced(emit(sample_policy()), "\"alice/private\"", spelling);
}

}  // namespace

TEST_CASE("a policy record is written in one way") {
  PolicyRecord record = policy_with_paths({"alice/private", "\xff\xfename"});
  record.options.iv_ino_lblk_64 = true;
  record.options.log2_data_unit_size = 12;
  record.operation = OperationId::from_hex("00112233445566778899aabbccddeeff");
  const std::string salt(64, '3');
  const auto repeat = [](const char* byte, int count) {
    std::string hex;
    for (int i = 0; i < count; ++i) hex += byte;
    return hex;
  };
  CHECK(emit(record) == R"(---
format: fscryptctl-policy-1
key_identifier: 8699c2c53707405da5aba5ae4d8583c0
protectors:
  - 572b248e70045051
paths:
  - "alice/private"
  - base64: "//5uYW1l"
---
key_identifier: 8699c2c53707405da5aba5ae4d8583c0
contents: AES-256-XTS
filenames: AES-256-CTS
padding: 32
flags:
  - IV_INO_LBLK_64
data_unit_size: 4096
operation: 00112233445566778899aabbccddeeff
wrappings:
  - protector: 572b248e70045051
    algorithm: fscryptctl-wrap-1
    salt: )" + repeat("30", 32) +
                            "\n    ciphertext: " + repeat("31", 64) +
                            "\n    mac: " + repeat("32", 32) + "\n");
}

TEST_CASE("a protector record is written in one way") {
  const std::string text = emit(sample_login_protector());
  const std::string first_document = R"(---
format: fscryptctl-protector-1
id: 572b248e70045051
name: "login"
source: login
created: 2026-11-22T10:11:12Z
user: "alice"
machine_id: 0123456789abcdef0123456789abcdef
algorithm: fscryptctl-wrap-1
methods:
  - method: login
    kdf: argon2id
    passes: 3
    memory_kib: 131072
    lanes: 2
  - method: login
    kdf: argon2id
    passes: 3
    memory_kib: 131072
    lanes: 2
  - method: recovery-key
    kdf: none
---
)";
  CHECK(text.substr(0, first_document.size()) == first_document);
  CHECK(text.find(R"(
  - method: login
    generation: 2
    kdf: argon2id
    kdf_version: 19
    passes: 3
    memory_kib: 131072
    lanes: 2
    kdf_salt: 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a
    salt: 1010)") != std::string::npos);
  CHECK(text.find(R"(
  - method: recovery-key
    generation: 1
    kdf: none
    salt: 2020)") != std::string::npos);
}

TEST_CASE("what is written is read as it was") {
  for (const ProtectorRecord& record : {sample_protector(), sample_login_protector()}) {
    CHECK(parse_protector(emit(record)) == record);
    CHECK(parse_protector_summary(emit(record)) == record.summary);
  }
  CHECK(parse_policy(emit(sample_policy())) == sample_policy());
  CHECK(parse_policy_summary(emit(sample_policy())) == sample_policy().summary);
}

TEST_CASE("the summary written follows the wrappings, whatever it said before") {
  ProtectorRecord record = sample_protector();
  record.summary.ways.clear();
  CHECK(parse_protector(emit(record)) == sample_protector());
}

TEST_CASE("fields stand in any order") {
  const std::string protector =
      replaced(replaced(emit(sample_protector()), "source: passphrase\n", ""),
               "algorithm:", "source: passphrase\nalgorithm:");
  CHECK(parse_protector(protector) == sample_protector());
  const std::string policy = replaced(replaced(emit(sample_policy()), "flags: []\n", ""),
                                      "contents:", "flags: []\ncontents:");
  CHECK(parse_policy(policy) == sample_policy());
}

TEST_CASE("a listing is served by a record whose second document is damaged, an unlock is not") {
  const std::string text = emit(sample_policy());
  const std::string damaged = text.substr(0, text.find("\n---\n") + 5) + "\x01 damage";
  CHECK_FALSE(refusal([&] { (void)parse_policy_summary(damaged + "\n"); }));
  CHECK(policy_refusal(damaged + "\n") == Errc::corrupt_metadata);
}

TEST_CASE("a record that was cut off is refused even for a listing") {
  const std::string text = emit(sample_protector());
  for (std::size_t size = 0; size < text.size(); ++size) {
    CAPTURE(size);
    REQUIRE(protector_refusal(text.substr(0, size)) == Errc::corrupt_metadata);
  }
  const std::size_t first_document = text.find("\n---\n");
  CHECK(refusal([&] { (void)parse_protector_summary(text.substr(0, first_document)); }) ==
        Errc::corrupt_metadata);
}

TEST_CASE("both documents tell the same") {
  const std::string policy = emit(sample_policy());
  CHECK(policy_refusal(replaced_last(policy, "key_identifier: 86", "key_identifier: 87")) ==
        Errc::corrupt_metadata);
  CHECK(policy_refusal(replaced_last(policy, "protector: 57", "protector: 58")) ==
        Errc::corrupt_metadata);
  const std::string protector = emit(sample_protector());
  CHECK(protector_refusal(replaced_last(protector, "id: 57", "id: 58")) == Errc::corrupt_metadata);
  for (const char* fact : {"passes: 3", "memory_kib: 131072", "lanes: 2"}) {
    CHECK(protector_refusal(replaced(protector, fact, std::string(fact) + "0")) ==
          Errc::corrupt_metadata);
  }
}

TEST_CASE("a later format is recognised whatever else it changes") {
  const std::string policy = "---\nformat: fscryptctl-policy-2\n";
  CHECK(policy_refusal(policy) == Errc::newer_format);
  CHECK(policy_refusal(policy + "\xff\t%{[&") == Errc::newer_format);
  CHECK(policy_refusal(policy + std::string(kMaxRecordSize, 'x')) == Errc::newer_format);
  CHECK(policy_refusal("---\nformat: fscryptctl-policy-999999999\n") == Errc::newer_format);
  CHECK(refusal([&] { (void)parse_policy_summary(policy); }) == Errc::newer_format);
  CHECK(protector_refusal("---\nformat: fscryptctl-protector-10\n") == Errc::newer_format);

  for (const char* other : {"0", "01", "02", "-1", "1x", "2x", "", " 2", "1000000000"}) {
    CAPTURE(other);
    CHECK(policy_refusal(replaced(policy, "policy-2", "policy-" + std::string(other))) ==
          Errc::corrupt_metadata);
  }
}

TEST_CASE("a record of the other kind is none") {
  CHECK(policy_refusal(emit(sample_protector())) == Errc::corrupt_metadata);
  CHECK(protector_refusal(emit(sample_policy())) == Errc::corrupt_metadata);
  CHECK(policy_refusal("---\nformat: fscryptctl-protector-2\n") == Errc::corrupt_metadata);
}

TEST_CASE("names that this program does not know are reported as newer") {
  const std::string protector = emit(sample_protector());
  CHECK(protector_refusal(replaced(protector, "source: passphrase", "source: fido2")) ==
        Errc::newer_format);
  CHECK(protector_refusal(replaced(protector, "method: passphrase", "method: tpm2")) ==
        Errc::newer_format);
  CHECK(protector_refusal(replaced(protector, "kdf: argon2id", "kdf: scrypt")) ==
        Errc::newer_format);
  CHECK(protector_refusal(replaced(protector, "kdf_version: 19", "kdf_version: 20")) ==
        Errc::newer_format);
  CHECK(protector_refusal(replaced(protector, "wrap-1", "wrap-2")) == Errc::newer_format);
  const std::string policy = emit(sample_policy());
  CHECK(policy_refusal(replaced(policy, "AES-256-XTS", "AES-512-XTS")) == Errc::newer_format);
  CHECK(policy_refusal(replaced(policy, "AES-256-CTS", "AES-256-XTS")) == Errc::newer_format);
  CHECK(policy_refusal(replaced(policy, "flags: []", "flags:\n  - NEW")) == Errc::newer_format);
  CHECK(policy_refusal(replaced(policy, "wrap-1", "wrap-2")) == Errc::newer_format);
}

TEST_CASE("one fault anywhere in a protector record makes it corrupt") {
  const std::pair<const char*, const char*> faults[] = {
      {"---\n", "--- \n"},
      {"---\n", "---\n\n"},
      {"---\n", "# comment\n---\n"},
      {"---\n", "%YAML 1.2\n---\n"},
      {"\nid: ", "\nid:  "},
      {"\nid: 5", "\nid: 0x5"},
      {"\nid: 57", "\nid: 5"},
      {"\nid: 572b", "\nid: 572B"},
      {"\nid: 572b248e70045051", "\nid: \"572b248e70045051\""},
      {"\nid: 572b248e70045051", "\nid: 572b248e70045051 # comment"},
      {"\nid: 572b248e70045051", "\nid: 572b248e70045051\nid: 572b248e70045051"},
      {"\nid: 572b248e70045051", "\nid: &anchor 572b248e70045051"},
      {"\nid: 572b248e70045051", "\nid: !!str 572b248e70045051"},
      {"\nid: 572b248e70045051", "\nid: |\n  572b248e70045051"},
      {"\nid: 572b248e70045051", "\nid:"},
      {"\nid: 572b248e70045051", "\nid: []"},
      {"\nid: 572b248e70045051", ""},
      {"\nid: ", "\n\"id\": "},
      {"\nid: ", "\n? id\n: "},
      {"\nid: ", "\n  - word\nid: "},
      {"\nid: ", "\n    key: word\nid: "},
      {"\nid: ", "\n  id: "},
      {"\nid: ", "\nextra: 1\nid: "},
      {"\nid: ", "\n<<: 1\nid: "},
      {"\nid: ", "\r\nid: "},
      {"name: \"private\"", "name: private"},
      {"name: \"private\"", "name: 'private'"},
      {"name: \"private\"", "name: \"\""},
      {"name: \"private\"", "name: \"a:b\""},
      {"name: \"private\"", "name: \"a\\nb\""},
      {"name: \"private\"", "name: \"a\\x0ab\""},
      {"name: \"private\"", "name: \"a\\x00b\""},
      {"name: \"private\"", "name: \"a\\ud800b\""},
      {"name: \"private\"", "name: \"a\\U00110000\""},
      {"name: \"private\"", "name: \"a\\x4\""},
      {"name: \"private\"", "name: \"a\\\""},
      {"name: \"private\"", "name: \"a\"b\""},
      {"name: \"private\"", "name: \"a\n  b\""},
      {"name: \"private\"", "name: \"tab\there\""},
      {"name: \"private\"", "name: \"\xc3\xbc\""},
      {"source: passphrase", "source: raw-key"},
      {"source: passphrase", "source: passphrase\n  - x"},
      {"source: passphrase", "source: \"passphrase\""},
      {"source: passphrase", "source: passphrase\nuser: \"alice\""},
      {"created: 2026-11-22T10:11:12Z", "created: 2026-11-31T10:11:12Z"},
      {"created: 2026-11-22T10:11:12Z", "created: 2026-11-22"},
      {"created: 2026", "created: \"2026\""},
      {"passes: 3", "passes: 03"},
      {"passes: 3", "passes: 0"},
      {"passes: 3", "passes: 0x3"},
      {"passes: 3", "passes: 3.0"},
      {"passes: 3", "passes: +3"},
      {"passes: 3", "passes: -3"},
      {"passes: 3", "passes: \"3\""},
      {"passes: 3", "passes: 4294967299"},
      {"passes: 3", "passes: 18446744073709551619"},
      {"    passes: 3\n", ""},
      {"    passes: 3", "  passes: 3"},
      {"    passes: 3", "      passes: 3"},
      {"memory_kib: 131072", "memory_kib: 15"},
      {"lanes: 2", "lanes: 256"},
      {"lanes: 2", "lanes: 0"},
      {"kdf: none", "kdf: argon2id"},
      {"kdf: none", "kdf: none\n    passes: 3"},
      {"methods:\n", "methods: []\nmore:\n"},
      {"generation: 1", "generation: 0"},
      {"generation: 1", "generation: 18446744073709551616"},
      {"kdf_salt: 5a", "kdf_salt: "},
      {"salt: 1010", "salt: 10"},
      {"salt: 10", "salt: 1g"},
      {"ciphertext: 11", "ciphertext: 1111"},
      {"mac: 12", "mac: "},
      {"    mac: 12", "    mac: 12\n    mac: 12"},
      {"wrappings:\n", "wrappings:\n  -\n"},
      {"wrappings:\n", "wrappings:\n  - []\n"},
      {"wrappings:\n", "---\nwrappings:\n"},
      {"wrappings:\n", "...\nwrappings:\n"},
  };
  for (const auto& [from, to] : faults) {
    CAPTURE(from, to);
    CHECK(protector_refusal(replaced(emit(sample_protector()), from, to)) ==
          Errc::corrupt_metadata);
  }
}

TEST_CASE("one fault anywhere in a policy record makes it corrupt") {
  const std::pair<const char*, const char*> faults[] = {
      {"protectors:\n  - 572b248e70045051", "protectors: []"},
      {"protectors:\n  - 572b248e70045051", "protectors: 572b248e70045051"},
      {"protectors:\n  - 572b248e70045051", "protectors: [572b248e70045051]"},
      {"protectors:\n  - 572b248e70045051",
       "protectors:\n  - 572b248e70045051\n  - 572b248e70045051"},
      {"paths:\n  - \"alice/private\"", "paths:"},
      {"paths:\n  - \"alice/private\"", "paths: {}"},
      {"paths:\n  - \"alice/private\"", "paths: \"alice/private\""},
      {"paths:\n  - \"alice/private\"", "paths:\n  - alice"},
      {"padding: 32", "padding: 33"},
      {"padding: 32", "padding: 0"},
      {"filenames: AES-256-CTS", "filenames: Adiantum"},
      {"flags: []", "flags:\n  - DIRECT_KEY"},
      {"flags: []", "flags:\n  - IV_INO_LBLK_64\n  - IV_INO_LBLK_64"},
      {"flags: []", "flags:\n  - IV_INO_LBLK_64\n  - IV_INO_LBLK_32"},
      {"flags: []", "flags: 0"},
      {"data_unit_size: 0", "data_unit_size: 1"},
      {"data_unit_size: 0", "data_unit_size: 12"},
      {"data_unit_size: 0", "data_unit_size: 256"},
      {"data_unit_size: 0", "data_unit_size: 131072"},
      {"data_unit_size: 0", "data_unit_size: 4097"},
      {"data_unit_size: 0", "data_unit_size: 0\noperation: 00"},
      {"    algorithm: fscryptctl-wrap-1\n", ""},
      {"    salt: ", "    nonce: "},
      {"ciphertext: 3131", "ciphertext: 31"},
  };
  for (const auto& [from, to] : faults) {
    CAPTURE(from, to);
    CHECK(policy_refusal(replaced(emit(sample_policy()), from, to)) == Errc::corrupt_metadata);
  }
}

TEST_CASE("a path keeps every byte") {
  const std::vector<std::string> paths = {"plain",
                                          "two words",
                                          "quote\"back\\slash",
                                          "line\nbreak\ttab\x01\x7f",
                                          "%percent",
                                          "#hash",
                                          "- dash",
                                          "key: value",
                                          "---",
                                          "\xc3\xbc/\xe2\x82\xac/\xf0\x9f\x94\x91",
                                          "\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbf",
                                          "\xff",
                                          "\xed\xa0\x80",
                                          "latin1-\xfc"};
  const PolicyRecord record = policy_with_paths(paths);
  const std::string text = emit(record);
  CHECK(parse_policy(text) == record);
  CHECK(emit(parse_policy(text)) == text);
}

TEST_CASE("escapes are the shortest that fit, in lower case") {
  const std::string text = emit(policy_with_paths({"\xc3\xbc\xe2\x82\xac\xf0\x9f\x94\x91\x1f"}));
  CHECK(text.find(R"(  - "\xfc\u20ac\U0001f511\x1f")") != std::string::npos);
}

TEST_CASE("other spellings of the same text are read") {
  CHECK(parse_policy(policy_text_with_path(R"("\x61lice\u002Fprivate")")) == sample_policy());
  CHECK(parse_policy(policy_text_with_path(R"("alice/\U00000070rivate")")) == sample_policy());
}

TEST_CASE("a path cannot be spelled so that readers disagree or leave the filesystem") {
  for (const char* spelling : {"\"\"",
                               "\"/etc\"",
                               "\"a/../b\"",
                               "\"a//b\"",
                               "\"a/\"",
                               "\".\"",
                               "\"a\\x00b\"",
                               "\"a\\x2f\\x2e\\x2e\"",
                               "\"\\ud83d\\udd11\"",
                               "\"\\uDFFF\"",
                               "\"\\UFFFFFFFF\"",
                               "\"\\/etc\"",
                               "\"a\\tb\"",
                               "base64: \"YWJj\"",
                               "base64: \"\"",
                               "base64: \"//5uYW1l",
                               "base64: //5uYW1l",
                               "base64: \"//5uYW1\"",
                               "base64: \"//5uYW1l\"\n    base64: \"//5uYW1l\"",
                               "base64: \"//5uYW1l\"\n    extra: \"x\"",
                               "base32: \"//5uYW1l\"",
                               "base64: \"/w\"",
                               "base64: \"/x==\"",
                               "base64: \"//5u YW1l\"",
                               "base64: \"//8A\"",
                               "base64: \"L/8=\""}) {
    CAPTURE(spelling);
    CHECK(policy_refusal(policy_text_with_path(spelling)) == Errc::corrupt_metadata);
  }
  CHECK_FALSE(policy_refusal(policy_text_with_path("base64: \"//5uYW1l\"")));
}

TEST_CASE("a record is at most 16 KiB") {
  const std::string text = emit(policy_with_paths(
      {std::string(4000, 'a'), std::string(4000, 'b'), std::string(4000, 'c'), "d"}));
  const std::string filler(kMaxRecordSize - text.size() + 1, 'd');
  CHECK_FALSE(policy_refusal(replaced(text, "\"d\"", '"' + filler + '"')));
  CHECK(policy_refusal(replaced(text, "\"d\"", '"' + filler + "d\"")) == Errc::corrupt_metadata);
}

TEST_CASE("paths that do not fit are left out, the oldest first") {
  SECTION("too many") {
    const std::vector<std::string> paths = {"p01", "p02", "p03", "p04", "p05", "p06",
                                            "p07", "p08", "p09", "p10", "p11", "p12",
                                            "p13", "p14", "p15", "p16", "p17", "p18"};
    const PolicyRecord read = parse_policy(emit(policy_with_paths(paths)));
    CHECK(read.summary.paths == std::vector<std::string>(paths.begin() + 2, paths.end()));
  }
  SECTION("too long") {
    const std::string oldest(4096, 'a');
    const std::string old(4096, 'b');
    const std::string unprintable(2000, '\x01');
    const std::string text = emit(policy_with_paths({oldest, old, unprintable, "new"}));
    CHECK(text.size() <= kMaxRecordSize);
    CHECK(parse_policy(text).summary.paths == std::vector<std::string>{old, unprintable, "new"});
  }
}

TEST_CASE("the largest record fits without its paths") {
  PolicyRecord record = sample_policy();
  record.summary.paths.clear();
  record.wrappings.clear();
  for (unsigned i = 0; i < kMaxProtectorsOfPolicy; ++i) {
    record.wrappings.push_back(
        {ProtectorId{{static_cast<std::uint8_t>(i)}}, sample_wrapped_key(64, 0)});
  }
  record.summary.protectors = protectors_of(record.wrappings);
  CHECK(parse_policy(emit(record)) == record);
}

TEST_CASE("a record that breaks the rules is not written") {
  ProtectorRecord protector = sample_protector();
  protector.summary.name = "a/b";
  CHECK(refusal([&] { (void)emit(protector); }) == Errc::internal);
  CHECK(refusal([&] { (void)emit(policy_with_paths({"/absolute"})); }) == Errc::internal);
}

TEST_CASE("errors quote nothing of a record") {
  const std::string marker = "zqxjk";
  const std::string text = emit(sample_protector());
  const std::pair<const char*, const char*> faults[] = {
      {"\nid: ", "\nzqxjk: 1\nid: "},          {"id: 572b248e70045051", "id: zqxjk"},
      {"\"private\"", "\"zqxjk:\""},           {"source: passphrase", "source: zqxjk"},
      {"passes: 3", "passes: zqxjk"},          {"methods:", "zqxjk\nmethods:"},
      {"methods:", "zqxjk: *zqxjk\nmethods:"},
  };
  for (const auto& [from, to] : faults) {
    const std::string bad = replaced(text, from, to);
    try {
      (void)parse_protector(bad);
      FAIL("read a bad record");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find(marker) == std::string::npos);
      CHECK(error.path().empty());
    }
  }
}

// --- properties, over records made from a fixed seed

namespace {

class RandomRecords {
 public:
  ProtectorRecord protector() {
    ProtectorRecord record;
    fill(record.summary.id.bytes);
    record.summary.name = name();
    record.summary.created = "20" + two_digits(0, 99) + '-' + two_digits(1, 12) + '-' +
                             two_digits(1, 28) + 'T' + two_digits(0, 23) + ':' + two_digits(0, 59) +
                             ':' + two_digits(0, 59) + 'Z';
    record.summary.source = static_cast<Source>(below(3));
    const Method own = method_of(record.summary.source);
    record.wrappings.push_back(wrapping(own));
    if (own == Method::login) {
      if (below(2) == 0) record.summary.user = name();
      if (below(2) == 0) record.summary.machine_id = OperationId{random_array<16>()}.hex();
      if (below(2) == 0) record.wrappings.push_back(wrapping(own));
    }
    if (below(2) == 0) record.wrappings.push_back(wrapping(Method::recovery_key));
    record.summary.ways = ways_of(record.wrappings);
    return record;
  }

  PolicyRecord policy() {
    PolicyRecord record;
    fill(record.summary.key_identifier.bytes);
    for (unsigned i = below(4); i > 0; --i) record.summary.paths.push_back(path());
    record.options = options();
    if (below(2) == 0) record.operation = OperationId{random_array<16>()};
    for (unsigned i = 1 + below(3); i > 0; --i) {
      record.wrappings.push_back({ProtectorId{random_array<8>()}, wrapped_key(64)});
    }
    record.summary.protectors = protectors_of(record.wrappings);
    return record;
  }

 private:
  unsigned below(unsigned bound) {
    return std::uniform_int_distribution<unsigned>(0, bound - 1)(random_);
  }
  template <class Array>
  void fill(Array& bytes) {
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(below(256));
  }
  template <std::size_t N>
  std::array<std::uint8_t, N> random_array() {
    std::array<std::uint8_t, N> bytes;
    fill(bytes);
    return bytes;
  }
  std::string two_digits(unsigned min, unsigned max) {
    const std::string text = std::to_string(min + below(max - min + 1));
    return text.size() == 1 ? '0' + text : text;
  }
  std::string name() {
    static const char* const kPieces[] = {
        "a", " ", "\"", "\\", "#", "\xc3\xbc", "\xe2\x80\xa8", "\xf0\x9f\x94\x91",
        "-", "z", "%",  "{"};
    std::string text = "n";
    for (unsigned i = below(12); i > 0; --i) text += kPieces[below(std::size(kPieces))];
    return text;
  }
  std::string path() {
    std::string text = "p";
    for (unsigned i = below(20); i > 0; --i) text += static_cast<char>(1 + below(255));
    return valid_path_hint(text) ? text : "plain/path";
  }
  WrappedKey wrapped_key(std::size_t size) {
    return {random_array<32>(),
            [&] {
              Bytes bytes(size);
              fill(bytes);
              return bytes;
            }(),
            random_array<32>()};
  }
  ProtectorWrapping wrapping(Method method) {
    std::optional<Argon2id> kdf;
    if (is_hashed(method)) {
      const std::uint32_t lanes = 1 + below(255);
      kdf = Argon2id{{1 + below(~0U), 8 * lanes + below(1U << 31), lanes}, random_array<16>()};
    }
    const std::uint64_t generation = (std::uint64_t{below(~0U)} << 32) + below(~0U) + 1;
    return {method, generation, kdf, wrapped_key(32)};
  }
  EncryptionOptions options() {
    EncryptionOptions options;
    if (below(3) == 0) options.contents = options.filenames = Mode::adiantum;
    if (below(3) == 0)
      options.filenames =
          options.contents == Mode::aes_256_xts ? Mode::aes_256_hctr2 : options.filenames;
    options.direct_key = options.contents == Mode::adiantum && below(2) == 0;
    options.iv_ino_lblk_64 = options.contents == Mode::aes_256_xts && below(2) == 0;
    options.padding_bytes = 4U << below(4);
    if (below(2) == 0) options.log2_data_unit_size = 9 + below(8);
    return options;
  }

  std::mt19937 random_{20261122};  // NOLINT(cert-msc51-cpp): failures must repeat
};

}  // namespace

TEST_CASE("every valid record is read as it was written") {
  RandomRecords records;
  for (int i = 0; i < 300; ++i) {
    const ProtectorRecord protector = records.protector();
    const PolicyRecord policy = records.policy();
    CAPTURE(i, broken_rule(protector).value_or(""), broken_rule(policy).value_or(""));
    REQUIRE(parse_protector(emit(protector)) == protector);
    REQUIRE(parse_protector_summary(emit(protector)) == protector.summary);
    REQUIRE(parse_policy(emit(policy)) == policy);
    REQUIRE(parse_policy_summary(emit(policy)) == policy.summary);
  }
}

namespace {

// Flips each bit of `text` in turn. What is still read must be another record (no byte is without
// meaning) and must survive being written.
template <class Record>
void check_every_flipped_bit(const std::string& text, const Record& original,
                             Record (*parse)(std::string_view)) {
  int accepted = 0;
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string damaged = text;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    std::optional<Record> read;
    const std::optional<Errc> code = refusal([&] { read = parse(damaged); });
    CAPTURE(bit / 8, damaged);
    if (code) {
      REQUIRE((code == Errc::corrupt_metadata || code == Errc::newer_format));
    } else {
      REQUIRE_FALSE(*read == original);
      REQUIRE(parse(emit(*read)) == *read);
      ++accepted;
    }
  }
  CHECK(accepted > 0);  // a digit of the ciphertext, say: that is for the MAC to find
}

}  // namespace

TEST_CASE("no flipped bit is read as the same record") {
  check_every_flipped_bit(emit(sample_protector()), sample_protector(), parse_protector);
  check_every_flipped_bit(emit(sample_policy()), sample_policy(), parse_policy);
  check_every_flipped_bit(emit(sample_imported_protector()), sample_imported_protector(),
                          parse_protector);
  check_every_flipped_bit(emit(sample_imported_policy()), sample_imported_policy(), parse_policy);
}

TEST_CASE("imported records are read as they were written, and never mixed") {
  CHECK(parse_protector(emit(sample_imported_protector())) == sample_imported_protector());
  CHECK(parse_protector_summary(emit(sample_imported_protector())).algorithm ==
        WrapAlgorithm::google_fscrypt_1);
  CHECK(parse_policy(emit(sample_imported_policy())) == sample_imported_policy());

  ProtectorRecord mixed = sample_imported_protector();
  mixed.wrappings.push_back(sample_key_wrapping(Method::recovery_key));
  CHECK(refusal([&] { (void)emit(mixed); }) == Errc::internal);
  mixed.wrappings.back().wrapped = sample_google_key(32, 0x70);
  CHECK(refusal([&] { (void)emit(mixed); }) == Errc::internal);
  PolicyRecord too_much = sample_imported_policy();
  too_much.options.log2_data_unit_size = 12;
  CHECK(refusal([&] { (void)emit(too_much); }) == Errc::internal);
}
