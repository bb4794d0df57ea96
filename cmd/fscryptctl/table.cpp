#include "table.h"

#include <algorithm>
#include <clocale>
#include <cuchar>
#include <cwchar>
#include <memory>
#include <type_traits>
#include <utility>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

struct FreeLocale {
  void operator()(locale_t locale) const noexcept { freelocale(locale); }
};
using Locale = std::unique_ptr<std::remove_pointer_t<locale_t>, FreeLocale>;

/// While it lives, wcwidth and mbrtoc32 of this thread know UTF-8 where the system has the locale.
class Utf8Locale {
 public:
  Utf8Locale() : locale_(newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (locale_) previous_ = uselocale(locale_.get());
  }
  ~Utf8Locale() {
    if (locale_) uselocale(previous_);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

  explicit operator bool() const noexcept { return locale_ != nullptr; }

 private:
  Locale locale_;
  locale_t previous_{};
};

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

std::size_t code_points(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return count;
}

std::size_t width_in_locale(std::string_view text) {
  std::size_t width = 0;
  std::mbstate_t state{};
  while (!text.empty()) {
    char32_t character = 0;
    const std::size_t size = std::mbrtoc32(&character, text.data(), text.size(), &state);
    if (size == 0 || size > text.size()) return width + code_points(text);
    const int columns = wcwidth(static_cast<wchar_t>(character));
    width += columns < 0 ? 1 : static_cast<std::size_t>(columns);
    text.remove_prefix(size);
  }
  return width;
}

std::string joined(const std::vector<std::string>& row, const std::vector<std::size_t>& widths) {
  std::string line;
  for (std::size_t i = 0; i < row.size(); ++i) {
    line += row[i];
    if (i + 1 < row.size()) line.append(widths[i] - display_width(row[i]) + 2, ' ');
  }
  return line + "\n";
}

}  // namespace

std::size_t display_width(std::string_view text) {
  if (is_ascii(text)) return text.size();  // the usual case, without loading a locale
  const Utf8Locale utf8;
  return utf8 ? width_in_locale(text) : code_points(text);
}

Table::Table(std::vector<std::string> header) : header_(std::move(header)) {}

void Table::add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = printable(cell);
  rows_.push_back(std::move(row));
}

std::string Table::text(std::string_view indent) const {
  if (rows_.empty()) return "";
  std::vector<std::vector<std::string>> lines;
  if (!header_.empty()) lines.push_back(header_);
  lines.insert(lines.end(), rows_.begin(), rows_.end());
  std::vector<std::size_t> widths;
  for (const auto& line : lines) {
    widths.resize(std::max(widths.size(), line.size()));
    for (std::size_t i = 0; i < line.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(line[i]));
    }
  }
  std::string text;
  for (const auto& line : lines) text += std::string(indent) + joined(line, widths);
  return text;
}

}  // namespace fscryptctl
