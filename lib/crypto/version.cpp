#include "fscryptctl/crypto/version.h"

#include <openssl/crypto.h>

namespace fscryptctl {

std::string crypto_versions() {
  // libargon2 does not tell its version.
  return "OpenSSL " + std::string(OpenSSL_version(OPENSSL_FULL_VERSION_STRING));
}

}  // namespace fscryptctl
