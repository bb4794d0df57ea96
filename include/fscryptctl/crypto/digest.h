#pragma once

#include <array>
#include <cstdint>

#include "fscryptctl/base/bytes.h"

namespace fscryptctl {

/// SHA-256 of public data: notices accidents, not attackers.
using Sha256Digest = std::array<std::uint8_t, 32>;
[[nodiscard]] Sha256Digest sha256_of(ByteView data);

}  // namespace fscryptctl
