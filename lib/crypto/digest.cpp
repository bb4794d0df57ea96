#include "fscryptctl/crypto/digest.h"

#include "primitives.h"

namespace fscryptctl {

Sha256Digest sha256_of(ByteView data) { return crypto::sha256(data); }

}  // namespace fscryptctl
