#include "fscryptctl/core/rotate.h"

#include <catch2/catch.hpp>

#include "fscryptctl/metadata/record_rules.h"

using namespace fscryptctl;

namespace {

const ProtectorId kOld = *ProtectorId::from_hex("0123456789abcdef");

}  // namespace

TEST_CASE("a rotation's mark tells name and id of the old protector") {
  for (const std::string name : {"mine", "a (rotated from b)", "\xc3\xa4", "login"}) {
    const std::string text = rotation_mark({name, kOld});
    CHECK(valid_name(text));
    const std::optional<RotationMark> mark = parse_rotation_mark(text);
    REQUIRE(mark);
    CHECK(mark->name == name);
    CHECK(mark->previous == kOld);
  }
}

TEST_CASE("a mark fits where the name alone just fits") {
  std::string umlauts;
  while (umlauts.size() + 2 <= kMaxNameSize) umlauts += "\xc3\xa4";
  for (const std::string& name : {std::string(kMaxNameSize, 'x'), umlauts}) {
    const std::string text = rotation_mark({name, kOld});
    CHECK(valid_name(text));
    const std::optional<RotationMark> mark = parse_rotation_mark(text);
    REQUIRE(mark);
    CHECK(name.starts_with(mark->name));
    CHECK(mark->name.size() > kMaxNameSize / 2);
  }
}

TEST_CASE("other names are no marks") {
  for (const std::string name :
       {"", "mine", "(rotated from 0123456789abcdef)", " (rotated from 0123456789abcdef)",
        "mine (rotated from 0123456789abcde)", "mine (rotated from 0123456789ABCDEF)",
        "mine (rotated from 0123456789abcdef) ", "mine (rotated from 0123456789abcdefg)",
        "mine rotated from 0123456789abcdef)", "mine (rotated from 0123456789abcdef"}) {
    CAPTURE(name);
    CHECK_FALSE(parse_rotation_mark(name));
  }
}
