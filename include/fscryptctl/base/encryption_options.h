#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fscryptctl {

/// Kernel numbers of the cipher modes (Documentation/filesystems/fscrypt.rst).
enum class Mode : std::uint8_t {
  aes_256_xts = 1,
  aes_256_cts = 4,
  aes_128_cbc = 5,
  aes_128_cts = 6,
  sm4_xts = 7,
  sm4_cts = 8,
  adiantum = 9,
  aes_256_hctr2 = 10,
};

/// "AES-256-XTS" and so on: the only table of mode names. Exact spelling.
[[nodiscard]] std::string_view mode_name(Mode mode);
[[nodiscard]] std::optional<Mode> contents_mode_from_name(std::string_view name);
[[nodiscard]] std::optional<Mode> filenames_mode_from_name(std::string_view name);
/// By kernel number; nullopt for a number that this table does not know or that is not of the kind.
[[nodiscard]] std::optional<Mode> contents_mode_from_number(unsigned number);
[[nodiscard]] std::optional<Mode> filenames_mode_from_number(unsigned number);

/// The settings of a policy, all that the kernel is told besides the key.
struct EncryptionOptions {
  Mode contents = Mode::aes_256_xts;
  Mode filenames = Mode::aes_256_cts;
  unsigned padding_bytes = 32;  ///< 4, 8, 16 or 32: file names are padded to a multiple
  bool direct_key = false;
  bool iv_ino_lblk_64 = false;
  bool iv_ino_lblk_32 = false;
  unsigned log2_data_unit_size = 0;  ///< 0: the filesystem's block size; else 9..16

  bool operator==(const EncryptionOptions&) const = default;
};

/// The kernel's flag byte: padding in bits 0-1, DIRECT_KEY 4, IV_INO_LBLK_64 8, IV_INO_LBLK_32 16.
[[nodiscard]] std::uint8_t policy_flags(const EncryptionOptions& options);
/// nullopt if an unknown bit is set.
[[nodiscard]] std::optional<EncryptionOptions> options_from_kernel(unsigned contents,
                                                                   unsigned filenames,
                                                                   unsigned flags,
                                                                   unsigned log2_data_unit_size);

/// Why the kernel would refuse this combination for a v2 policy, as an error message, or nullopt:
/// pairs of modes, DIRECT_KEY only with Adiantum for both, IV_INO_LBLK_* only with AES-256-XTS
/// (contents mode 1), at most one of the three, padding, data-unit size.
[[nodiscard]] std::optional<std::string> invalid_combination(const EncryptionOptions& options);

}  // namespace fscryptctl
