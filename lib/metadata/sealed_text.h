#pragma once

#include <string>
#include <string_view>

namespace fscryptctl {

/// Texts of documents that end with one whose only line is the SHA-256 of all before that line, so
/// that what was cut off or damaged by accident is noticed.

/// `text`, which ends a line, with that document.
[[nodiscard]] std::string with_digest(std::string text);

/// `text` without it. Throws corrupt_metadata unless all is printable ASCII and line feeds, and the
/// digest fits.
[[nodiscard]] std::string_view without_digest(std::string_view text);

}  // namespace fscryptctl
