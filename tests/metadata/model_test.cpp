#include "fscryptctl/metadata/model.h"

#include <catch2/catch.hpp>

#include "fscryptctl/metadata/record_rules.h"
#include "metadata/sample_records.h"

using namespace fscryptctl;

namespace {

std::string text(std::u8string_view utf8) { return {utf8.begin(), utf8.end()}; }

// The record as it is after `change`; its summary follows its wrappings.
template <class Record, class Change>
std::optional<std::string> broken_after(Record record, Change change) {
  change(record);
  return broken_rule(record);
}

}  // namespace

TEST_CASE("names of sources and methods are spelled as users and records spell them") {
  CHECK(source_name(Source::passphrase) == "passphrase");
  CHECK(source_name(Source::raw_key) == "raw-key");
  CHECK(source_name(Source::login) == "login");
  CHECK(method_name(Method::recovery_key) == "recovery-key");
  CHECK(source_from_name("raw-key") == Source::raw_key);
  CHECK(method_from_name("recovery-key") == Method::recovery_key);
  CHECK_FALSE(source_from_name("recovery-key"));  // opens a protector, but none is made of it
  CHECK_FALSE(source_from_name("raw_key"));
  CHECK_FALSE(source_from_name("Passphrase"));
  CHECK_FALSE(method_from_name(""));
}

TEST_CASE("only what a person types is hashed") {
  CHECK(is_hashed(Method::passphrase));
  CHECK(is_hashed(Method::login));
  CHECK_FALSE(is_hashed(Method::raw_key));
  CHECK_FALSE(is_hashed(Method::recovery_key));
}

TEST_CASE("a wrapping's context takes everything from its record") {
  const ProtectorRecord protector = sample_login_protector();
  const ProtectorKeyContext previous = context_of(protector, protector.wrappings[1]);
  CHECK(previous.protector == protector.summary.id);
  CHECK(previous.method == "login");
  CHECK(previous.generation == 2);
  CHECK(previous.kdf == protector.wrappings[1].kdf);

  PolicyRecord policy = sample_policy();
  policy.options.padding_bytes = 16;
  policy.operation = OperationId{{1, 2, 3}};
  const PolicyKeyContext context = context_of(policy, policy.wrappings[0].protector);
  CHECK(context.policy == policy.summary.key_identifier);
  CHECK(context.protector == policy.wrappings[0].protector);
  CHECK(context.options == policy.options);
  CHECK(context.operation == policy.operation);
}

TEST_CASE("a protector's name is text that fits into a line and into MOUNTPOINT:NAME") {
  CHECK(valid_name("private"));
  CHECK(valid_name("two words"));
  CHECK(valid_name(text(u8"Schlüssel 🔑")));
  CHECK(valid_name(std::string(255, 'n')));
  CHECK_FALSE(valid_name(""));
  CHECK_FALSE(valid_name(std::string(256, 'n')));
  CHECK_FALSE(valid_name("a:b"));
  CHECK_FALSE(valid_name("a/b"));
  CHECK_FALSE(valid_name("a\nb"));
  CHECK_FALSE(valid_name(std::string("a\0b", 3)));
  CHECK_FALSE(valid_name("a\x7f"));
  CHECK_FALSE(valid_name(text(u8"a\u0080")));
  CHECK_FALSE(valid_name(text(u8"a\u009f")));
  CHECK(valid_name(text(u8"a\u00a0")));
  CHECK_FALSE(valid_name("\xff"));
}

TEST_CASE("a domain user's name may hold what a protector's may not") {
  CHECK(valid_user_hint("EXAMPLE/alice"));
  CHECK_FALSE(valid_user_hint("alice\x1b[2J"));
  CHECK_FALSE(valid_user_hint(""));
}

