#include "fscryptctl/metadata/homed.h"

#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <optional>
#include <string>

#include "fscryptctl/crypto/base64.h"

namespace fscryptctl {
namespace {

constexpr std::string_view kPrefix = "trusted.fscrypt_slot";
constexpr std::string_view kVersion2 = "$v2";
constexpr std::uint32_t kLegacyIterations = 65535;
constexpr std::size_t kMaxValueSize = 1024;
constexpr std::size_t kMaxListSize = 65536;
constexpr std::size_t kMaxSlots = 64;

Error corrupt() { return {Errc::corrupt_metadata, "the slot is malformed"}; }

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t colon = text.find(':');
    parts.push_back(text.substr(0, colon));
    if (colon == std::string_view::npos) return parts;
    text.remove_prefix(colon + 1);
  }
}

template <std::size_t N>
std::array<std::uint8_t, N> decoded(std::string_view base64) {
  const std::optional<Bytes> bytes = base64_decode(base64);
  if (!bytes || bytes->size() != N) throw corrupt();
  std::array<std::uint8_t, N> result{};
  std::copy(bytes->begin(), bytes->end(), result.begin());
  return result;
}

std::optional<std::uint32_t> decimal(std::string_view text) {
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, value);
  const bool leading_zero = text.size() > 1 && text.front() == '0';
  if (failure != std::errc{} || stop != end || leading_zero) return std::nullopt;
  return value;
}

std::uint32_t iterations(std::string_view text) {
  constexpr std::uint32_t kMax = 0x7fffffff;
  const std::optional<std::uint32_t> count = decimal(text);
  if (!count || *count == 0 || *count > kMax) throw corrupt();
  if (*count > kMaxHomedIterations) {
    throw Error(Errc::kdf_limit, "hashing the password takes " + std::to_string(*count) +
                                     " rounds, more than the limit here");
  }
  return *count;
}

std::optional<std::string> attribute(int fd, const std::string& name) {
  std::string value(kMaxValueSize, '\0');
  const ssize_t size = ::fgetxattr(fd, name.c_str(), value.data(), value.size());
  if (size < 0 && errno == ERANGE) throw corrupt();
  if (size < 0 && errno == ENODATA) return std::nullopt;
  if (size < 0) throw system_error(errno, "reading an extended attribute");
  value.resize(static_cast<std::size_t>(size));
  return value;
}

/// Slot numbers with their attributes' names.
std::map<std::uint32_t, std::string> slot_names(int fd) {
  std::string list(kMaxListSize, '\0');
  const ssize_t size = ::flistxattr(fd, list.data(), list.size());
  if (size < 0 && errno == EOPNOTSUPP) return {};
  if (size < 0) throw system_error(errno, "listing extended attributes");
  list.resize(static_cast<std::size_t>(size));
  std::map<std::uint32_t, std::string> names;
  for (std::string_view rest = list; !rest.empty();) {
    const std::string_view name = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(name.size() + 1, rest.size()));
    if (!name.starts_with(kPrefix)) continue;
    const std::optional<std::uint32_t> number = decimal(name.substr(kPrefix.size()));
    if (number && names.size() < kMaxSlots) names.emplace(*number, name);
  }
  return names;
}

}  // namespace

HomedSlot parse_homed_slot(std::string_view value) {
  if (value.size() > kMaxValueSize) throw corrupt();
  const std::vector<std::string_view> parts = split(value);
  HomedSlot slot;
  if (value.starts_with('$')) {
    if (parts[0] != kVersion2) throw Error(Errc::newer_format, "the slot's version is not known");
    if (parts.size() != 6) throw corrupt();
    slot.iterations = iterations(parts[1]);
    slot.salt = decoded<64>(parts[2]);
    slot.seal = HomedSlot::Seal{decoded<12>(parts[3]), {}};
    slot.ciphertext = decoded<64>(parts[4]);
    slot.seal->tag = decoded<16>(parts[5]);
    return slot;
  }
  if (parts.size() != 2) throw corrupt();
  slot.iterations = kLegacyIterations;
  slot.salt = decoded<64>(parts[0]);
  slot.ciphertext = decoded<64>(parts[1]);
  return slot;
}

HomedSlots read_homed_slots(int directory_fd) {
  HomedSlots found;
  for (const auto& [number, name] : slot_names(directory_fd)) {
    try {
      if (const std::optional<std::string> value = attribute(directory_fd, name)) {
        found.slots.push_back(parse_homed_slot(*value));
      }
    } catch (const Error& error) {
      found.unusable.push_back(Error(error).with_path(name));
    }
  }
  return found;
}

}  // namespace fscryptctl
