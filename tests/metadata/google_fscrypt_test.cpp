#include "fscryptctl/metadata/google_fscrypt.h"

#include <catch2/catch.hpp>

#include "fscryptctl/base/error.h"
#include "google_files.h"

using namespace fscryptctl;
using namespace fscryptctl::test;

namespace {

const ProtectorId kId = *ProtectorId::from_hex(kGoogleProtectorId);
constexpr std::string_view kV1Id = "0123456789abcdef";

template <class Action>
std::optional<Errc> refusal(const Action& action) {
  try {
    action();
    return std::nullopt;
  } catch (const Error& error) {
    return error.code();
  }
}

std::optional<Errc> refused_protector(const std::string& bytes) {
  return refusal([&] { (void)parse_google_protector(bytes, kId); });
}

std::optional<Errc> refused_policy(const std::string& bytes,
                                   std::string_view name = kGooglePolicyId) {
  return refusal([&] { (void)parse_google_policy(bytes, name); });
}

std::uint32_t lanes_of(std::uint64_t parallelism, bool truncation_fixed) {
  const std::string bytes = google_protector(2, hashing_costs(parallelism, truncation_fixed));
  return parse_google_protector(bytes, kId).wrapping.kdf->costs.lanes;
}

}  // namespace

TEST_CASE("a passphrase protector of google/fscrypt's") {
  const GoogleProtector protector = parse_google_protector(google_protector(), kId);
  CHECK(protector.id == kId);
  CHECK(protector.name == "mine");
  CHECK(protector.source == Source::passphrase);
  CHECK_FALSE(protector.uid);
  CHECK(protector.wrapping.method == Method::passphrase);
  CHECK(protector.wrapping.kdf->costs == KdfCosts{3, 131072, 4});
  CHECK(protector.wrapping.kdf->salt[0] == 's');
  const auto& wrapped = std::get<GoogleWrappedKey>(protector.wrapping.wrapped);
  CHECK(wrapped.iv[15] == 'i');
  CHECK(wrapped.ciphertext == Bytes(32, 'c'));
  CHECK(wrapped.mac[31] == 'm');
}

TEST_CASE("login and raw key protectors of google/fscrypt's") {
  const GoogleProtector login =
      parse_google_protector(google_protector(1, hashing_costs(), 1000), kId);
  CHECK(login.source == Source::login);
  CHECK(login.uid == 1000);
  CHECK(parse_google_protector(google_protector(1), kId).uid == 0);
  const GoogleProtector raw = parse_google_protector(google_raw_protector(), kId);
  CHECK(raw.source == Source::raw_key);
  CHECK_FALSE(raw.wrapping.kdf);
}

TEST_CASE("lanes are those that google/fscrypt really hashed with") {
  CHECK(lanes_of(4, true) == 4);
  CHECK(lanes_of(255, true) == 255);
  CHECK(lanes_of(4, false) == 4);
  CHECK(lanes_of(0x104, false) == 4);
  CHECK(lanes_of(0xffff, false) == 255);
  for (const std::uint64_t lanes :
       {std::uint64_t{0}, std::uint64_t{256}, std::uint64_t{0x104}, ~std::uint64_t{0}}) {
    CHECK(refused_protector(google_protector(2, hashing_costs(lanes, true))) ==
          Errc::corrupt_metadata);
  }
  for (const std::uint64_t lanes : {std::uint64_t{0}, std::uint64_t{256}, ~std::uint64_t{0}}) {
    CHECK(refused_protector(google_protector(2, hashing_costs(lanes, false))) ==
          Errc::corrupt_metadata);
  }
}

TEST_CASE("policies of google/fscrypt's") {
  const GooglePolicy policy = parse_google_policy(google_policy(), kGooglePolicyId);
  CHECK(policy.key_identifier.hex() == kGooglePolicyId);
  CHECK(policy.options == EncryptionOptions{});
  REQUIRE(policy.wrappings.size() == 2);
  CHECK(policy.wrappings[0].protector == kId);
  CHECK(ciphertext_of(policy.wrappings[1].wrapped) == Bytes(64, 'c'));

  const EncryptionOptions adiantum =
      parse_google_policy(google_policy(google_options(9, 9, 4)), kGooglePolicyId).options;
  CHECK(adiantum.direct_key);
  CHECK(adiantum.padding_bytes == 4);
  CHECK_FALSE(refused_policy(google_policy(google_options(5, 6, 8))));
  CHECK_FALSE(refused_policy(google_policy(google_options(1, 10, 16))));
}

TEST_CASE("policies that cannot be taken over say why") {
  for (const std::uint64_t version : {0U, 1U}) {
    CHECK(refused_policy(google_policy(google_options(1, 4, 32, version), kV1Id), kV1Id) ==
          Errc::policy_version);
    CHECK(refused_policy(google_policy(google_options(1, 4, 32, version))) ==
          Errc::corrupt_metadata);
  }
  CHECK(refused_policy(google_policy(google_options(1, 4, 32, 3))) == Errc::newer_format);
  CHECK(refused_policy(google_policy(google_options(1, 4, 32, 2), kV1Id), kV1Id) ==
        Errc::corrupt_metadata);
  CHECK(refused_policy(google_policy(), "0123456789abcdef0123456789abcdee") ==
        Errc::corrupt_metadata);
  CHECK(refused_policy(google_policy(google_options(7, 8))) == Errc::newer_format);
  CHECK(refused_policy(google_policy(google_options(2, 4))) == Errc::newer_format);
  CHECK(refused_policy(google_policy(google_options(1, 9))) == Errc::corrupt_metadata);
  CHECK(refused_policy(google_policy(google_options(1, 4, 5))) == Errc::corrupt_metadata);
  CHECK(refused_policy(google_policy(google_options(std::uint64_t{1} << 32U | 1U))) ==
        Errc::newer_format);
  const std::string head = field(1, kGooglePolicyId) + field(2, google_options());
  CHECK(refused_policy(head) == Errc::corrupt_metadata);
  CHECK(refused_policy(head + field(3, google_policy_wrapping()) +
                       field(3, google_policy_wrapping())) == Errc::corrupt_metadata);
  std::string many = head;
  for (int i = 10; i < 27; ++i) {
    many += field(3, google_policy_wrapping("01234567890000" + std::to_string(i)));
  }
  CHECK(refused_policy(many) == Errc::newer_format);
}

