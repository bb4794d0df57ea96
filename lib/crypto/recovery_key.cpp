#include "fscryptctl/crypto/recovery_key.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "primitives.h"

namespace fscryptctl {
namespace {

constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::string_view kHashLabel = "fscryptctl-recovery-key-1";
constexpr std::size_t kGroups = kRecoveryKeyGroups;
constexpr std::size_t kGroupSize = kRecoveryKeyGroupSize;
constexpr std::size_t kSymbols = kGroups * kGroupSize;
constexpr std::size_t kDataOfGroup = kGroupSize - 1;
constexpr std::size_t kHashSize = 3;
// 56 symbols of five bits are these 35 bytes exactly, and a group's seven symbols are 35 bits.
constexpr std::size_t kPayload = RecoveryKey::kSize + kHashSize;
static_assert(kPayload * 8 == kGroups * kDataOfGroup * 5);

constexpr std::uint8_t kUnknown = 0xff;
// No text that is far from the right length is looked at closer.
constexpr std::size_t kMaxSymbols = kSymbols + 2 * kGroupSize;
constexpr std::size_t kGroupsOfResemblance = 3;

/// Times x in GF(32) modulo x^5 + x^2 + 1, of which x generates all elements but zero.
constexpr std::uint8_t times_x(std::uint8_t value) {
  const unsigned shifted = value * 2U;
  return static_cast<std::uint8_t>((shifted & 32U) != 0 ? shifted ^ 0x25U : shifted);
}

/// The sum over the data of a group with weights x^7 .. x^1, and its number. The check character
/// has weight 1 = x^0: all eight weights differ, and so do the numbers.
std::uint8_t check_symbol(ByteView data, std::size_t group) {
  std::uint8_t sum = 0;
  for (const std::uint8_t symbol : data) sum = times_x(sum ^ symbol);
  return static_cast<std::uint8_t>(sum ^ (group + 1));
}

bool is_right(ByteView symbols, std::size_t group) {
  const ByteView data = symbols.first(kDataOfGroup);
  if (std::find(symbols.begin(), symbols.begin() + kGroupSize, kUnknown) !=
      symbols.begin() + kGroupSize) {
    return false;
  }
  return check_symbol(data, group) == symbols[kDataOfGroup];
}

/// The first bytes of a hash of the key and a label that no other use has.
std::array<std::uint8_t, kHashSize> hash_of(ByteView key) {
  SecretBytes input(kHashLabel.size() + 1 + key.size());
  const std::span<std::uint8_t> out = input.writable();
  std::copy(kHashLabel.begin(), kHashLabel.end(), out.begin());
  std::copy(key.begin(), key.end(), out.begin() + kHashLabel.size() + 1);
  const crypto::Sha256 hash = crypto::sha256(input.view());
  return {hash[0], hash[1], hash[2]};
}

std::uint8_t symbol_of(std::uint8_t character) {
  if (character >= 'a' && character <= 'z') character = static_cast<std::uint8_t>(character - 32);
  if (character == 'O') return 0;
  if (character == 'I' || character == 'L') return 1;
  if (character == 'U') character = 'V';
  const std::size_t found = kAlphabet.find(static_cast<char>(character));
  return found == std::string_view::npos ? kUnknown : static_cast<std::uint8_t>(found);
}

bool is_separator(std::uint8_t byte) {
  return byte == ' ' || byte == '-' || (byte >= '\t' && byte <= '\r');
}

/// Of a character of several bytes, which no recovery key has, all but the first: one mistake.
bool is_continued(std::uint8_t before, std::uint8_t byte) {
  return before >= 0x80 && byte >= 0x80 && byte < 0xc0;
}

/// What the characters of a text stand for; kUnknown for those that no recovery key has.
SecretBytes symbols_of(ByteView text) {
  SecretBytes symbols(std::min(text.size(), kMaxSymbols + 1));
  std::size_t size = 0;
  std::uint8_t before = 0;
  for (const std::uint8_t byte : text) {
    if (is_separator(byte) || is_continued(std::exchange(before, byte), byte)) continue;
    if (size == symbols.size()) break;
    symbols.writable()[size++] = symbol_of(byte);
  }
  symbols.truncate(size);
  return symbols;
}

/// The symbols of the canonical text.
SecretBytes symbols_of(const RecoveryKey& key) {
  SecretBytes payload(kPayload);
  std::ranges::copy(key.view(), payload.writable().begin());
  std::ranges::copy(hash_of(key.view()), payload.writable().begin() + RecoveryKey::kSize);
  SecretBytes symbols(kSymbols);
  std::size_t at = 0;
  std::size_t bit = 0;
  for (std::size_t group = 0; group < kGroups; ++group) {
    const std::size_t begin = at;
    for (std::size_t i = 0; i < kDataOfGroup; ++i, bit += 5) {
      // Five bits lie in two bytes at most; behind the last byte none is needed.
      const unsigned high = payload.view()[bit / 8];
      const unsigned low = bit / 8 + 1 < kPayload ? payload.view()[bit / 8 + 1] : 0;
      symbols.writable()[at++] =
          static_cast<std::uint8_t>((high << 8U | low) >> (11 - bit % 8) & 31U);
    }
    symbols.writable()[at++] = check_symbol(symbols.view().subspan(begin, kDataOfGroup), group);
  }
  return symbols;
}

/// nullopt if the hash does not fit. All groups are right.
std::optional<RecoveryKey> decoded(ByteView symbols) {
  SecretBytes payload(kPayload + 1);  // what the last shift moves out lands in the spare byte
  std::size_t bit = 0;
  for (std::size_t i = 0; i < kSymbols; ++i) {
    if (i % kGroupSize == kDataOfGroup) continue;
    const unsigned shifted = static_cast<unsigned>(symbols[i]) << (11 - bit % 8);
    payload.writable()[bit / 8] |= static_cast<std::uint8_t>(shifted >> 8U);
    payload.writable()[bit / 8 + 1] |= static_cast<std::uint8_t>(shifted);
    bit += 5;
  }
  const ByteView key = payload.view().first(RecoveryKey::kSize);
  const auto hash = payload.view().subspan(RecoveryKey::kSize, kHashSize);
  if (!std::ranges::equal(hash_of(key), hash)) return std::nullopt;
  return RecoveryKey(SecretBytes(key));
}

std::string list_of(const std::vector<std::size_t>& groups, std::string_view conjunction) {
  std::string list;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (i > 0) list += i + 1 == groups.size() ? std::string(conjunction) : ", ";
    list += std::to_string(groups[i] + 1);
  }
  return list;
}

/// "group 3 is SUCH", "groups 3 and 5 are SUCH"
std::string groups_are(const std::vector<std::size_t>& groups, const std::string& such) {
  const bool one = groups.size() == 1;
  return (one ? "group " : "groups ") + list_of(groups, " and ") + (one ? " is " : " are ") + such;
}

/// How many groups are right one after the other, counted from the start.
std::size_t right_from_start(ByteView symbols) {
  std::size_t count = 0;
  while (count < kGroups && (count + 1) * kGroupSize <= symbols.size() &&
         is_right(symbols.subspan(count * kGroupSize), count)) {
    ++count;
  }
  return count;
}

/// Likewise from the end.
std::size_t right_from_end(ByteView symbols) {
  std::size_t count = 0;
  while (
      count < kGroups && (count + 1) * kGroupSize <= symbols.size() &&
      is_right(symbols.subspan(symbols.size() - (count + 1) * kGroupSize), kGroups - 1 - count)) {
    ++count;
  }
  return count;
}

std::string characters(std::size_t count) {
  return std::to_string(count) + (count == 1 ? " character" : " characters");
}

/// For a text of another length than a recovery key's.
RecoveryKeyReading wrong_length(ByteView symbols) {
  const std::size_t from_start = right_from_start(symbols);
  const std::size_t from_end = right_from_end(symbols);
  RecoveryKeyReading reading;
  reading.resembles = from_start + from_end >= kGroupsOfResemblance;
  const bool fewer = symbols.size() < kSymbols;
  const std::size_t by = fewer ? kSymbols - symbols.size() : symbols.size() - kSymbols;
  // The first group that can be the one: all behind it are right when counted from the end.
  std::vector<std::size_t> where;
  for (std::size_t group = 0; group < kGroups && by <= kGroupSize; ++group) {
    if (from_start >= group && from_end >= kGroups - 1 - group) where.push_back(group);
  }
  if (where.empty()) {
    reading.fault =
        symbols.size() > kMaxSymbols
            ? "it has many more than the " + std::to_string(kSymbols) + " characters"
            : "it has " + characters(symbols.size()) + ", expected " + std::to_string(kSymbols);
    return reading;
  }
  const std::string group = "group " + list_of(where, " or ");
  if (fewer && by == kGroupSize) {
    reading.fault = group + " is missing";
  } else {
    reading.fault = group + " has " + characters(by) + (fewer ? " too few" : " too many");
  }
  return reading;
}

std::vector<std::size_t> wrong_groups(ByteView symbols) {
  std::vector<std::size_t> wrong;
  for (std::size_t group = 0; group < kGroups; ++group) {
    if (!is_right(symbols.subspan(group * kGroupSize), group)) wrong.push_back(group);
  }
  return wrong;
}

}  // namespace

