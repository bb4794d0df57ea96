#pragma once

#include <cstddef>
#include <optional>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// A one-time code: 128 random bits that one person tells another, once. Normative text:
/// metadata-format/README.md, "Shares".
using ShareCode = Key<struct ShareCodeRole, 16>;

/// How people write it: 8 groups of 4 characters of Crockford's base32 (no I, L, O, U) with dashes
/// between them, the code and 32 bits of a hash of it. A mistyped code passes with 2^-32, so that
/// it is told from a code for something else.
inline constexpr std::size_t kShareCodeTextSize = 39;
[[nodiscard]] SecretBytes write_share_code(const ShareCode& code);

/// Any case, with spaces and dashes anywhere or nowhere; O is 0, I and L are 1. nullopt if it is
/// none, so mistyped.
[[nodiscard]] std::optional<ShareCode> read_share_code(ByteView text);

/// It is random, so nothing has to be made slow.
[[nodiscard]] WrappingKey wrapping_key_of(const ShareCode& code);

}  // namespace fscryptctl
