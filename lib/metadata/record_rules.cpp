#include "fscryptctl/metadata/record_rules.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <system_error>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/crypto/kdf.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kMaxPathSize = 4096;
constexpr std::size_t kMachineIdSize = 16;
constexpr std::ptrdiff_t kMaxLoginWrappings = 2;  // the current password's and the previous one's

// Of UTF-8 text: C0, DEL, and C1, which is C2 80 to C2 9F.
bool has_control_character(std::string_view text) {
  unsigned char previous = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) return true;
    if (previous == 0xc2 && byte < 0xa0) return true;
    previous = byte;
  }
  return false;
}

std::optional<unsigned> digits(std::string_view text) {
  unsigned value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  return value;
}

bool valid_machine_id(std::string_view text) {
  const std::optional<Bytes> raw = from_hex(text);
  return raw && raw->size() == kMachineIdSize;
}

template <class T>
bool has_duplicates(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  return std::adjacent_find(values.begin(), values.end()) != values.end();
}

std::ptrdiff_t count_of(const std::vector<ProtectorSummary::Way>& ways, Method method) {
  return std::count_if(ways.begin(), ways.end(),
                       [=](const ProtectorSummary::Way& way) { return way.method == method; });
}

std::optional<std::string> broken_hint_rule(const ProtectorSummary& summary) {
  if (summary.user.empty() && summary.machine_id.empty()) return std::nullopt;
  if (summary.source != Source::login) return "only a login protector has hints";
  if (!summary.user.empty() && !valid_user_hint(summary.user)) return "the user's name is invalid";
  if (!summary.machine_id.empty() && !valid_machine_id(summary.machine_id)) {
    return "the machine id is invalid";
  }
  return std::nullopt;
}

std::optional<std::string> broken_cost_rule(const ProtectorSummary::Way& way) {
  if (way.costs.has_value() != is_hashed(way.method)) return "a method has the wrong kind of kdf";
  if (way.costs && !valid_costs(*way.costs)) return "hashing costs are out of range";
  return std::nullopt;
}

std::optional<std::string> broken_ways_rule(const ProtectorSummary& summary) {
  const Method own = method_of(summary.source);
  const auto own_ways = count_of(summary.ways, own);
  const auto recovery_keys = count_of(summary.ways, Method::recovery_key);
  if (own_ways + recovery_keys != std::ssize(summary.ways)) {
    return "a method does not belong to the protector's source";
  }
  if (own_ways < 1) return "the protector's own method is missing";
  if (own_ways > (own == Method::login ? kMaxLoginWrappings : 1) || recovery_keys > 1) {
    return "there are too many wrappings of one method";
  }
  if (summary.algorithm == WrapAlgorithm::google_fscrypt_1 && summary.ways.size() != 1) {
    return "wrappings of google/fscrypt stand alone";
  }
  for (const ProtectorSummary::Way& way : summary.ways) {
    if (auto broken = broken_cost_rule(way)) return broken;
  }
  return std::nullopt;
}

bool mixes_algorithms(const ProtectorRecord& record) {
  return std::any_of(record.wrappings.begin(), record.wrappings.end(),
                     [&](const ProtectorWrapping& wrapping) {
                       return algorithm_of(wrapping.wrapped) != algorithm_of(record.wrappings);
                     });
}

bool has_google_wrapping(const PolicyRecord& record) {
  return std::any_of(record.wrappings.begin(), record.wrappings.end(), [](const auto& wrapping) {
    return algorithm_of(wrapping.wrapped) == WrapAlgorithm::google_fscrypt_1;
  });
}

bool repeats_generation(const ProtectorRecord& record) {
  std::vector<std::uint64_t> generations;
  for (const ProtectorWrapping& wrapping : record.wrappings) {
    if (wrapping.method != Method::recovery_key) generations.push_back(wrapping.generation);
  }
  return has_duplicates(std::move(generations));
}

}  // namespace

