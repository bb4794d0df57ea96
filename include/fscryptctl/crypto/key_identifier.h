#pragma once

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// The kernel's name for a v2 key (Documentation/filesystems/fscrypt.rst): HKDF-SHA512 with the raw
/// key as input, no salt, info "fscrypt\0" || 0x01, 16 bytes.
[[nodiscard]] KeyIdentifier key_identifier_of(ByteView raw_key);

/// The customary name of a v1 key: the first 8 bytes of SHA512(SHA512(key)).
[[nodiscard]] KeyDescriptor key_descriptor_of(ByteView raw_key);

/// The same rule names a protector key.
[[nodiscard]] ProtectorId protector_id_of(const ProtectorKey& key);

}  // namespace fscryptctl
