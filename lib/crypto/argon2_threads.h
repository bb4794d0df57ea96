#pragma once

#include <cstdint>

namespace fscryptctl::crypto {

/// How many processors this process may use.
[[nodiscard]] std::uint32_t usable_cores() noexcept;

}  // namespace fscryptctl::crypto
