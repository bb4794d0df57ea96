#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl::pam {

/// Protector keys on their way from a process that authenticates to another one that opens the
/// session: sshd does so for keyboard-interactive logins, and only PAM's environment comes back
/// from there. The keys go through root's keyring in the kernel, wrapped with a random key; that
/// one, and where to look, is the ticket that goes through the environment.
using ProtectorKeys = std::map<ProtectorId, ProtectorKey>;

/// Leaves the keys for three minutes and returns the ticket, for the caller to wipe. nullopt unless
/// this process is root's through and through: the keyring is the real user's, who may be the one
/// who called a setuid program. Throws io.
[[nodiscard]] std::optional<std::string> hand_over(const ProtectorKeys& keys, uid_t user);

/// Takes what was left for the ticket, which then is worth nothing any more. Empty if there is
/// nothing. Never throws for a ticket that somebody made up.
[[nodiscard]] ProtectorKeys take_over(const std::string& ticket, uid_t user);

}  // namespace fscryptctl::pam
