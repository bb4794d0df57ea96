#include "fscryptctl/crypto/share_code.h"

#include <catch2/catch.hpp>
#include <cctype>
#include <string>
#include <string_view>

#include "fscryptctl/crypto/key_identifier.h"
#include "fscryptctl/crypto/random.h"
#include "fscryptctl/crypto/wrap.h"

namespace fscryptctl {
namespace {

ShareCode sample_code() {
  ShareCode code;
  for (std::size_t i = 0; i < ShareCode::kSize; ++i) {
    code.writable()[i] = static_cast<std::uint8_t>(0x11 * i);
  }
  return code;
}

std::string text_of(const ShareCode& code) {
  const SecretBytes text = write_share_code(code);
  return {text.view().begin(), text.view().end()};
}

bool reads(std::string_view text, const ShareCode& code) {
  const std::optional<ShareCode> read = read_share_code(as_bytes(text));
  return read && equal_secrets(read->secret(), code.secret());
}

TEST_CASE("a one-time code is written in the one spelling of the format", "[share]") {
  // The independent reader writes the same: tests/project/test_metadata_format.py.
  CHECK(text_of(sample_code()) == "008J-4CT4-ANK7-F24S-NAXW-SQFE-ZZ5N-JCRF");
  CHECK(text_of(sample_code()).size() == kShareCodeTextSize);
}

TEST_CASE("people may write a one-time code as they like", "[share]") {
  const ShareCode code = sample_code();
  std::string text = text_of(code);
  CHECK(reads(text, code));
  CHECK(reads(" " + text + " \r\n", code));
  std::string plain;
  for (const char c : text) {
    if (c != '-') plain += c == '0' ? 'o' : c == '1' ? 'l' : static_cast<char>(std::tolower(c));
  }
  CHECK(reads(plain, code));
  for (int i = 0; i < 100; ++i) {
    const auto random = random_key<ShareCode>();
    CHECK(reads(text_of(random), random));
  }
}

TEST_CASE("a mistyped one-time code is noticed", "[share]") {
  const std::string text = text_of(sample_code());
  const auto refused = [](const std::string& typed) {
    INFO(typed);
    CHECK_FALSE(read_share_code(as_bytes(typed)));
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '-') continue;
    for (const char c : std::string_view("02468BDFHKNQSVYZU#")) {
      std::string typed = text;
      typed[i] = c;
      if (typed != text) refused(typed);
    }
    refused(std::string(text).erase(i, 1));
    refused(std::string(text).insert(i, 1, '7'));
    std::string swapped = text;
    if (i + 1 < text.size() && text[i + 1] != '-' && text[i] != text[i + 1]) {
      std::swap(swapped[i], swapped[i + 1]);
      refused(swapped);
    }
  }
  refused("");
  refused(std::string(1000, '0'));
  refused(std::string("\0", 1));
}

TEST_CASE("a shared key opens with its code and nothing else", "[share]") {
  const auto code = random_key<ShareCode>();
  const auto key = random_key<PolicyKey>();
  const SharedKeyContext context{key_identifier_of(key.view()), EncryptionOptions{}};
  const WrappedKey wrapped = wrap(wrapping_key_of(code), context, key);
  const std::optional<PolicyKey> opened = unwrap(wrapping_key_of(code), context, wrapped);
  REQUIRE(opened);
  CHECK(equal_secrets(opened->secret(), key.secret()));
  CHECK_FALSE(unwrap(wrapping_key_of(random_key<ShareCode>()), context, wrapped));

  SharedKeyContext other = context;
  other.options.padding_bytes = 16;
  CHECK_FALSE(unwrap(wrapping_key_of(code), other, wrapped));
  other = context;
  other.policy.bytes[0] ^= 1U;
  CHECK_FALSE(unwrap(wrapping_key_of(code), other, wrapped));
}

TEST_CASE("a shared key cannot pass for another kind of wrapping", "[share]") {
  const auto key = random_key<PolicyKey>();
  const KeyIdentifier policy = key_identifier_of(key.view());
  const Bytes shared = context_bytes(SharedKeyContext{policy, EncryptionOptions{}});
  CHECK(shared != context_bytes(PolicyKeyContext{policy, {}, EncryptionOptions{}, std::nullopt}));
  // Even with the very same bytes as the key that wraps.
  const auto wrapping = random_key<WrappingKey>();
  const ProtectorKey protector{SecretBytes(wrapping.view())};
  const WrappedKey wrapped = wrap(wrapping, SharedKeyContext{policy, EncryptionOptions{}}, key);
  for (const std::string_view id : {"0000000000000000", "73686172652d636f"}) {
    CHECK_FALSE(unwrap(
        protector,
        PolicyKeyContext{policy, *ProtectorId::from_hex(id), EncryptionOptions{}, std::nullopt},
        wrapped));
  }
}

}  // namespace
}  // namespace fscryptctl
