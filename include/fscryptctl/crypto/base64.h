#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// Standard padded base64 without line breaks (RFC 4648, section 4). Public data only.
[[nodiscard]] std::string base64_encode(ByteView bytes);
/// Strict: nullopt unless `text` is exactly what base64_encode writes for some bytes.
[[nodiscard]] std::optional<Bytes> base64_decode(std::string_view text);

/// Decodes a 32-byte key given as text ("raw", "hex" in any case, or "base64"), as `--key-format`
/// names it. A single newline at the end of hex and base64 text is allowed. nullopt if it is not
/// exactly 32 bytes in that format. Leaves no copy outside SecretBytes.
enum class KeyFormat { raw, hex, base64 };
[[nodiscard]] std::optional<SecretBytes> decode_key(const SecretBytes& text, KeyFormat format);

}  // namespace fscryptctl
