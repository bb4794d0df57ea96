#include "fscryptctl/metadata/homed.h"

#include <catch2/catch.hpp>

#include "homed_slots.h"

using namespace fscryptctl;
using namespace fscryptctl::test;

namespace {

std::optional<Errc> refusal(const std::string& value) {
  try {
    (void)parse_homed_slot(value);
    return std::nullopt;
  } catch (const Error& error) {
    return error.code();
  }
}

std::string with(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace

TEST_CASE("slots of systemd-homed") {
  const HomedSlot legacy = parse_homed_slot(kHomedLegacySlot);
  CHECK(legacy.iterations == 65535);
  CHECK_FALSE(legacy.seal);
  CHECK(legacy.salt[0] == 0x40);
  CHECK(legacy.ciphertext[0] == 0xc2);
  const HomedSlot sealed = parse_homed_slot(kHomedSlot);
  CHECK(sealed.iterations == 600000);
  REQUIRE(sealed.seal);
  CHECK(sealed.seal->iv[11] == 11);
  CHECK(sealed.seal->tag[0] == 0x1b);
  CHECK(parse_homed_slot(with(kHomedSlot, "600000", "1")).iterations == 1);
}

TEST_CASE("slots that are no slots") {
  for (const std::string& value :
       {std::string(), std::string(":"), kHomedSalt, kHomedLegacySlot + ":", ":" + kHomedLegacySlot,
        kHomedLegacySlot + "\n", with(kHomedLegacySlot, "==", "="), kHomedSlot + ":",
        with(kHomedSlot, "600000", "0"), with(kHomedSlot, "600000", "-1"),
        with(kHomedSlot, "600000", ""), with(kHomedSlot, "600000", "0600000"),
        with(kHomedSlot, "600000", "600000x"), with(kHomedSlot, "600000", "2147483648"),
        with(kHomedSlot, "600000", "99999999999"), with(kHomedSlot, "AAEC", "AAE"),
        std::string(5000, 'a'), kHomedLegacySlot + std::string(1, '\0')}) {
    CAPTURE(value);
    CHECK(refusal(value) == Errc::corrupt_metadata);
  }
  CHECK(refusal(with(kHomedSlot, "$v2", "$v3")) == Errc::newer_format);
  CHECK(refusal(with(kHomedSlot, "600000", "6000001")) == Errc::kdf_limit);
  CHECK(refusal(with(kHomedSlot, "600000", "2147483647")) == Errc::kdf_limit);
}

TEST_CASE("every byte of a slot may be damaged") {
  for (const std::string& whole : {kHomedLegacySlot, kHomedSlot}) {
    for (std::size_t i = 0; i < whole.size(); ++i) {
      CHECK(refusal(whole.substr(0, i)));
      for (unsigned bit = 1; bit < 0x100; bit <<= 1U) {
        std::string damaged = whole;
        damaged[i] = static_cast<char>(static_cast<unsigned char>(damaged[i]) ^ bit);
        const std::optional<Errc> code = refusal(damaged);
        CHECK((!code || code == Errc::corrupt_metadata || code == Errc::newer_format ||
               code == Errc::kdf_limit));
      }
    }
  }
}
