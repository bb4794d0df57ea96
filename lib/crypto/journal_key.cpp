#include "fscryptctl/crypto/journal_key.h"

#include "primitives.h"

namespace fscryptctl {

JournalKey journal_key_of(const PolicyKey& key, const OperationId& operation) {
  return JournalKey(crypto::hkdf(crypto::Hash::sha256, key.view(), operation.bytes,
                                 as_bytes("fscryptctl-journal-1"), JournalKey::kSize));
}

JournalMac journal_mac(const JournalKey& key, std::string_view text) {
  return crypto::hmac_sha256(key.view(), as_bytes(text));
}

}  // namespace fscryptctl
