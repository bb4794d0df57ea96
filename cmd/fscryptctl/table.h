#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fscryptctl {

/// Columns two spaces apart, aligned by what a terminal shows. Cells may hold any bytes: they are
/// made printable. The last column is not padded.
class Table {
 public:
  explicit Table(std::vector<std::string> header = {});  ///< no header line if empty

  void add(std::vector<std::string> row);
  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }

  /// All lines, each after `indent`, with newlines; nothing if there are no rows.
  [[nodiscard]] std::string text(std::string_view indent = "") const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

/// Columns that a terminal needs for printable UTF-8 text.
[[nodiscard]] std::size_t display_width(std::string_view text);

}  // namespace fscryptctl
