#include "fscryptctl/crypto/homed_slot.h"

#include <catch2/catch.hpp>

#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/homed.h"
#include "metadata/homed_slots.h"

using namespace fscryptctl;

namespace {

SecretBytes text(std::string_view characters) { return SecretBytes(as_bytes(characters)); }

bool is_counting(const std::optional<PolicyKey>& key) {
  if (!key) return false;
  std::uint8_t expected = 0;
  for (const std::uint8_t byte : key->view()) {
    if (byte != expected++) return false;
  }
  return true;
}

std::optional<std::string> normalised(std::string_view characters) {
  const std::optional<SecretBytes> normal = normalise_homed_recovery_key(text(characters));
  if (!normal) return std::nullopt;
  return std::string(normal->view().begin(), normal->view().end());
}

}  // namespace

TEST_CASE("systemd-homed's documented slots open with their password") {
  for (const std::string& value : {test::kHomedLegacySlot, test::kHomedSlot}) {
    CHECK(is_counting(open_homed_slot(parse_homed_slot(value), text("fsfsfs1234"))));
  }
}

TEST_CASE("another password opens no sealed slot, and gives nonsense with an old one") {
  CHECK_FALSE(open_homed_slot(parse_homed_slot(test::kHomedSlot), text("fsfsfs123")));
  const auto key = open_homed_slot(parse_homed_slot(test::kHomedLegacySlot), text("fsfsfs123"));
  REQUIRE(key);
  CHECK_FALSE(is_counting(key));
}

TEST_CASE("a sealed slot that was changed does not open") {
  HomedSlot slot = parse_homed_slot(test::kHomedSlot);
  slot.iterations = 1000;
  CHECK_FALSE(open_homed_slot(slot, text("fsfsfs1234")));
  slot = parse_homed_slot(test::kHomedSlot);
  slot.ciphertext[63] ^= 1;
  CHECK_FALSE(open_homed_slot(slot, text("fsfsfs1234")));
  slot = parse_homed_slot(test::kHomedSlot);
  slot.seal->tag[0] ^= 1;
  CHECK_FALSE(open_homed_slot(slot, text("fsfsfs1234")));
  slot.seal->tag[0] ^= 1;
  slot.seal->iv[11] ^= 1;
  CHECK_FALSE(open_homed_slot(slot, text("fsfsfs1234")));
  slot.iterations = kMaxHomedIterations + 1;
  CHECK_THROWS_AS(open_homed_slot(slot, text("x")), Error);
}

TEST_CASE("a recovery key of systemd-homed may be typed in any case, with or without hyphens") {
  const std::string key = "cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv";
  CHECK(normalised(key) == key);
  std::string bare = key;
  std::erase(bare, '-');
  CHECK(normalised(bare) == key);
  std::string upper = key;
  for (char& c : upper) c = c == '-' ? c : static_cast<char>(c - 'a' + 'A');
  CHECK(normalised(upper) == key);
  CHECK(normalised("-" + bare + "-") == key);
  for (const std::string& other : {std::string(), bare.substr(1), bare + "c", "a" + bare.substr(1),
                                   bare + " ", std::string("fsfsfs1234")}) {
    CHECK_FALSE(normalised(other));
  }
}
