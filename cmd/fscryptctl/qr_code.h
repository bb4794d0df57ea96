#pragma once

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

enum class QrStyle {
  terminal,  ///< dark on light whatever the terminal's colours are, by escape sequences
  paper,     ///< ink where it is dark, each line behind "# "
};

/// Throws io if libqrencode is not installed. For asking before anything is done.
void require_qr_codes();

/// `text` (printable ASCII, at most 255 bytes) as a QR code of lines of UTF-8 half blocks, two rows
/// of squares a line. libqrencode is loaded when the first one is made: no other command pays for
/// it or fails without it. Throws io, usage (too long).
[[nodiscard]] SecretBytes qr_code(ByteView text, QrStyle style);

}  // namespace fscryptctl
