#include "fscryptctl/base/encryption_options.h"

#include <algorithm>
#include <array>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

struct ModeEntry {
  Mode mode;
  std::string_view name;
  bool contents;
  bool filenames;
};

constexpr std::array kModes = {
    ModeEntry{Mode::aes_256_xts, "AES-256-XTS", true, false},
    ModeEntry{Mode::aes_256_cts, "AES-256-CTS", false, true},
    ModeEntry{Mode::aes_128_cbc, "AES-128-CBC", true, false},
    ModeEntry{Mode::aes_128_cts, "AES-128-CTS", false, true},
    ModeEntry{Mode::sm4_xts, "SM4-XTS", true, false},
    ModeEntry{Mode::sm4_cts, "SM4-CTS", false, true},
    ModeEntry{Mode::adiantum, "Adiantum", true, true},
    ModeEntry{Mode::aes_256_hctr2, "AES-256-HCTR2", false, true},
};

struct ModePair {
  Mode contents;
  Mode filenames;
};

// The pairs of a v2 policy.
constexpr std::array kPairs = {
    ModePair{Mode::aes_256_xts, Mode::aes_256_cts},
    ModePair{Mode::aes_128_cbc, Mode::aes_128_cts},
    ModePair{Mode::adiantum, Mode::adiantum},
    ModePair{Mode::aes_256_xts, Mode::aes_256_hctr2},
    ModePair{Mode::sm4_xts, Mode::sm4_cts},
};

constexpr unsigned kFlagPaddingMask = 0x03;
constexpr unsigned kFlagDirectKey = 0x04;
constexpr unsigned kFlagIvInoLblk64 = 0x08;
constexpr unsigned kFlagIvInoLblk32 = 0x10;
constexpr unsigned kKnownFlags =
    kFlagPaddingMask | kFlagDirectKey | kFlagIvInoLblk64 | kFlagIvInoLblk32;

constexpr unsigned kMinLog2DataUnitSize = 9;
constexpr unsigned kMaxLog2DataUnitSize = 16;

/// Padding of 4, 8, 16 and 32 bytes, by the number that the kernel gives it.
constexpr std::array kPaddings = {4U, 8U, 16U, 32U};

constexpr std::string_view kPaddingMessage =
    "the padding of file names must be 4, 8, 16 or 32 bytes";

bool valid_data_unit_size(unsigned log2_size) {
  return log2_size == 0 || (log2_size >= kMinLog2DataUnitSize && log2_size <= kMaxLog2DataUnitSize);
}

template <class Predicate>
std::optional<Mode> find_mode(Predicate matches) {
  const auto* const entry = std::find_if(kModes.begin(), kModes.end(), matches);
  if (entry == kModes.end()) return std::nullopt;
  return entry->mode;
}

bool known_pair(Mode contents, Mode filenames) {
  return std::any_of(kPairs.begin(), kPairs.end(), [&](const ModePair& pair) {
    return pair.contents == contents && pair.filenames == filenames;
  });
}

}  // namespace

std::string_view mode_name(Mode mode) {
  for (const ModeEntry& entry : kModes) {
    if (entry.mode == mode) return entry.name;
  }
  throw Error(Errc::internal, "not a cipher mode");
}

std::optional<Mode> contents_mode_from_name(std::string_view name) {
  return find_mode([&](const ModeEntry& e) { return e.contents && e.name == name; });
}

std::optional<Mode> filenames_mode_from_name(std::string_view name) {
  return find_mode([&](const ModeEntry& e) { return e.filenames && e.name == name; });
}

std::optional<Mode> contents_mode_from_number(unsigned number) {
  return find_mode(
      [&](const ModeEntry& e) { return e.contents && static_cast<unsigned>(e.mode) == number; });
}

std::optional<Mode> filenames_mode_from_number(unsigned number) {
  return find_mode(
      [&](const ModeEntry& e) { return e.filenames && static_cast<unsigned>(e.mode) == number; });
}

std::uint8_t policy_flags(const EncryptionOptions& options) {
  const auto* const padding = std::find(kPaddings.begin(), kPaddings.end(), options.padding_bytes);
  if (padding == kPaddings.end()) throw Error(Errc::usage, std::string(kPaddingMessage));
  auto flags = static_cast<unsigned>(padding - kPaddings.begin());
  if (options.direct_key) flags |= kFlagDirectKey;
  if (options.iv_ino_lblk_64) flags |= kFlagIvInoLblk64;
  if (options.iv_ino_lblk_32) flags |= kFlagIvInoLblk32;
  return static_cast<std::uint8_t>(flags);
}

std::optional<EncryptionOptions> options_from_kernel(unsigned contents, unsigned filenames,
                                                     unsigned flags, unsigned log2_data_unit_size) {
  const std::optional<Mode> contents_mode = contents_mode_from_number(contents);
  const std::optional<Mode> filenames_mode = filenames_mode_from_number(filenames);
  if (!contents_mode || !filenames_mode || (flags & ~kKnownFlags) != 0 ||
      !valid_data_unit_size(log2_data_unit_size)) {
    return std::nullopt;
  }
  EncryptionOptions options;
  options.contents = *contents_mode;
  options.filenames = *filenames_mode;
  options.padding_bytes = kPaddings.at(flags & kFlagPaddingMask);
  options.direct_key = (flags & kFlagDirectKey) != 0;
  options.iv_ino_lblk_64 = (flags & kFlagIvInoLblk64) != 0;
  options.iv_ino_lblk_32 = (flags & kFlagIvInoLblk32) != 0;
  options.log2_data_unit_size = log2_data_unit_size;
  return options;
}

std::optional<std::string> invalid_combination(const EncryptionOptions& options) {
  if (!known_pair(options.contents, options.filenames)) {
    return std::string(mode_name(options.contents)) + " for contents and " +
           std::string(mode_name(options.filenames)) + " for file names cannot be combined";
  }
  if (std::find(kPaddings.begin(), kPaddings.end(), options.padding_bytes) == kPaddings.end()) {
    return std::string(kPaddingMessage);
  }
  if (options.direct_key + options.iv_ino_lblk_64 + options.iv_ino_lblk_32 > 1) {
    return "only one of direct-key, iv-ino-lblk-64 and iv-ino-lblk-32 can be used";
  }
  if (options.direct_key && options.contents != Mode::adiantum) {
    return "direct-key works only with Adiantum for contents and file names";
  }
  if ((options.iv_ino_lblk_64 || options.iv_ino_lblk_32) && options.contents != Mode::aes_256_xts) {
    return "iv-ino-lblk-64 and iv-ino-lblk-32 work only with AES-256-XTS for contents";
  }
  if (!valid_data_unit_size(options.log2_data_unit_size)) {
    return "the data unit size must be a power of two from 512 to 65536 bytes";
  }
  return std::nullopt;
}

}  // namespace fscryptctl