TEST_CASE("google/fscrypt's messages are read strictly") {
  const std::string whole = google_raw_protector();
  CHECK_FALSE(refused_protector(whole));
  for (const std::string& bytes :
       {std::string(),
        whole + field(8, 1),
        whole + field(8, "x"),
        whole + field(3, "twice"),
        whole + varint(8U << 3U | 5U) + "four",
        whole + varint(8U << 3U | 1U) + "eightbyt",
        whole + '\x00' + '\x00',
        whole + '\x80',
        whole + '\x40' + std::string("\x80\x00", 2),
        whole + field(6, 0).substr(0, 1),
        whole + varint(6U << 3U) + std::string(10, '\xff') + '\x01',
        whole + varint(6U << 3U) + std::string(9, '\xff') + '\x02',
        whole + field(4, hashing_costs()),
        whole + field(5, std::string(16, 's')),
        field(1, kGoogleProtectorId) + field(2, 3) + field(3, "\xff\xfe") +
            field(7, wrapped_key_data(32)),
        field(1, kGoogleProtectorId) + field(2, 3) + field(3, 7) + field(7, wrapped_key_data(32)),
        field(1, kGoogleProtectorId) + field(2, 3),
        field(1, kGoogleProtectorId),
        google_protector(0),
        google_protector(2, ""),
        google_protector(1, hashing_costs(), ~0ULL),
        google_protector(1, hashing_costs(), 0xffffffff),
        google_protector() + std::string(kMaxGoogleFileSize, '\0')}) {
    CAPTURE(bytes.size());
    CHECK(refused_protector(bytes) == Errc::corrupt_metadata);
  }
  CHECK(refused_protector(google_protector(4)) == Errc::newer_format);
  CHECK(refusal([&] {
          (void)parse_google_protector(whole, *ProtectorId::from_hex("fedcba9876543210"));
        }) == Errc::corrupt_metadata);
}

TEST_CASE("every byte of google/fscrypt's files may be damaged or missing") {
  int accepted = 0;
  const auto look = [&](const std::string& damaged, const auto& parse) {
    const std::optional<Errc> code = refusal([&] { parse(damaged); });
    CHECK((!code || code == Errc::corrupt_metadata || code == Errc::newer_format ||
           code == Errc::policy_version));
    if (!code) ++accepted;
  };
  const auto damage = [&](const std::string& whole, const auto& parse) {
    for (std::size_t i = 0; i < whole.size(); ++i) {
      CHECK(refusal([&] { parse(whole.substr(0, i)); }));
      for (unsigned bit = 1; bit < 0x100; bit <<= 1U) {
        std::string damaged = whole;
        damaged[i] = static_cast<char>(static_cast<unsigned char>(damaged[i]) ^ bit);
        look(damaged, parse);
      }
    }
  };
  const auto protector = [](const std::string& bytes) { (void)parse_google_protector(bytes, kId); };
  const auto policy = [](const std::string& bytes) {
    (void)parse_google_policy(bytes, kGooglePolicyId);
  };
  damage(google_protector(2, hashing_costs(4, true)), protector);
  damage(google_protector(1, hashing_costs(4, true), 1000), protector);
  damage(google_raw_protector(), protector);
  damage(
      field(1, kGooglePolicyId) + field(2, google_options()) + field(3, google_policy_wrapping()),
      policy);
  CHECK(accepted > 0);  // a bit of a ciphertext, say: that is for the MAC to find
}

TEST_CASE("links of google/fscrypt's") {
  const GoogleLink link = parse_google_link("UUID=1234-ABCD\nPATH=/mnt/a b\n");
  CHECK(link.uuid == "1234-ABCD");
  CHECK(link.path == "/mnt/a b");
  CHECK(parse_google_link("UUID=deadbeef").uuid == "deadbeef");
  CHECK(parse_google_link("PATH=/\n").path == "/");
  CHECK(parse_google_link("SERIAL=7\nUUID=ab\nsomething\n").uuid == "ab");
  for (const char* const text :
       {"", "\n", "nonsense", "UUID=\n", "UUID=../../etc\n", "UUID=a b\n", "PATH=relative\n",
        "PATH=\n", "UUID=ab\nUUID=cd\n", "UUID", "uuid=ab\n"}) {
    CAPTURE(text);
    CHECK(refusal([&] { (void)parse_google_link(text); }) == Errc::corrupt_metadata);
  }
  CHECK(refusal([] { (void)parse_google_link(std::string("PATH=/\0", 7)); }) ==
        Errc::corrupt_metadata);
  CHECK(refusal([] { (void)parse_google_link("PATH=/" + std::string(5000, 'a')); }) ==
        Errc::corrupt_metadata);
}
