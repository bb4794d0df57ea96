#include "record_layout.h"

#include <algorithm>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/model.h"
#include "strict_yaml.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kMaxVersionDigits = 9;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// Takes `prefix` off `text`; false if it does not begin so.
bool consume(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

bool is_key(std::string_view text) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || is_digit(c) || c == '_'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), allowed);
}

bool is_word(std::string_view text) {
  const auto allowed = [](char c) {
    return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == ':';
  };
  return !text.empty() && (is_letter(text.front()) || is_digit(text.front())) &&
         text.back() != ':' && std::all_of(text.begin(), text.end(), allowed);
}

// Takes an escape off `text`, which begins with a backslash. What the digits mean is yaml-cpp's
// business: it refuses surrogates and numbers that are too great.
bool consume_escape(std::string_view& text) {
  if (consume(text, "\\\"") || consume(text, "\\\\")) return true;
  const std::size_t length = consume(text, "\\x")   ? 2
                             : consume(text, "\\u") ? 4
                             : consume(text, "\\U") ? 8
                                                    : 0;
  if (length == 0 || text.size() < length) return false;
  if (!std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(length), is_hex)) {
    return false;
  }
  text.remove_prefix(length);
  return true;
}

bool is_quoted_text(std::string_view text) {
  if (!consume(text, "\"")) return false;
  while (!text.empty() && text.front() != '"') {
    if (text.front() != '\\') {
      text.remove_prefix(1);
    } else if (!consume_escape(text)) {
      return false;
    }
  }
  return text == "\"";
}

bool is_value(std::string_view text) {
  return text == "[]" || is_word(text) || is_quoted_text(text);
}

bool is_field(std::string_view text) {
  const std::size_t colon = text.find(": ");
  return colon != std::string_view::npos && is_key(text.substr(0, colon)) &&
         is_value(text.substr(colon + 2));
}

bool is_record_line(std::string_view line) {
  if (consume(line, "    ")) return is_field(line);
  if (consume(line, "  - ")) return is_value(line) || is_field(line);
  if (is_field(line)) return true;
  return !line.empty() && line.back() == ':' && is_key(line.substr(0, line.size() - 1));
}

}  // namespace

void require_known_format(std::string_view text, std::string_view kind) {
  const bool known_start =
      consume(text, "---\nformat: fscryptctl-") && consume(text, kind) && consume(text, "-");
  const std::size_t end = text.find('\n');
  const std::string_view number = text.substr(0, end);
  if (!known_start || end == std::string_view::npos || number.empty() ||
      number.size() > kMaxVersionDigits || number.front() == '0' ||
      !std::all_of(number.begin(), number.end(), is_digit)) {
    throw yaml::corrupt("the text does not begin as one of its kind");
  }
  if (number != "1") throw Error(Errc::newer_format, "the format is not known");
}

RecordDocuments split_record(std::string_view text, std::string_view kind) {
  require_known_format(text, kind);
  if (text.size() > kMaxRecordSize) throw yaml::corrupt("the record is too long");
  if (text.back() != '\n') throw yaml::corrupt("the record's last line is cut off");
  constexpr std::string_view kFirstMark = "---\n";
  constexpr std::string_view kSecondMark = "\n---\n";
  // Cutting is safe: no value goes over a line's end (a quoted one ends on its line and a plain one
  // has no space, or the record is refused), so such a line is no part of one. yaml-cpp then never
  // sees, and a listing never pays for, the second document.
  const std::size_t cut = text.find(kSecondMark);
  if (cut == std::string_view::npos) throw yaml::corrupt("the record has no second document");
  const std::size_t second = cut + kSecondMark.size();
  return {text.substr(kFirstMark.size(), cut + 1 - kFirstMark.size()), text.substr(second)};
}

void require_record_lines(std::string_view document) {
  bool in_list = false;
  while (!document.empty()) {
    const std::size_t end = document.find('\n');
    const std::string_view line = document.substr(0, end);
    if (end == std::string_view::npos || !is_record_line(line)) {
      throw yaml::corrupt("a line does not have the form of a record's line");
    }
    // YAML would take an indented line after `key: value` for more of the value.
    if (!line.starts_with(' ')) in_list = line.ends_with(':');
    if (line.starts_with(' ') && !in_list) throw yaml::corrupt("a list item is out of place");
    document.remove_prefix(end + 1);
  }
}

}  // namespace fscryptctl
