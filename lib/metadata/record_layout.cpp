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

// Takes `prefix` off `text`; false if it does not begin so.
bool consume(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
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
  // Cutting is safe: no value goes over a line's end, so such a line is no part of one. A listing
  // then never pays for the second document.
  const std::size_t cut = text.find(kSecondMark);
  if (cut == std::string_view::npos) throw yaml::corrupt("the record has no second document");
  const std::size_t second = cut + kSecondMark.size();
  return {text.substr(kFirstMark.size(), cut + 1 - kFirstMark.size()), text.substr(second)};
}

}  // namespace fscryptctl
