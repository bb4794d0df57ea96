#include "google_config.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"

namespace fscryptctl {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxSize = 16 * 1024;

Error corrupt(const std::string& what) {
  return {Errc::corrupt_metadata, "the configuration of google/fscrypt has " + what};
}

const json& member(const json& object, const char* name) {
  static const json none;
  if (!object.is_object()) throw corrupt("another form than is known");
  const auto found = object.find(name);
  return found == object.end() ? none : *found;
}

/// Numbers of 64 bits are written as text there, smaller ones as they are.
std::uint32_t number(const json& value, const char* what) {
  std::uint64_t result = std::numeric_limits<std::uint64_t>::max();
  if (value.is_number_unsigned()) result = value.get<std::uint64_t>();
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const char* const end = text.data() + text.size();
    const auto [stop, failure] = std::from_chars(text.data(), end, result);
    if (failure != std::errc{} || stop != end) result = std::numeric_limits<std::uint64_t>::max();
  }
  if (result > std::numeric_limits<std::uint32_t>::max()) {
    throw corrupt(std::string("a bad number: ") + what);
  }
  return static_cast<std::uint32_t>(result);
}

Source source_of(const json& value) {
  if (value.is_null() || value == "custom_passphrase") return Source::passphrase;
  if (value == "pam_passphrase") return Source::login;
  if (value == "raw_key") return Source::raw_key;
  throw corrupt("a source that is not known");
}

/// Modes are called there as here, but in one word: AES_256_XTS, Adiantum.
std::string mode_text(const json& value, const char* what) {
  if (!value.is_string()) throw corrupt(std::string("no mode: ") + what);
  std::string text = value.get<std::string>();
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

EncryptionOptions options_of(const json& value) {
  EncryptionOptions options;
  const auto contents = contents_mode_from_name(mode_text(member(value, "contents"), "contents"));
  const auto filenames =
      filenames_mode_from_name(mode_text(member(value, "filenames"), "filenames"));
  if (!contents || !filenames) throw corrupt("a mode that is not known");
  options.contents = *contents;
  options.filenames = *filenames;
  options.padding_bytes = number(member(value, "padding"), "padding");
  if (invalid_combination(options)) throw corrupt("modes that do not go together");
  return options;
}

KdfCosts costs_of(const json& value) {
  const KdfCosts costs{number(member(value, "time"), "time"),
                       number(member(value, "memory"), "memory"),
                       number(member(value, "parallelism"), "parallelism")};
  if (!valid_costs(costs)) throw corrupt("hashing costs that do not exist");
  return costs;
}

}  // namespace

Config parse_google_config(std::string_view text) {
  const json document = json::parse(text, nullptr, false);
  if (document.is_discarded()) throw corrupt("another form than is known");
  Config config;
  config.source = source_of(member(document, "source"));
  const json& costs = member(document, "hash_costs");
  if (!costs.is_null()) config.kdf = costs_of(costs);
  const json& options = member(document, "options");
  if (!options.is_null()) config.encryption = options_of(options);
  return config;
}

std::optional<Config> read_google_config(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = path.substr(0, slash + 1);
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  try {
    const auto text = read_untrusted_file(fd.get(), path.substr(slash + 1), 0, kMaxSize);
    if (!text) return std::nullopt;
    return parse_google_config(*text);
  } catch (Error& error) {
    error.with_path(path);
    throw;
  }
}

}  // namespace fscryptctl
