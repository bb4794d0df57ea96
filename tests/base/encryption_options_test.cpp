#include "fscryptctl/base/encryption_options.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

constexpr unsigned kMaxByte = 255;

struct KnownMode {
  unsigned number;
  std::string name;
  bool contents;
  bool filenames;
};

// As in Documentation/filesystems/fscrypt.rst.
const std::vector<KnownMode> kKnownModes = {
    {1, "AES-256-XTS", true, false}, {4, "AES-256-CTS", false, true},
    {5, "AES-128-CBC", true, false}, {6, "AES-128-CTS", false, true},
    {7, "SM4-XTS", true, false},     {8, "SM4-CTS", false, true},
    {9, "Adiantum", true, true},     {10, "AES-256-HCTR2", false, true},
};

EncryptionOptions with_modes(Mode contents, Mode filenames) {
  EncryptionOptions options;
  options.contents = contents;
  options.filenames = filenames;
  return options;
}

TEST_CASE("each mode has one name and the kernel's number, for contents or names as it fits") {
  for (const KnownMode& known : kKnownModes) {
    CAPTURE(known.name);
    const auto mode = static_cast<Mode>(known.number);
    CHECK(mode_name(mode) == known.name);
    CHECK(contents_mode_from_name(known.name) ==
          (known.contents ? std::optional(mode) : std::nullopt));
    CHECK(filenames_mode_from_name(known.name) ==
          (known.filenames ? std::optional(mode) : std::nullopt));
    CHECK(contents_mode_from_number(known.number) ==
          (known.contents ? std::optional(mode) : std::nullopt));
    CHECK(filenames_mode_from_number(known.number) ==
          (known.filenames ? std::optional(mode) : std::nullopt));
  }
}

TEST_CASE("names of modes are spelled exactly") {
  const std::string name =
      GENERATE("", "aes-256-xts", "AES_256_XTS", "AES-256-XTS ", "1", "Adiantu");
  CHECK_FALSE(contents_mode_from_name(name));
  CHECK_FALSE(filenames_mode_from_name(name));
}

TEST_CASE("no other number is a mode") {
  for (unsigned number = 0; number <= 2 * kMaxByte; ++number) {
    const bool known = number == 1 || (number >= 4 && number <= 10);
    CHECK((contents_mode_from_number(number) || filenames_mode_from_number(number)) == known);
  }
  CHECK_THROWS_AS(mode_name(static_cast<Mode>(2)), Error);
}

TEST_CASE("the flag byte is the kernel's") {
  EncryptionOptions options;
  CHECK(policy_flags(options) == 3);
  options.padding_bytes = 4;
  CHECK(policy_flags(options) == 0);
  options.padding_bytes = 8;
  options.direct_key = true;
  CHECK(policy_flags(options) == 5);
  options.direct_key = false;
  options.iv_ino_lblk_64 = true;
  options.padding_bytes = 16;
  CHECK(policy_flags(options) == 0x0a);
  options.iv_ino_lblk_64 = false;
  options.iv_ino_lblk_32 = true;
  CHECK(policy_flags(options) == 0x12);
  options.padding_bytes = 12;
  CHECK_THROWS_AS(policy_flags(options), Error);
}

TEST_CASE("every policy that the kernel may report is understood whole or not at all") {
  for (unsigned flags = 0; flags <= kMaxByte; ++flags) {
    const auto options = options_from_kernel(1, 4, flags, 12);
    REQUIRE(options.has_value() == (flags < 0x20));
    if (!options) continue;
    CHECK(policy_flags(*options) == flags);
    CHECK(options->log2_data_unit_size == 12);
  }
  for (unsigned contents = 0; contents <= kMaxByte; ++contents) {
    for (unsigned filenames = 0; filenames <= kMaxByte; ++filenames) {
      const auto options = options_from_kernel(contents, filenames, 0, 0);
      const bool known =
          contents_mode_from_number(contents) && filenames_mode_from_number(filenames);
      REQUIRE(options.has_value() == known);
    }
  }
  for (unsigned log2_size = 0; log2_size <= kMaxByte; ++log2_size) {
    CHECK(options_from_kernel(1, 4, 0, log2_size).has_value() ==
          (log2_size == 0 || (log2_size >= 9 && log2_size <= 16)));
  }
  CHECK_FALSE(options_from_kernel(257, 4, 0, 0));
  CHECK_FALSE(options_from_kernel(1, 4, 256, 0));
}

TEST_CASE("only the kernel's five pairs of modes are accepted") {
  int accepted = 0;
  for (const KnownMode& contents : kKnownModes) {
    for (const KnownMode& filenames : kKnownModes) {
      const auto options =
          with_modes(static_cast<Mode>(contents.number), static_cast<Mode>(filenames.number));
      if (!invalid_combination(options)) ++accepted;
    }
  }
  CHECK(accepted == 5);
  CHECK_FALSE(invalid_combination(with_modes(Mode::aes_256_xts, Mode::aes_256_cts)));
  CHECK_FALSE(invalid_combination(with_modes(Mode::aes_128_cbc, Mode::aes_128_cts)));
  CHECK_FALSE(invalid_combination(with_modes(Mode::adiantum, Mode::adiantum)));
  CHECK_FALSE(invalid_combination(with_modes(Mode::aes_256_xts, Mode::aes_256_hctr2)));
  CHECK_FALSE(invalid_combination(with_modes(Mode::sm4_xts, Mode::sm4_cts)));
  CHECK(invalid_combination(with_modes(Mode::aes_256_xts, Mode::aes_128_cts)) ==
        "AES-256-XTS for contents and AES-128-CTS for file names cannot be combined");
}

TEST_CASE("flags are accepted only with the modes that permit them") {
  EncryptionOptions adiantum = with_modes(Mode::adiantum, Mode::adiantum);
  adiantum.direct_key = true;
  CHECK_FALSE(invalid_combination(adiantum));
  adiantum.iv_ino_lblk_64 = true;
  CHECK(invalid_combination(adiantum));

  EncryptionOptions aes;
  aes.direct_key = true;
  CHECK(invalid_combination(aes));
  aes.direct_key = false;
  aes.iv_ino_lblk_64 = true;
  CHECK_FALSE(invalid_combination(aes));
  aes.iv_ino_lblk_32 = true;
  CHECK(invalid_combination(aes));
  aes.iv_ino_lblk_64 = false;
  CHECK_FALSE(invalid_combination(aes));
  aes.filenames = Mode::aes_256_hctr2;
  CHECK_FALSE(invalid_combination(aes));

  EncryptionOptions sm4 = with_modes(Mode::sm4_xts, Mode::sm4_cts);
  sm4.iv_ino_lblk_32 = true;
  CHECK(invalid_combination(sm4));
}

TEST_CASE("impossible sizes are refused with what would be possible") {
  EncryptionOptions options;
  options.padding_bytes = GENERATE(0U, 1U, 12U, 64U, 260U);
  CHECK(invalid_combination(options) == "the padding of file names must be 4, 8, 16 or 32 bytes");
  options.padding_bytes = 32;
  options.log2_data_unit_size = GENERATE(1U, 8U, 17U, 256U, 268U);
  CHECK(invalid_combination(options) ==
        "the data unit size must be a power of two from 512 to 65536 bytes");
}

}  // namespace
}  // namespace fscryptctl
