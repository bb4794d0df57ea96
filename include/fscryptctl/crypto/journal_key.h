#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// Authenticates the journal of one conversion. Normative text: metadata-format/README.md,
/// "Journals".
using JournalKey = Key<struct JournalKeyRole, 32>;

/// HKDF-SHA256 (RFC 5869) of the policy key, with the operation's id as salt.
[[nodiscard]] JournalKey journal_key_of(const PolicyKey& key, const OperationId& operation);

/// HMAC-SHA256 of the journal's text up to the line that holds it.
using JournalMac = std::array<std::uint8_t, 32>;
[[nodiscard]] JournalMac journal_mac(const JournalKey& key, std::string_view text);

}  // namespace fscryptctl
