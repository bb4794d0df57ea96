#include "fscryptctl/core/policy.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/key_identifier.h"

using namespace fscryptctl;

namespace {

OpenProtector a_protector(std::uint8_t byte) {
  return make_protector({Source::raw_key, SecretBytes(Bytes(32, byte))}, "p", {1, 64, 1});
}

}  // namespace

TEST_CASE("each protector of a policy opens it to the same key") {
  UnlockedPolicy made = make_policy({});
  const OpenProtector one = a_protector(1);
  const OpenProtector two = a_protector(2);
  wrap_for(made, one);
  wrap_for(made, two);
  CHECK(made.record.summary.key_identifier == key_identifier_of(made.key.view()));
  CHECK(made.record.summary.protectors.size() == 2);
  for (const OpenProtector* protector : {&one, &two}) {
    const UnlockedPolicy opened = unlock_policy({made.record}, *protector);
    CHECK(equal_secrets(opened.key.secret(), made.key.secret()));
  }
}

TEST_CASE("a protector that is none of the policy's opens nothing") {
  UnlockedPolicy made = make_policy({});
  wrap_for(made, a_protector(1));
  const OpenProtector stranger = a_protector(2);
  CHECK_THROWS_AS(unlock_policy({made.record}, stranger), Error);
}

TEST_CASE("modes that somebody changed in the record make its wrapping useless") {
  UnlockedPolicy made = make_policy({});
  const OpenProtector protector = a_protector(1);
  wrap_for(made, protector);
  PolicyRecord changed = made.record;
  changed.options.padding_bytes = 4;
  try {
    (void)unlock_policy({changed}, protector);
    FAIL("it opened");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::corrupt_metadata);
  }
}

TEST_CASE("an imported wrapping stays until the record is written with it in hand") {
  OpenProtector protector = a_protector(1);
  for (std::uint8_t i = 0; i < ProtectorKey::kSize; ++i) protector.key.writable()[i] = i;
  protector.record.summary.id = protector_id_of(protector.key);
  PolicyRecord record;
  record.summary.key_identifier = *KeyIdentifier::from_hex("8699c2c53707405da5aba5ae4d8583c0");
  // Made by metadata-format/reader.py with an IV of zeros: the policy key 00 to 3f.
  GoogleWrappedKey wrapped{
      {},
      *from_hex("fdd21458d5bd87ace50b1de60139601028138fc585ab8621d121d362f62b36a9"
                "368ebf58ef66cb34490fe07ea21b712edc2ee8c84408266053aa67ed3a8d6818"),
      {}};
  std::ranges::copy(*from_hex("93820596b57002de6eb79f35a4d1f536bcf43b68fb18a012033e96503c2b45d9"),
                    wrapped.mac.begin());
  record.wrappings = {{protector.record.summary.id, wrapped}};
  summarise(record);

  UnlockedPolicy opened = unlock_policy({record}, protector);
  CHECK(opened.key.view()[63] == 63);
  CHECK(opened.record == record);
  wrap_for(opened, a_protector(2));
  REQUIRE(opened.record.wrappings.size() == 2);
  for (const PolicyWrapping& wrapping : opened.record.wrappings) {
    CHECK(algorithm_of(wrapping.wrapped) == WrapAlgorithm::fscryptctl_wrap_1);
  }
  UnlockedPolicy again = unlock_policy({opened.record}, protector);
  CHECK(equal_secrets(again.key.secret(), opened.key.secret()));
  const PolicyRecord ours = again.record;
  move_wrapping(again);
  CHECK(again.record == ours);
}

TEST_CASE("path hints are kept newest last, each once, sixteen at most") {
  PolicyRecord record;
  CHECK(add_hint(record, "a"));
  CHECK(add_hint(record, "b"));
  CHECK_FALSE(add_hint(record, "b"));
  CHECK(add_hint(record, "a"));
  CHECK(record.summary.paths == std::vector<std::string>{"b", "a"});
  for (int i = 0; i < 20; ++i) add_hint(record, "p" + std::to_string(i));
  CHECK(record.summary.paths.size() == kMaxPaths);
  CHECK(record.summary.paths.back() == "p19");
}

TEST_CASE("a way is added once, proven, and not beyond what fits") {
  UnlockedPolicy policy = make_policy({});
  for (std::uint8_t i = 0; i < kMaxProtectorsOfPolicy; ++i) add_way(policy, a_protector(i));
  const PolicyRecord full = policy.record;
  CHECK(full.summary.protectors.size() == kMaxProtectorsOfPolicy);
  try {
    add_way(policy, a_protector(99));
    FAIL("it was added");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::usage);
  }
  CHECK(policy.record == full);
}

TEST_CASE("a protector that a policy has already gets a new wrapping in its place") {
  UnlockedPolicy policy = make_policy({});
  const OpenProtector protector = a_protector(1);
  add_way(policy, protector);
  const PolicyRecord before = policy.record;
  add_way(policy, protector);
  CHECK(policy.record.summary == before.summary);
  CHECK(policy.record.wrappings != before.wrappings);
  CHECK(equal_secrets(unlock_policy({policy.record}, protector).key.secret(), policy.key.secret()));
}

TEST_CASE("a way that is taken away leaves the others") {
  UnlockedPolicy policy = make_policy({});
  const OpenProtector one = a_protector(1);
  const OpenProtector two = a_protector(2);
  add_way(policy, one);
  add_way(policy, two);
  CHECK(drop_way(policy.record, one.record.summary.id));
  CHECK_FALSE(drop_way(policy.record, one.record.summary.id));
  CHECK(policy.record.summary.protectors == std::vector{two.record.summary.id});
  CHECK_THROWS_AS(unlock_policy({policy.record}, one), Error);
  CHECK(equal_secrets(unlock_policy({policy.record}, two).key.secret(), policy.key.secret()));
}
