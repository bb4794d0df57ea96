#pragma once

#include <string_view>

namespace fscryptctl {

/// The two documents of a record's text, each without its `---`.
struct RecordDocuments {
  std::string_view first;
  std::string_view second;
};

/// Cuts a record apart at its `---` lines; `kind` is "policy" or "protector". Checks the size, the
/// `format` line and where the documents are, not what stands in them.
/// Throws newer_format, judged before anything else, or corrupt_metadata.
[[nodiscard]] RecordDocuments split_record(std::string_view text, std::string_view kind);

}  // namespace fscryptctl
