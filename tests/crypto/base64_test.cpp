#include "fscryptctl/crypto/base64.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <string>
#include <string_view>

namespace fscryptctl {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kHex =
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
constexpr std::string_view kBase64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

Bytes key_bytes() {
  Bytes bytes(32);
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
  return bytes;
}

std::optional<SecretBytes> decode(std::string_view text, KeyFormat format) {
  return decode_key(SecretBytes(as_bytes(text)), format);
}

bool is_the_key(const std::optional<SecretBytes>& decoded) {
  return decoded && std::ranges::equal(decoded->view(), key_bytes());
}

TEST_CASE("bytes and base64 convert into each other as RFC 4648 shows") {
  const auto [text, encoded] = GENERATE(table<std::string_view, std::string_view>({
      {"", ""},
      {"f", "Zg=="},
      {"fo", "Zm8="},
      {"foo", "Zm9v"},
      {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="},
      {"foobar", "Zm9vYmFy"},
      {"\xff\xfename", "//5uYW1l"},
      {"\xfb\xef\xbe", "++++"},
  }));
  const ByteView bytes = as_bytes(text);
  CHECK(base64_encode(bytes) == encoded);
  CHECK(base64_decode(encoded) == Bytes(bytes.begin(), bytes.end()));
}

TEST_CASE("every byte survives base64") {
  Bytes bytes(256);
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
  CHECK(base64_decode(base64_encode(bytes)) == bytes);
}

TEST_CASE("base64 has one spelling") {
  const auto text =
      GENERATE("Zg"sv, "Zg="sv, "Zg==="sv, "Zh=="sv, "Zm9="sv, "Zg==Zg=="sv, "="sv, "===="sv,
               "Z==="sv, "Zm9v\n"sv, " Zm9v"sv, "Zm9v    "sv, "Zm\n9v"sv, "Zm 9v"sv, "Zm9-"sv,
               "Zm9_"sv, "Zm9\0"sv, "Zm9\xc3"sv, "Zm9v-"sv, "\nZm9v\n\n\n"sv);
  CAPTURE(text);
  CHECK_FALSE(base64_decode(text));
}

TEST_CASE("a key is read in each format") {
  const Bytes raw = key_bytes();
  CHECK(is_the_key(decode_key(SecretBytes(raw), KeyFormat::raw)));
  CHECK(is_the_key(decode(kHex, KeyFormat::hex)));
  CHECK(is_the_key(decode(kBase64, KeyFormat::base64)));
}

TEST_CASE("hex keys are read in any case") {
  std::string upper(kHex);
  std::ranges::transform(upper, upper.begin(),
                         [](char c) { return c >= 'a' ? static_cast<char>(c - 32) : c; });
  CHECK(is_the_key(decode(upper, KeyFormat::hex)));
}

TEST_CASE("the newline that an editor leaves is no part of a text key, a second one is") {
  CHECK(is_the_key(decode(std::string(kHex) + "\n", KeyFormat::hex)));
  CHECK(is_the_key(decode(std::string(kBase64) + "\n", KeyFormat::base64)));
  CHECK_FALSE(decode(std::string(kHex) + "\n\n", KeyFormat::hex));
  CHECK_FALSE(decode(std::string(kBase64) + "\n\n", KeyFormat::base64));
  CHECK_FALSE(decode(std::string(kHex) + "\r\n", KeyFormat::hex));
}

TEST_CASE("a raw key of 33 bytes is none, even if the last is a newline") {
  Bytes raw = key_bytes();
  raw.push_back('\n');
  CHECK_FALSE(decode_key(SecretBytes(raw), KeyFormat::raw));
  raw.resize(31);
  CHECK_FALSE(decode_key(SecretBytes(raw), KeyFormat::raw));
  CHECK_FALSE(decode_key(SecretBytes(), KeyFormat::raw));
}

TEST_CASE("text that is no key of 32 bytes is refused") {
  CHECK_FALSE(decode("", KeyFormat::hex));
  CHECK_FALSE(decode("", KeyFormat::base64));
  CHECK_FALSE(decode(kHex.substr(2), KeyFormat::hex));
  CHECK_FALSE(decode(std::string(kHex) + "00", KeyFormat::hex));
  CHECK_FALSE(decode(kHex, KeyFormat::base64));
  CHECK_FALSE(decode(kBase64, KeyFormat::hex));
  for (const char wrong : {'g', 'G', '/', ':', '@', '`', ' ', '\0', '\x80'}) {
    std::string text(kHex);
    text[63] = wrong;
    CAPTURE(static_cast<int>(wrong));
    CHECK_FALSE(decode(text, KeyFormat::hex));
  }
}

TEST_CASE("a base64 key has one spelling") {
  const auto text =
      GENERATE("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9="sv,  // unused bits that are not zero
               "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"sv,   // no padding
               "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="sv,  // 31 bytes
               "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"sv,  // 33 bytes
               "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh-="sv,  // another alphabet
               "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd Hh8="sv,
               " AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"sv);
  CHECK_FALSE(decode(text, KeyFormat::base64));
}

}  // namespace
}  // namespace fscryptctl
