#pragma once

#include <string_view>

namespace fscryptctl {

/// The two documents of a record's text, each without its `---`.
struct RecordDocuments {
  std::string_view first;
  std::string_view second;
};

/// Throws newer_format or corrupt_metadata unless `text` begins as one of `kind` ("policy",
/// "protector", "backup") of format 1. The first bytes say what a text is, so that a later format
/// can be told from damage whatever else it changes.
void require_known_format(std::string_view text, std::string_view kind);

/// Cuts a record apart at its `---` lines; `kind` is "policy" or "protector". Checks the size, the
/// `format` line and where the documents are, not what stands in them.
/// Throws newer_format, judged before anything else, or corrupt_metadata.
[[nodiscard]] RecordDocuments split_record(std::string_view text, std::string_view kind);

}  // namespace fscryptctl
