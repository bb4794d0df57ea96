#pragma once

#include <string>

#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// The PAM service that checks login passwords, /etc/pam.d/fscryptctl. It includes the
/// distribution's own authentication, so that users of a directory server are checked too.
inline constexpr const char* kPamService = "fscryptctl";

/// True if this is the user's login password now, as PAM says. The password answers the first
/// hidden question and nothing else: what lets a user in without asking for a password (a
/// fingerprint, say) proves nothing, and is an error. Throws io, no_such_user, interrupted.
[[nodiscard]] bool verify_login_password(const std::string& user, const SecretBytes& password);

}  // namespace fscryptctl
