#include "fscryptctl/crypto/key_identifier.h"

#include <openssl/crypto.h>

#include "primitives.h"

namespace fscryptctl {
namespace {

using crypto::Sha512;

template <class Id>
Id first_bytes(ByteView bytes) {
  Id id;
  std::copy_n(bytes.begin(), id.bytes.size(), id.bytes.begin());
  return id;
}

template <class Id>
Id double_hash_id(ByteView key) {
  Sha512 once = crypto::sha512(key);
  const Sha512 twice = crypto::sha512(once);
  // The single hash is no secret that opens anything, but it confirms a guess of the key, and
  // nobody should need to ask.
  OPENSSL_cleanse(once.data(), once.size());
  return first_bytes<Id>(twice);
}

}  // namespace

KeyIdentifier key_identifier_of(ByteView raw_key) {
  constexpr std::string_view kInfo("fscrypt\0\x01", 9);
  return first_bytes<KeyIdentifier>(
      crypto::hkdf(crypto::Hash::sha512, raw_key, {}, as_bytes(kInfo), KeyIdentifier::kSize)
          .view());
}

KeyDescriptor key_descriptor_of(ByteView raw_key) { return double_hash_id<KeyDescriptor>(raw_key); }

ProtectorId protector_id_of(const ProtectorKey& key) {
  return double_hash_id<ProtectorId>(key.view());
}

}  // namespace fscryptctl
