#include "fscryptctl/metadata/share_codec.h"

#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/digest.h"
#include "sample_records.h"

namespace fscryptctl {
namespace {

SharedPolicy sample_share() {
  SharedPolicy shared;
  shared.created = "2026-11-22T10:11:12Z";
  shared.key_identifier = *KeyIdentifier::from_hex("8699c2c53707405da5aba5ae4d8583c0");
  shared.filesystem = FilesystemUuid::from_hex("00112233445566778899aabbccddeeff");
  shared.paths = {"team/caf\xc3\xa9", "team/\xff"};
  shared.wrapped = sample_wrapped_key(64, 0x30);
  return shared;
}

constexpr std::size_t kDigestLine = 73;

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t place = text.find(from);
  REQUIRE(place != std::string::npos);
  text.replace(place, from.size(), to);
  text.resize(text.size() - kDigestLine);
  return text + "sha256: " + to_hex(sha256_of(as_bytes(text))) + "\n";
}

std::optional<Errc> refusal(std::string_view text) {
  try {
    (void)parse_share(text);
    return std::nullopt;
  } catch (const Error& error) {
    return error.code();
  }
}

TEST_CASE("a share comes out of writing and reading as it was", "[share]") {
  SharedPolicy shared = sample_share();
  CHECK(parse_share(emit(shared)) == shared);
  shared.paths.clear();
  shared.filesystem.reset();
  shared.options.padding_bytes = 4;
  CHECK(parse_share(emit(shared)) == shared);
}

TEST_CASE("paths that do not fit into a share are left out, the oldest first", "[share]") {
  SharedPolicy shared = sample_share();
  shared.paths.clear();
  for (char c = 'a'; c < 'k'; ++c) shared.paths.push_back(std::string(4000, c));
  const std::string text = emit(shared);
  CHECK(text.size() <= kMaxRecordSize);
  const SharedPolicy read = parse_share(text);
  REQUIRE(read.paths.size() == 3);
  CHECK(read.paths.back() == shared.paths.back());
}

TEST_CASE("no byte of a share can change or be missing unnoticed", "[share]") {
  const std::string text = emit(sample_share());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (refusal(std::string_view(text).substr(0, i)) != Errc::corrupt_metadata) FAIL(i);
    for (const int change : {0x01, 0x20, 0x80}) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ change);
      if (!refusal(damaged)) FAIL(i);
    }
  }
  CHECK(refusal(text + "\n") == Errc::corrupt_metadata);
}

TEST_CASE("a share that breaks a rule is refused", "[share]") {
  const std::string text = emit(sample_share());
  const auto corrupt = [&](std::string_view from, std::string_view to) {
    INFO(from << " -> " << to);
    CHECK(refusal(replaced(text, from, to)) == Errc::corrupt_metadata);
  };
  corrupt("created: 2026-11-22", "created: 2026-02-30");
  corrupt("key_identifier: 8699", "key_identifier: 99");
  corrupt("filesystem: 00", "filesystem: ");
  corrupt("  - \"team", "  - \"/team");
  corrupt("padding: 32", "padding: 33");
  corrupt("padding: 32\n", "padding: 32\npadding: 32\n");
  corrupt("padding: 32\n", "padding: 32\nother: 32\n");
  corrupt("contents: AES-256-XTS", "contents: Adiantum");
  corrupt("salt: 30", "salt: ");
  corrupt("mac: ", "mac: 00");
  corrupt("fscryptctl-share-1", "fscryptctl-policy-1");
  CHECK(refusal(replaced(text, "fscryptctl-share-1", "fscryptctl-share-2")) == Errc::newer_format);
  CHECK(refusal(replaced(text, "fscryptctl-wrap-1", "fscryptctl-wrap-2")) == Errc::newer_format);
  CHECK(refusal(std::string(kMaxRecordSize + 1, 'x')) == Errc::corrupt_metadata);
}

}  // namespace
}  // namespace fscryptctl