TEST_CASE("a path hint stays below the filesystem's root") {
  CHECK(valid_path_hint("alice/private"));
  CHECK(valid_path_hint("..."));
  CHECK(valid_path_hint(".hidden/a..b"));
  CHECK(valid_path_hint("line\nbreak"));
  CHECK(valid_path_hint("\xff\xfe"));
  CHECK(valid_path_hint(std::string(4096, 'p')));
  CHECK_FALSE(valid_path_hint(std::string(4097, 'p')));
  for (const char* path : {"", "/", "/etc", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b"}) {
    CAPTURE(path);
    CHECK_FALSE(valid_path_hint(path));
  }
  CHECK_FALSE(valid_path_hint(std::string("a\0b", 3)));
}

TEST_CASE("the sample records keep the rules") {
  CHECK_FALSE(broken_rule(sample_protector()));
  CHECK_FALSE(broken_rule(sample_login_protector()));
  CHECK_FALSE(broken_rule(sample_policy()));
}

TEST_CASE("a protector keeps a way in for its own secret") {
  CHECK(broken_after(sample_protector(), [](auto& r) { r.wrappings.clear(); }));
  CHECK(broken_after(sample_protector(), [](auto& r) { r.wrappings.erase(r.wrappings.begin()); }));
  CHECK_FALSE(broken_after(sample_protector(), [](auto& r) { r.wrappings.pop_back(); }));
}

TEST_CASE("wrappings of one protector belong together") {
  SECTION("no method of another source") {
    CHECK(broken_after(sample_protector(), [](auto& r) {
      r.wrappings.push_back(sample_key_wrapping(Method::raw_key));
    }));
    CHECK(broken_after(sample_protector(), [](auto& r) { r.summary.source = Source::raw_key; }));
  }
  SECTION("one passphrase, one recovery key") {
    CHECK(broken_after(sample_protector(), [](auto& r) {
      r.wrappings.push_back(sample_hashed_wrapping(Method::passphrase, 2));
    }));
    CHECK(broken_after(sample_protector(), [](auto& r) {
      r.wrappings.push_back(sample_key_wrapping(Method::recovery_key));
    }));
  }
  SECTION("two login passwords, told apart by their generations") {
    CHECK(broken_after(sample_login_protector(),
                       [](auto& r) { r.wrappings[0].generation = r.wrappings[1].generation; }));
    CHECK(broken_after(sample_login_protector(), [](auto& r) {
      r.wrappings.push_back(sample_hashed_wrapping(Method::login, 4));
    }));
  }
  SECTION("a recovery key's generation is its own") {
    CHECK_FALSE(
        broken_after(sample_login_protector(), [](auto& r) { r.wrappings[2].generation = 3; }));
  }
}

TEST_CASE("hashing goes with typed secrets and within Argon2's bounds") {
  CHECK(broken_after(sample_protector(), [](auto& r) { r.wrappings[0].kdf.reset(); }));
  CHECK(broken_after(sample_protector(), [](auto& r) { r.wrappings[1].kdf = r.wrappings[0].kdf; }));
  CHECK(broken_after(sample_protector(), [](auto& r) { r.wrappings[0].kdf->costs.passes = 0; }));
  CHECK(broken_after(sample_protector(), [](auto& r) { r.wrappings[0].kdf->costs.lanes = 0; }));
  CHECK(broken_after(sample_protector(), [](auto& r) { r.wrappings[0].kdf->costs.lanes = 256; }));
  CHECK(
      broken_after(sample_protector(), [](auto& r) { r.wrappings[0].kdf->costs.memory_kib = 15; }));
  CHECK_FALSE(
      broken_after(sample_protector(), [](auto& r) { r.wrappings[0].kdf->costs.memory_kib = 16; }));
}

TEST_CASE("only a login protector carries hints of user and machine") {
  CHECK(broken_after(sample_protector(), [](auto& r) { r.summary.user = "alice"; }));
  CHECK(broken_after(sample_protector(),
                     [](auto& r) { r.summary.machine_id = std::string(32, '0'); }));
  CHECK_FALSE(broken_after(sample_login_protector(), [](auto& r) { r.summary.user.clear(); }));
  CHECK(broken_after(sample_login_protector(), [](auto& r) { r.summary.user = "a\nb"; }));
  CHECK(broken_after(sample_login_protector(), [](auto& r) { r.summary.machine_id = "0123"; }));
}

TEST_CASE("a creation time is one that exists, in UTC") {
  const auto broken = [](const char* time) {
    return broken_after(sample_protector(), [&](auto& r) { r.summary.created = time; }).has_value();
  };
  CHECK_FALSE(broken("2024-02-29T23:59:59Z"));
  for (const char* time :
       {"", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00", "2026-01-01",
        "2026-01-01t00:00:00z", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00.0Z",
        "-026-01-01T00:00:00Z", "2026-1 -01T00:00:00Z"}) {
    CAPTURE(time);
    CHECK(broken(time));
  }
}

TEST_CASE("a policy names each protector once, and at least one") {
  const auto with_protectors = [](unsigned count) {
    return broken_after(sample_policy(),
                        [=](auto& r) {
                          r.wrappings.clear();
                          for (unsigned i = 0; i < count; ++i) {
                            const ProtectorId id{{static_cast<std::uint8_t>(i)}};
                            r.wrappings.push_back({id, sample_wrapped_key(64, 1)});
                          }
                        })
        .has_value();
  };
  CHECK(with_protectors(0));
  CHECK_FALSE(with_protectors(16));
  CHECK(with_protectors(17));
  CHECK(broken_after(sample_policy(), [](auto& r) { r.wrappings.push_back(r.wrappings.front()); }));
}

TEST_CASE("a policy's settings are ones that a kernel takes") {
  CHECK(broken_after(sample_policy(), [](auto& r) { r.options.filenames = Mode::adiantum; }));
  CHECK(broken_after(sample_policy(), [](auto& r) { r.options.direct_key = true; }));
  CHECK(broken_after(sample_policy(), [](auto& r) { r.options.padding_bytes = 5; }));
  CHECK(broken_after(sample_policy(), [](auto& r) { r.options.log2_data_unit_size = 8; }));
}

TEST_CASE("wrapped keys have the size of what they wrap") {
  CHECK(broken_after(sample_protector(),
                     [](auto& r) { r.wrappings[0].wrapped = sample_wrapped_key(64, 1); }));
  CHECK(broken_after(sample_policy(),
                     [](auto& r) { r.wrappings[0].wrapped = sample_wrapped_key(32, 1); }));
  CHECK(broken_after(sample_protector(), [](auto& r) { r.wrappings[0].generation = 0; }));
}