SecretBytes write_recovery_key(const RecoveryKey& key) {
  const SecretBytes symbols = symbols_of(key);
  SecretBytes text(kRecoveryKeyTextSize);
  std::size_t at = 0;
  for (std::size_t i = 0; i < kSymbols; ++i) {
    if (i > 0 && i % kGroupSize == 0) text.writable()[at++] = '-';
    text.writable()[at++] = static_cast<std::uint8_t>(kAlphabet[symbols.view()[i]]);
  }
  return text;
}

RecoveryKeyReading read_recovery_key(ByteView text) {
  const SecretBytes symbols = symbols_of(text);
  if (symbols.size() != kSymbols) return wrong_length(symbols.view());
  const std::vector<std::size_t> wrong = wrong_groups(symbols.view());
  RecoveryKeyReading reading;
  reading.resembles = kGroups - wrong.size() >= kGroupsOfResemblance;
  if (wrong.empty()) {
    reading.key = decoded(symbols.view());
    if (!reading.key) reading.fault = "it is mistyped, in a group that could be right by itself";
  } else if (wrong.size() == kGroups) {
    reading.fault = "no group of it is right";
  } else {
    reading.fault = groups_are(wrong, "mistyped");
  }
  return reading;
}

std::string fault_of_copy(const RecoveryKey& key, ByteView typed) {
  const SecretBytes right = symbols_of(key);
  const SecretBytes symbols = symbols_of(typed);
  if (symbols.size() != kSymbols) return wrong_length(symbols.view()).fault;
  std::vector<std::size_t> wrong;
  for (std::size_t group = 0; group < kGroups; ++group) {
    const std::size_t at = group * kGroupSize;
    if (!std::ranges::equal(right.view().subspan(at, kGroupSize),
                            symbols.view().subspan(at, kGroupSize))) {
      wrong.push_back(group);
    }
  }
  return wrong.empty() ? "" : groups_are(wrong, "mistyped");
}

}  // namespace fscryptctl
