#pragma once

#include <string>

#include "fscryptctl/base/fs_identity.h"

namespace fscryptctl {

/// A user by name or decimal uid; a bare uid need not be in the user database (then its group is
/// the same number). Throws no_such_user.
[[nodiscard]] Identity user_from_text(const std::string& name_or_uid);

/// The identity of a uid: its primary group from the user database, without asking it for the
/// caller itself and root.
[[nodiscard]] Identity user_from_uid(uid_t uid);

/// The user's name, or the uid in decimal if nobody knows it.
[[nodiscard]] std::string user_name(uid_t uid);

}  // namespace fscryptctl
