#pragma once

#include <string>

namespace fscryptctl {

/// The cryptographic libraries inside this program, for `--version --verbose`: "OpenSSL 3.0.15".
[[nodiscard]] std::string crypto_versions();

}  // namespace fscryptctl