bool valid_time(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:ddZ";
  if (text.size() != kShape.size()) return false;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] != 'd' && kShape[i] != text[i]) return false;
  }
  const auto year = digits(text.substr(0, 4));
  const auto month = digits(text.substr(5, 2));
  const auto day = digits(text.substr(8, 2));
  const auto hour = digits(text.substr(11, 2));
  const auto minute = digits(text.substr(14, 2));
  const auto second = digits(text.substr(17, 2));
  if (!year || !month || !day || !hour || !minute || !second) return false;
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                         std::chrono::month(*month), std::chrono::day(*day)};
  return date.ok() && *hour < 24 && *minute < 60 && *second < 60;
}

bool valid_user_hint(std::string_view user) {
  return !user.empty() && user.size() <= kMaxNameSize && is_utf8(user) &&
         !has_control_character(user);
}

bool valid_name(std::string_view name) {
  return valid_user_hint(name) && name.find_first_of(":/") == std::string_view::npos;
}

bool fits_google_fscrypt(const EncryptionOptions& options) noexcept {
  const bool adiantum = options.contents == Mode::adiantum && options.filenames == Mode::adiantum;
  return options.contents != Mode::sm4_xts && options.filenames != Mode::sm4_cts &&
         options.direct_key == adiantum && !options.iv_ino_lblk_64 && !options.iv_ino_lblk_32 &&
         options.log2_data_unit_size == 0;
}

bool valid_path_hint(std::string_view path) {
  if (path.size() > kMaxPathSize || path.find('\0') != std::string_view::npos) return false;
  for (;;) {
    const std::size_t slash = path.find('/');
    const std::string_view component = path.substr(0, slash);
    if (component.empty() || component == "." || component == "..") return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

std::optional<std::string> broken_rule(const ProtectorSummary& summary) {
  if (!valid_name(summary.name)) return "the name is invalid";
  if (!valid_time(summary.created)) return "the creation time is invalid";
  if (auto broken = broken_hint_rule(summary)) return broken;
  return broken_ways_rule(summary);
}

std::optional<std::string> broken_rule(const PolicySummary& summary) {
  const std::size_t protectors = summary.protectors.size();
  if (protectors < 1) return "there is no protector";
  if (protectors > kMaxProtectorsOfPolicy) return "there are too many protectors";
  if (has_duplicates(summary.protectors)) return "a protector stands there twice";
  if (summary.paths.size() > kMaxPaths) return "there are too many paths";
  if (!std::all_of(summary.paths.begin(), summary.paths.end(), valid_path_hint)) {
    return "a path is invalid";
  }
  return std::nullopt;
}

std::optional<std::string> broken_rule(const ProtectorRecord& record) {
  ProtectorSummary summary = record.summary;
  summary.algorithm = algorithm_of(record.wrappings);
  summary.ways = ways_of(record.wrappings);
  if (mixes_algorithms(record)) return "wrappings are of different algorithms";
  if (auto broken = broken_rule(summary)) return broken;
  for (const ProtectorWrapping& wrapping : record.wrappings) {
    if (wrapping.generation == 0) return "a generation is out of range";
    if (ciphertext_of(wrapping.wrapped).size() != ProtectorKey::kSize)
      return "a wrapping has a wrong size";
  }
  if (repeats_generation(record)) return "two wrappings have the same generation";
  return std::nullopt;
}

std::optional<std::string> broken_rule(const PolicyRecord& record) {
  PolicySummary summary = record.summary;
  summary.protectors = protectors_of(record.wrappings);
  if (auto broken = broken_rule(summary)) return broken;
  if (auto broken = invalid_combination(record.options)) return broken;
  if (has_google_wrapping(record) && (record.operation || !fits_google_fscrypt(record.options))) {
    return "a wrapping of google/fscrypt stands with what that cannot express";
  }
  for (const PolicyWrapping& wrapping : record.wrappings) {
    if (ciphertext_of(wrapping.wrapped).size() != PolicyKey::kSize)
      return "a wrapping has a wrong size";
  }
  return std::nullopt;
}

}  // namespace fscryptctl
