#include "options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>

namespace fscryptctl::pam {
namespace {

std::set<std::string> words(std::string_view text) {
  std::set<std::string> found;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) found.emplace(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return found;
}

std::optional<unsigned> number(std::string_view text, unsigned most) {
  unsigned value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value > most) return std::nullopt;
  return value;
}

void set_prompt(Options& options, std::string_view value) {
  options.prompt_everywhere = value == "always";
  options.prompt = value == "always" || value == "never" ? std::set<std::string>() : words(value);
}

/// False if it is none.
bool apply(Options& options, std::string_view word) {
  constexpr unsigned kMostSeconds = 60;
  constexpr unsigned kLongest = 64;
  const std::size_t equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view() : word.substr(equals + 1);
  if (word == "keep_unlocked") return options.keep_unlocked = true;
  if (word == "quiet") return options.quiet = true;
  if (name == "prompt" && !value.empty()) {
    set_prompt(options, value);
    return true;
  }
  if (name == "skip" && !value.empty()) {
    options.skip = value == "none" ? std::set<std::string>() : words(value);
    return true;
  }
  if (name == "budget") {
    const auto seconds = number(value, kMostSeconds);
    if (seconds) options.budget = std::chrono::seconds(*seconds);
    return seconds.has_value();
  }
  if (name == "minlength") {
    const auto bytes = number(value, kLongest);
    if (bytes) options.shortest = *bytes;
    return bytes.has_value();
  }
  return false;
}

}  // namespace

Options Options::parse(int argc, const char** argv) {
  Options options;
  for (const char* word : std::span(argv, static_cast<std::size_t>(std::max(argc, 0)))) {
    if (!apply(options, word) && options.unknown.empty()) options.unknown = word;
  }
  return options;
}

bool is_card_service(const std::string& service) {
  constexpr std::array<std::string_view, 4> kParts = {"smartcard", "fingerprint", "fprint",
                                                      "pkcs11"};
  return std::any_of(kParts.begin(), kParts.end(), [&service](std::string_view part) {
    return service.find(part) != std::string::npos;
  });
}

}  // namespace fscryptctl::pam
