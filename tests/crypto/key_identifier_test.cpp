#include "fscryptctl/crypto/key_identifier.h"

#include <catch2/catch.hpp>
#include <numeric>
#include <string_view>

namespace fscryptctl {
namespace {

/// `size` bytes that count up from `first`.
Bytes counting(std::size_t size, std::uint8_t first) {
  Bytes bytes(size);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

TEST_CASE("keys have the names that the kernel gives them") {
  // Read from a Linux 6.18 kernel, ADD_ENCRYPTION_KEY with each key.
  const auto [size, first, identifier, descriptor] =
      GENERATE(table<std::size_t, std::uint8_t, std::string_view, std::string_view>({
          {64, 0, "8699c2c53707405da5aba5ae4d8583c0", "04334e23057a6e2d"},
          {64, 1, "69b2f6edeee720cce0577937eb8a6751", "433c48721c7f03c2"},
          {32, 0, "37d7d76a59400083289c185526730d34", "572b248e70045051"},
          {16, 0, "7c656a522d30b5d06b3ecb33463b2e3b", "8956eb54d2377455"},
      }));
  const Bytes key = counting(size, first);
  CHECK(key_identifier_of(key).hex() == identifier);
  CHECK(key_descriptor_of(key).hex() == descriptor);
}

TEST_CASE("a protector key is named by the rule of descriptors") {
  const ProtectorKey key(SecretBytes(counting(32, 0)));
  CHECK(protector_id_of(key).hex() == "572b248e70045051");
}

}  // namespace
}  // namespace fscryptctl
