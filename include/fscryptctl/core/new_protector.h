#pragma once

#include <functional>
#include <optional>
#include <string>

#include "fscryptctl/core/protector.h"

namespace fscryptctl {

/// How a new protector is to be called.
struct NameWish {
  std::optional<std::string> name;  ///< the user's: this or an error
  std::string otherwise;            ///< default, changed where it is forbidden or taken
};

/// A protector for a new secret.
struct NewProtector {
  OpenProtector open;
  bool there;  ///< it has been written already, by an earlier run
};

/// True if an existing protector of the wished name may be what an earlier run made.
using MayTakeUp = std::function<bool(const ProtectorId& id)>;

/// Makes a protector; nothing is written. One of the wished name that the secret opens and that
/// `may_take_up` allows is taken up instead, so that a repeated command does not stumble over what
/// it did before. Throws usage (the name is invalid or taken).
[[nodiscard]] NewProtector make_or_take_up(Context& context, const UserStore& store,
                                           const Secret& secret, const NameWish& wish,
                                           const MayTakeUp& may_take_up);

/// Writes it under the lock, under another default name if somebody took the name meanwhile. False
/// if the user's wish was taken, or if what was taken up has changed: then start again.
[[nodiscard]] bool write_new(const UserStore& store, const UserStore::Lock& lock,
                             const NameWish& wish, NewProtector& protector);

/// The last component of a path, for a default name.
[[nodiscard]] std::string base_name(const std::string& path);

/// Throws stale_copy if the store has a copy of the protector that none of the opener's secrets
/// opens to the same key: whoever relied on it would be locked out. True if it has one.
bool require_copy_opens(const UserStore& store, const std::string& mount_point, Opener& opener,
                        const OpenProtector& protector);

}  // namespace fscryptctl
