#pragma once

#include <cstdint>
#include <string>

namespace fscryptctl {

/// For people, in decimal units: "512 bytes", "1.2 GB".
[[nodiscard]] std::string human_size(std::uint64_t bytes);

}  // namespace fscryptctl
