#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace fscryptctl {

/// Takes off and returns everything up to the next `separator`.
inline std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

template <class Number>
std::optional<Number> parse_number(std::string_view text, int base) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [parsed_to, error] = std::from_chars(text.data(), end, number, base);
  if (error != std::errc() || parsed_to != end) return std::nullopt;
  return number;
}

/// The same with blanks in front left out, for columns that are padded.
inline std::string_view take_column(std::string_view& text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  return take_until(text, ' ');
}

}  // namespace fscryptctl
