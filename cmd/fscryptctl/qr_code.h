#pragma once

#include <cstddef>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// The longest text: what fits into the one size that is made here, 33 by 33 squares.
inline constexpr std::size_t kMaxQrCodeText = 88;

enum class QrStyle {
  terminal,  ///< dark on light whatever the terminal's colours are, by escape sequences
  paper,     ///< ink where it is dark, each line behind "# "
};

/// `text` (digits, upper-case letters, dashes) as a QR code of lines of UTF-8 half blocks, two rows
/// of squares a line. Made here rather than by a library since all copies of what may be a secret
/// are wiped. Throws std::invalid_argument for other characters and longer texts.
[[nodiscard]] SecretBytes qr_code(ByteView text, QrStyle style);

}  // namespace fscryptctl
