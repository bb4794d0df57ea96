#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/crypto/wrap.h"

namespace fscryptctl {

/// `text`, which is valid UTF-8, as a quoted text in its canonical spelling.
[[nodiscard]] std::string quote(std::string_view text);

/// Lines of a record: a field of the document, or one of a list item.
class Lines {
 public:
  void begin_document() { text_ += "---\n"; }
  void field(std::string_view key, std::string_view value) { line("", key, value); }
  void begin_list(std::string_view key) { text_.append(key).append(":\n"); }
  void item(std::string_view value) { text_.append("  - ").append(value).append("\n"); }
  void first_item_field(std::string_view key, std::string_view value) { line("  - ", key, value); }
  void item_field(std::string_view key, std::string_view value) { line("    ", key, value); }
  void item_field(std::string_view key, std::uint64_t value) {
    item_field(key, std::to_string(value));
  }

  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  void line(std::string_view indent, std::string_view key, std::string_view value) {
    text_.append(indent).append(key).append(": ").append(value).append("\n");
  }

  std::string text_;
};

/// A path hint as an item of a list.
void emit_path(Lines& lines, const std::string& path);
/// contents, filenames, padding, flags and data_unit_size as fields of a document.
void emit_options(Lines& lines, const EncryptionOptions& options);
/// salt, ciphertext and mac as further fields of a list item.
void emit_wrapped_key(Lines& lines, const WrappedKey& wrapped);

}  // namespace fscryptctl
