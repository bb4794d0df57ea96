#pragma once

#include <cstddef>

namespace fscryptctl {

/// Columns of the terminal behind `fd`; 80 where that cannot be told.
[[nodiscard]] std::size_t terminal_columns(int fd) noexcept;

}  // namespace fscryptctl
