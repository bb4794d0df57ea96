#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace fscryptctl {

/// The text of a file of /proc or /sys, whose size is not known before reading; `name` is resolved
/// from `dirfd` (AT_FDCWD for an absolute path). At most `limit` bytes, the rest is left out.
/// nullopt if it cannot be opened or read to its end: such files vanish with what they describe.
[[nodiscard]] std::optional<std::string> read_proc_file(int dirfd, const std::string& name,
                                                        std::size_t limit);

/// The kernel writes awkward bytes of names there as a backslash and three octal digits, a
/// backslash among them, so that any other backslash is no escape and stays.
[[nodiscard]] std::string decode_octal_escapes(std::string_view text);

}  // namespace fscryptctl
