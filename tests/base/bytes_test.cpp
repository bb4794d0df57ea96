#include "fscryptctl/base/bytes.h"

#include <catch2/catch.hpp>
#include <string>
#include <string_view>

namespace fscryptctl {
namespace {

using namespace std::string_view_literals;

TEST_CASE("bytes and hex convert into each other") {
  const Bytes bytes{0x00, 0x01, 0x7f, 0x80, 0xab, 0xff};
  CHECK(to_hex(bytes) == "00017f80abff");
  CHECK(from_hex("00017f80abff") == bytes);
  CHECK(to_hex({}).empty());
  CHECK(from_hex("") == Bytes{});
}

TEST_CASE("hex has one spelling") {
  const auto text = GENERATE("0"sv, "012"sv, "AB"sv, "aB"sv, "0x"sv, "0g"sv, " 0"sv, "0 "sv,
                             "00\n"sv, "+1"sv, "-1"sv, "0\0"sv, "\xc3\xa4"sv);
  CAPTURE(text);
  CHECK_FALSE(from_hex(text));
}

TEST_CASE("an identifier is read only from exactly its own number of digits") {
  CHECK(ProtectorId::from_hex("0123456789abcdef")->hex() == "0123456789abcdef");
  CHECK_FALSE(ProtectorId::from_hex("0123456789abcde"));
  CHECK_FALSE(ProtectorId::from_hex("0123456789abcd"));
  CHECK_FALSE(ProtectorId::from_hex("0123456789abcdef00"));
  CHECK_FALSE(ProtectorId::from_hex("0123456789ABCDEF"));
  CHECK_FALSE(ProtectorId::from_hex(""));
}

TEST_CASE("well-formed UTF-8 of every length is accepted") {
  const auto text = GENERATE(""sv, "plain"sv, "\0"sv, "\x7f"sv, "\xc2\x80"sv, "\xdf\xbf"sv,
                             "\xe0\xa0\x80"sv, "\xed\x9f\xbf"sv, "\xee\x80\x80"sv, "\xef\xbf\xbf"sv,
                             "\xf0\x90\x80\x80"sv, "\xf4\x8f\xbf\xbf"sv, "a\xc3\xa4z"sv);
  CAPTURE(to_hex(as_bytes(text)));
  CHECK(is_utf8(text));
}

TEST_CASE("text that is not UTF-8 is told apart") {
  const auto text =
      GENERATE("\x80"sv, "\xbf"sv, "a\xff"sv, "\xfe"sv,        // no lead byte
               "\xc3"sv, "\xe2\x82"sv, "\xf0\x9f\x98"sv,       // cut off at the end
               "\xc3z"sv, "\xe2z\x82"sv, "\xe2\x82\xc3"sv,     // cut off in the middle
               "\xc0\x80"sv, "\xc1\xbf"sv,                     // overlong
               "\xe0\x9f\xbf"sv, "\xf0\x8f\xbf\xbf"sv,         // overlong
               "\xed\xa0\x80"sv, "\xed\xbf\xbf"sv,             // surrogates
               "\xf4\x90\x80\x80"sv, "\xf8\x88\x80\x80\x80"sv  // beyond the last code point
      );
  CAPTURE(to_hex(as_bytes(text)));
  CHECK_FALSE(is_utf8(text));
}

TEST_CASE("the first character of a text is decoded with its size") {
  CHECK(first_utf8_character("ab")->code_point == U'a');
  CHECK(first_utf8_character("\xc3\xa4z")->code_point == U'\u00e4');
  CHECK(first_utf8_character("\xc3\xa4z")->size == 2);
  CHECK(first_utf8_character("\xe2\x82\xac")->code_point == U'\u20ac');
  CHECK(first_utf8_character("\xf0\x9f\x98\x80!")->code_point == U'\U0001f600');
  CHECK(first_utf8_character("\xf0\x9f\x98\x80!")->size == 4);
  CHECK_FALSE(first_utf8_character(""));
}

}  // namespace
}  // namespace fscryptctl
