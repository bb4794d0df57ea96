#pragma once

#include <cstdint>

#include "fscryptctl/tree/progress.h"
#include "walk.h"

namespace fscryptctl {

/// Copies `size` bytes of a regular file into a new, empty one, with its holes, and lets the kernel
/// begin to write them, which is when it encrypts: so each thread encrypts what it copied.
void copy_contents(int source, int destination, std::uint64_t size, TreeProgress& progress,
                   const Interruption& interruption);

/// Whether two regular files of `size` bytes have the same contents.
[[nodiscard]] bool same_contents(int a, int b, std::uint64_t size,
                                 const Interruption& interruption);

}  // namespace fscryptctl
