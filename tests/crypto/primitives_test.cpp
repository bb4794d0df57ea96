#include "../../lib/crypto/primitives.h"

#include <catch2/catch.hpp>
#include <numeric>

namespace fscryptctl::crypto {
namespace {

Bytes hex(std::string_view text) { return from_hex(text).value(); }

Bytes counting(std::size_t size, std::uint8_t first) {
  Bytes bytes(size);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

std::string hkdf_hex(Hash hash, const Bytes& key, const Bytes& salt, const Bytes& info,
                     std::size_t size) {
  return to_hex(hkdf(hash, key, salt, info, size).view());
}

}  // namespace

TEST_CASE("SHA-2 gives the examples of FIPS 180") {
  CHECK(to_hex(sha256(as_bytes("abc"))) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(to_hex(sha512(as_bytes("abc"))) ==
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
}

TEST_CASE("HMAC-SHA256 gives the examples of RFC 4231") {
  CHECK(to_hex(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?"))) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(to_hex(hmac_sha256(Bytes(131, 0xaa),
                           as_bytes("Test Using Larger Than Block-Size Key - Hash Key First"))) ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST_CASE("HKDF-SHA256 gives the examples of RFC 5869") {
  CHECK(hkdf_hex(Hash::sha256, Bytes(22, 0x0b), counting(13, 0), counting(10, 0xf0), 42) ==
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  CHECK(hkdf_hex(Hash::sha256, counting(80, 0), counting(80, 0x60), counting(80, 0xb0), 82) ==
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c6"
        "5e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
  CHECK(hkdf_hex(Hash::sha256, Bytes(22, 0x0b), {}, {}, 42) ==
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST_CASE("HKDF-SHA512 expands over several blocks and takes a salt longer than one") {
  // Python's hmac and hashlib.
  CHECK(hkdf_hex(Hash::sha512, counting(80, 0), counting(200, 0), counting(80, 0xb0), 200) ==
        "fc5501085918724faa25650ce87d06e135f319a0cf0f2a92d3687df6c5ae6a0fcfd5efc908c71212a1852454"
        "8868de258181db7352f7e30813d161001c5299cc7ba4a3561221ab92883a4ae0f6118c010ffc64621ed8f576"
        "208005959d83de7a2ae9833fce558d35b0613556aa99f1d8e9cc44c538bf4b3878f5b95af67f761c95820e16"
        "e23709c3d8cd898622107befe272dac1d13add2a28b38399ba881e650cacfc5ec5bf35f58ebf77d8a11d5e7f"
        "ca5ec7793510aac0486581162edefcc6a9647551e6fd5f25");
}

TEST_CASE("AES-256-CTR gives the example of NIST SP 800-38A") {
  const Bytes in = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
  AesCounter counter{};
  std::iota(counter.begin(), counter.end(), std::uint8_t{0xf0});
  Bytes out(in.size());
  aes_256_ctr(hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"), counter, in,
              out);
  CHECK(to_hex(out) == "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5");
}

}  // namespace fscryptctl::crypto
