#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace fscryptctl {

/// The text of a file of /proc or /sys, whose size is not known before reading; `name` is resolved
/// from `dirfd` (AT_FDCWD for an absolute path). At most `limit` bytes, the rest is left out.
/// nullopt if it cannot be opened or read to its end: such files vanish with what they describe.
[[nodiscard]] std::optional<std::string> read_proc_file(int dirfd, const std::string& name,
                                                        std::size_t limit);

}  // namespace fscryptctl
