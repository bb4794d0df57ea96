#include "fscryptctl/crypto/wrap.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <numeric>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fscryptctl/crypto/key_identifier.h"
#include "fscryptctl/crypto/random.h"

namespace fscryptctl {
namespace {

// A protector key is wrapped by a wrapping key and a policy key by a protector key, never
// otherwise.
template <class Wrapper, class Context, class KeyType>
concept CanWrap = requires(const Wrapper& wrapper, const Context& context, const KeyType& key) {
  wrap(wrapper, context, key);
};
static_assert(CanWrap<WrappingKey, ProtectorKeyContext, ProtectorKey>);
static_assert(CanWrap<ProtectorKey, PolicyKeyContext, PolicyKey>);
static_assert(!CanWrap<ProtectorKey, ProtectorKeyContext, ProtectorKey>);
static_assert(!CanWrap<WrappingKey, PolicyKeyContext, PolicyKey>);
static_assert(!CanWrap<WrappingKey, ProtectorKeyContext, PolicyKey>);
static_assert(!CanWrap<WrappingKey, ProtectorKeyContext, WrappingKey>);

/// A key whose bytes count up from `first`.
template <class KeyType>
KeyType counting_key(std::uint8_t first) {
  KeyType key;
  std::iota(key.writable().begin(), key.writable().end(), first);
  return key;
}

template <class Array>
Array counting(std::uint8_t first) {
  Array bytes;
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

WrappingKey wrapping_key() { return counting_key<WrappingKey>(0x80); }
ProtectorKey protector_key() { return counting_key<ProtectorKey>(0); }
PolicyKey policy_key() { return counting_key<PolicyKey>(0); }

ProtectorKeyContext passphrase_context() {
  return {protector_id_of(protector_key()), "passphrase", 7,
          Argon2id{{3, 65536, 2}, counting<KdfSalt>(0x40)}};
}

ProtectorKeyContext recovery_context() {
  return {protector_id_of(protector_key()), "recovery-key", 1, std::nullopt};
}

PolicyKeyContext policy_context() {
  return {key_identifier_of(policy_key().view()), protector_id_of(protector_key()), {}, {}};
}

/// Every field of a policy's context away from its default.
PolicyKeyContext unusual_policy_context() {
  PolicyKeyContext context = policy_context();
  context.options = {Mode::aes_256_xts, Mode::aes_256_hctr2, 16, false, false, true, 12};
  context.operation = OperationId{counting<std::array<std::uint8_t, 16>>(0xa0)};
  return context;
}

template <class KeyType>
bool equal_keys(const std::optional<KeyType>& a, const KeyType& b) {
  return a && equal_secrets(a->secret(), b.secret());
}

WrappedKey wrapped_from_hex(std::string_view ciphertext, std::string_view mac) {
  WrappedKey wrapped{
      counting<std::array<std::uint8_t, 32>>(0xe0), from_hex(ciphertext).value(), {}};
  const Bytes mac_bytes = from_hex(mac).value();
  REQUIRE(mac_bytes.size() == wrapped.mac.size());
  std::ranges::copy(mac_bytes, wrapped.mac.begin());
  return wrapped;
}

// The expected bytes below come from another implementation of the format's text (Python's hashlib
// and hmac, and the openssl command for AES), with the salt e0 e1 ... ff.

TEST_CASE("the context of a protector key has the bytes that the format says") {
  CHECK(to_hex(context_bytes(passphrase_context())) ==
        "00000011"
        "6673637279707463746c2d777261702d31"  // fscryptctl-wrap-1
        "0000000d"
        "70726f746563746f722d6b6579"  // protector-key
        "00000008"
        "572b248e70045051"  // protector id
        "0000000a"
        "70617373706872617365"  // passphrase
        "00000008"
        "0000000000000007"  // generation
        "00000008"
        "6172676f6e326964"  // argon2id
        "00000008"
        "0000000000000013"  // its version
        "00000008"
        "0000000000000003"  // passes
        "00000008"
        "0000000000010000"  // memory
        "00000008"
        "0000000000000002"  // lanes
        "00000010"
        "404142434445464748494a4b4c4d4e4f");  // salt
}

TEST_CASE("the context of a key that is not hashed has zeros for the costs and no salt") {
  CHECK(to_hex(context_bytes(recovery_context())) ==
        "00000011"
        "6673637279707463746c2d777261702d31"  //
        "0000000d"
        "70726f746563746f722d6b6579"  //
        "00000008"
        "572b248e70045051"  //
        "0000000c"
        "7265636f766572792d6b6579"  // recovery-key
        "00000008"
        "0000000000000001"  //
        "00000004"
        "6e6f6e65"  // none
        "00000008"
        "0000000000000000"  //
        "00000008"
        "0000000000000000"  //
        "00000008"
        "0000000000000000"  //
        "00000008"
        "0000000000000000"  //
        "00000000");
}

TEST_CASE("the context of a policy key has the bytes that the format says") {
  CHECK(to_hex(context_bytes(unusual_policy_context())) ==
        "00000011"
        "6673637279707463746c2d777261702d31"  //
        "0000000a"
        "706f6c6963792d6b6579"  // policy-key
        "00000010"
        "8699c2c53707405da5aba5ae4d8583c0"  // key identifier
        "00000008"
        "572b248e70045051"  // protector id
        "00000008"
        "0000000000000000"  // no generation
        "00000004"
        "6e6f6e65"  // none
        "00000008"
        "0000000000000000"  //
        "00000008"
        "0000000000000000"  //
        "00000008"
        "0000000000000000"  //
        "00000008"
        "0000000000000000"  //
        "00000000"          //
        "00000008"
        "0000000000000001"  // contents AES-256-XTS
        "00000008"
        "000000000000000a"  // filenames AES-256-HCTR2
        "00000008"
        "0000000000000012"  // IV_INO_LBLK_32 and padding 16
        "00000008"
        "000000000000000c"  // data units of 4096 bytes
        "00000010"
        "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");  // operation
}

TEST_CASE("no two contexts have the same bytes, wherever a method's name ends") {
  ProtectorKeyContext a = recovery_context();
  ProtectorKeyContext b = recovery_context();
  a.method = "raw";
  b.method = std::string("raw\0\0\0\x08", 7);
  CHECK(context_bytes(a) != context_bytes(b));
}

TEST_CASE("wrappings that another implementation made open") {
  CHECK(equal_keys(
      unwrap(wrapping_key(), passphrase_context(),
             wrapped_from_hex("acbd9fc65971e164cf504c3f15fb9ea50197fb4596d41d2be1a05eeacfeae19f",
                              "0d3d7cbaf158ee58898d7a3d9d8ce5736620a5880d2a4a1c114b14311e23768c")),
      protector_key()));
  CHECK(equal_keys(
      unwrap(wrapping_key(), recovery_context(),
             wrapped_from_hex("a7f0dd3aefd724f19b89408443466be985b6915afd79a8122f3a5937c90b2352",
                              "ba39be324d255bac8841e8a23d2bd4baf838b9cdf3c06432aa3ed45ff79888c0")),
      protector_key()));
  CHECK(equal_keys(
      unwrap(protector_key(), policy_context(),
             wrapped_from_hex("1271b18a4363651da2172085f132e77e19235cbe06b2939cb8ad95d1d7609ecb"
                              "041aa1c135f667f6a31d8258900fda89e873b7369e98261c6314e747cf1f771e",
                              "3a9cb8f9f2e5891da6c222e829e6d0813cfbcb1b3e23ec0e9ab1f5a57b57c315")),
      policy_key()));
  CHECK(equal_keys(
      unwrap(protector_key(), unusual_policy_context(),
             wrapped_from_hex("b5486717e8667c0b4d6c83c3e17c3766dfcf4007e22396f2a544e54063b59b23"
                              "f6e4f1efda6309e5d58aa67ecfe74d0df02b0a6f72d0339e6dc1ee5a33e6a968",
                              "65c3523b0c490e7a0ac288912abe30c6c7c8275c1edd01afffd382feeb3f195e")),
      policy_key()));
}

TEST_CASE("what was wrapped opens again, and a fresh salt makes each wrapping different") {
  const auto key = random_key<ProtectorKey>();
  const ProtectorKeyContext context{protector_id_of(key), "raw-key", 1, std::nullopt};
  const WrappedKey first = wrap(wrapping_key(), context, key);
  const WrappedKey second = wrap(wrapping_key(), context, key);
  CHECK(equal_keys(unwrap(wrapping_key(), context, first), key));
  CHECK(equal_keys(unwrap(wrapping_key(), context, second), key));
  CHECK(first.salt != second.salt);
  CHECK(first.ciphertext != second.ciphertext);
  CHECK(first.mac != second.mac);
}

TEST_CASE("a wrapping is as long as its key and does not show it") {
  const WrappedKey protector = wrap(wrapping_key(), recovery_context(), protector_key());
  CHECK(protector.ciphertext.size() == 32);
  CHECK_FALSE(std::ranges::equal(protector.ciphertext, protector_key().view()));
  CHECK(wrap(protector_key(), policy_context(), policy_key()).ciphertext.size() == 64);
}

TEST_CASE("another secret does not open a wrapping") {
  const WrappedKey wrapped = wrap(wrapping_key(), passphrase_context(), protector_key());
  CHECK_FALSE(unwrap(counting_key<WrappingKey>(0x81), passphrase_context(), wrapped));
  CHECK_FALSE(unwrap(WrappingKey(), passphrase_context(), wrapped));

  const WrappedKey policy = wrap(protector_key(), policy_context(), policy_key());
  CHECK_FALSE(unwrap(counting_key<ProtectorKey>(1), policy_context(), policy));
}

template <class Wrapper, class Context>
bool any_flipped_bit_opens(const Wrapper& wrapper, const Context& context, const WrappedKey& whole,
                           const std::function<std::span<std::uint8_t>(WrappedKey&)>& part) {
  WrappedKey changed = whole;
  for (std::uint8_t& byte : part(changed)) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      byte ^= static_cast<std::uint8_t>(1U << bit);
      if (unwrap(wrapper, context, changed)) return true;
      byte ^= static_cast<std::uint8_t>(1U << bit);
    }
  }
  // Every change was taken back: so it was the changes that made the difference.
  return changed != whole || !unwrap(wrapper, context, changed);
}

TEST_CASE("a wrapping with any bit changed does not open") {
  const std::function<std::span<std::uint8_t>(WrappedKey&)> parts[] = {
      [](WrappedKey& wrapped) { return std::span<std::uint8_t>(wrapped.salt); },
      [](WrappedKey& wrapped) { return std::span<std::uint8_t>(wrapped.ciphertext); },
      [](WrappedKey& wrapped) { return std::span<std::uint8_t>(wrapped.mac); },
  };
  const WrappedKey protector = wrap(wrapping_key(), passphrase_context(), protector_key());
  const WrappedKey policy = wrap(protector_key(), policy_context(), policy_key());
  for (const auto& part : parts) {
    CHECK_FALSE(any_flipped_bit_opens(wrapping_key(), passphrase_context(), protector, part));
    CHECK_FALSE(any_flipped_bit_opens(protector_key(), policy_context(), policy, part));
  }
}

TEST_CASE("a wrapping of another length does not open") {
  WrappedKey shorter = wrap(wrapping_key(), recovery_context(), protector_key());
  WrappedKey longer = shorter;
  WrappedKey empty = shorter;
  shorter.ciphertext.pop_back();
  longer.ciphertext.push_back(0);
  empty.ciphertext.clear();
  CHECK_FALSE(unwrap(wrapping_key(), recovery_context(), shorter));
  CHECK_FALSE(unwrap(wrapping_key(), recovery_context(), longer));
  CHECK_FALSE(unwrap(wrapping_key(), recovery_context(), empty));
}

TEST_CASE("a wrapping of another length does not open, even if it was made with the right key") {
  // 64 and 0 bytes as a protector key, with MACs that are right.
  CHECK_FALSE(
      unwrap(wrapping_key(), recovery_context(),
             wrapped_from_hex("a7f0dd3aefd724f19b89408443466be985b6915afd79a8122f3a5937c90b2352"
                              "847020e3bb37fc28278170edfac28a1f8e423b61a0fafd564a278b1df172f9b8",
                              "08fff606c95f478a04f26c4d1e64f9c49f5cc43cf7baf95d4fbe68765139b669")));
  CHECK_FALSE(unwrap(
      wrapping_key(), recovery_context(),
      wrapped_from_hex("", "243c01521c88cde5aab49c224a2d6ae906b0bd82612fb10ccc9456fc95a2f413")));
}

TEST_CASE("a protector's wrapping opens in its own place only") {
  const WrappedKey wrapped = wrap(wrapping_key(), passphrase_context(), protector_key());
  const std::vector<std::function<void(ProtectorKeyContext&)>> changes{
      [](auto& context) { context.protector.bytes[7] ^= 1; },
      [](auto& context) { context.method = "login"; },
      [](auto& context) { context.method = ""; },
      [](auto& context) { context.generation = 8; },
      [](auto& context) { context.generation |= std::uint64_t{1} << 63U; },
      [](auto& context) { context.kdf.reset(); },
      [](auto& context) { context.kdf->costs.passes = 1; },
      [](auto& context) { context.kdf->costs.memory_kib = 16; },
      [](auto& context) { context.kdf->costs.lanes = 1; },
      [](auto& context) { context.kdf->salt[0] ^= 1; },
      [](auto& context) { std::swap(context.kdf->costs.passes, context.kdf->costs.lanes); },
  };
  for (const auto& change : changes) {
    ProtectorKeyContext context = passphrase_context();
    change(context);
    CHECK_FALSE(unwrap(wrapping_key(), context, wrapped));
  }
  CHECK(unwrap(wrapping_key(), passphrase_context(), wrapped));
}

TEST_CASE("a policy's wrapping opens in its own place only") {
  const WrappedKey wrapped = wrap(protector_key(), unusual_policy_context(), policy_key());
  const std::vector<std::function<void(PolicyKeyContext&)>> changes{
      [](auto& context) { context.policy.bytes[0] ^= 1; },
      [](auto& context) { context.protector.bytes[0] ^= 1; },
      [](auto& context) { context.options.contents = Mode::adiantum; },
      [](auto& context) { context.options.filenames = Mode::aes_256_cts; },
      [](auto& context) { context.options.padding_bytes = 32; },
      [](auto& context) { context.options.direct_key = true; },
      [](auto& context) { context.options.iv_ino_lblk_64 = true; },
      [](auto& context) { context.options.iv_ino_lblk_32 = false; },
      [](auto& context) { context.options.log2_data_unit_size = 0; },
      [](auto& context) { context.operation.reset(); },
      [](auto& context) { context.operation->bytes[15] ^= 1; },
  };
  for (const auto& change : changes) {
    PolicyKeyContext context = unusual_policy_context();
    change(context);
    CHECK_FALSE(unwrap(protector_key(), context, wrapped));
  }
  CHECK(unwrap(protector_key(), unusual_policy_context(), wrapped));
}

TEST_CASE("a key that is not the one named does not come out, whoever wrapped it") {
  const auto other_protector_key = counting_key<ProtectorKey>(1);
  CHECK_FALSE(unwrap(wrapping_key(), recovery_context(),
                     wrap(wrapping_key(), recovery_context(), other_protector_key)));
  const auto other_policy_key = counting_key<PolicyKey>(1);
  CHECK_FALSE(unwrap(protector_key(), policy_context(),
                     wrap(protector_key(), policy_context(), other_policy_key)));
}

GoogleWrappedKey google_wrapped(std::string_view ciphertext, std::string_view mac) {
  GoogleWrappedKey wrapped{
      counting<std::array<std::uint8_t, 16>>(0), from_hex(ciphertext).value(), {}};
  std::ranges::copy(from_hex(mac).value(), wrapped.mac.begin());
  return wrapped;
}

// Policy key 00 to 3f under 00 to 1f with the IV 00 to 0f; likewise the protector key 00 to 1f.

GoogleWrappedKey google_policy() {
  return google_wrapped(
      "d071d0108ec9a9948d7fdebc4184efbe"
      "050022fab1d77177ec92f753b6358f81f1e616a9af9bae8bc4c75b9ca2d71186"
      "0532f7a995cad19fc7eaee48ae2010c7",
      "b1c0b934c2c7c5fa8639ccf6d136111bb3678dcc37ec8237f8ffc3af81e471e9");
}

GoogleWrappedKey google_protector() {
  return google_wrapped("d071d0108ec9a9948d7fdebc4184efbe050022fab1d77177ec92f753b6358f81",
                        "ffd207ceb35ea7c3933c8a5b9b2dbafa6af8a3d47686cbab023c3cc704a8a30c");
}

TEST_CASE("a wrapping of google/fscrypt opens, whatever its context says besides the identifier") {
  const auto key = counting_key<ProtectorKey>(0);
  CHECK(equal_keys(unwrap(key, policy_context(), google_policy()), policy_key()));
  const auto wrapping = counting_key<WrappingKey>(0);
  ProtectorKeyContext context = passphrase_context();
  CHECK(equal_keys(unwrap(wrapping, context, google_protector()), protector_key()));
  context.generation = 1;
  context.method = "login";
  CHECK(unwrap(wrapping, context, google_protector()));
  context.protector.bytes[0] ^= 1;
  CHECK_FALSE(unwrap(wrapping, context, google_protector()));
  PolicyKeyContext other = policy_context();
  other.policy.bytes[15] ^= 1;
  CHECK_FALSE(unwrap(key, other, google_policy()));
}

TEST_CASE("no changed byte of google/fscrypt's wrapping opens, nor another size") {
  const auto key = counting_key<ProtectorKey>(0);
  GoogleWrappedKey wrapped = google_policy();
  for (const std::span<std::uint8_t> part :
       {std::span<std::uint8_t>(wrapped.iv), std::span<std::uint8_t>(wrapped.ciphertext),
        std::span<std::uint8_t>(wrapped.mac)}) {
    for (std::uint8_t& byte : part) {
      byte ^= 0x80;
      CHECK_FALSE(unwrap(key, policy_context(), wrapped));
      byte ^= 0x80;
    }
  }
  REQUIRE(unwrap(key, policy_context(), wrapped));
  CHECK_FALSE(unwrap(counting_key<ProtectorKey>(1), policy_context(), wrapped));
  CHECK_FALSE(unwrap(counting_key<WrappingKey>(0), passphrase_context(), wrapped));
  wrapped.ciphertext.pop_back();
  CHECK_FALSE(unwrap(key, policy_context(), wrapped));
}

TEST_CASE("algorithms have the names of the format") {
  for (const auto algorithm : {WrapAlgorithm::fscryptctl_wrap_1, WrapAlgorithm::google_fscrypt_1}) {
    CHECK(wrap_algorithm_from_name(wrap_algorithm_name(algorithm)) == algorithm);
  }
  CHECK(wrap_algorithm_name(algorithm_of(AnyWrappedKey(google_policy()))) == "google-fscrypt-1");
  CHECK(wrap_algorithm_name(algorithm_of(AnyWrappedKey(WrappedKey{}))) == "fscryptctl-wrap-1");
  CHECK_FALSE(wrap_algorithm_from_name("google-fscrypt-2"));
}

}  // namespace
}  // namespace fscryptctl
