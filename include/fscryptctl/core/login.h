#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/protector.h"
#include "fscryptctl/core/secrets.h"

namespace fscryptctl {

/// A user of this machine, as the hints of her login protectors name her.
struct LoginUser {
  Identity identity;
  std::string name;
  std::string machine_id;  ///< 32 hex digits; empty if this machine has none
};
[[nodiscard]] LoginUser login_user(Identity identity);
/// The same without asking for the name: inside another program, whose own answers from getpwuid(3)
/// must stay as they are.
[[nodiscard]] LoginUser login_user(Identity identity, const std::string& name);

/// True if the protector says of itself that it opens with this user's password on this machine.
/// Nothing proves it: it only decides what is asked for, and in which order things are tried.
[[nodiscard]] bool hints_at(const ProtectorSummary& protector, const LoginUser& user);

/// Makes the protector say so. For when it was just given this user's password.
void set_hints(ProtectorSummary& protector, const LoginUser& user);

/// Where a user's records lie.
struct LoginPlace {
  Filesystem filesystem;
  UserStore store;
};

/// One copy of a login protector.
struct LoginCopy {
  std::shared_ptr<const LoginPlace> place;
  ProtectorRecord record;
};

/// The user's stores on these filesystems, in their order. One that cannot be used is passed over.
[[nodiscard]] std::vector<std::shared_ptr<const LoginPlace>> login_places(
    std::vector<Filesystem> filesystems, Identity user);

/// How far records are looked for: the disk may be slow, and there may be any number of them.
struct LoginSearch {
  std::size_t limit = UserStore::kNoLimit;              ///< entries of each kind in each place
  std::function<bool()> enough = [] { return false; };  ///< asked before each of them
};

/// The login protectors in these places; those that hint at the user come first. Damaged records
/// are passed over.
[[nodiscard]] std::vector<LoginCopy> find_login_copies(
    const std::vector<std::shared_ptr<const LoginPlace>>& places, const LoginUser& user,
    const LoginSearch& search = {});

/// True if some policy in the store is wrapped by this very protector key: then a record there with
/// the protector's id is a copy of it, whatever it opens with, and no stranger's.
[[nodiscard]] bool opens_some_policy(const UserStore& store, const OpenProtector& protector,
                                     const LoginSearch& search = {});

/// The record with the login wrappings and hints of another copy; a recovery key that it has stays.
[[nodiscard]] ProtectorRecord with_login_wrappings(const ProtectorRecord& record,
                                                   const ProtectorRecord& other);

/// Replaces a copy's record, under the lock and only if it still is as seen. False if it is not, or
/// if the lock is not to be had within `patience`.
[[nodiscard]] bool replace_copy(const Context& context, const LoginCopy& seen,
                                const ProtectorRecord& record, std::chrono::milliseconds patience);

/// The user's login password, asked for as what exists and proven right (Context::verify_login).
/// Throws wrong_key, missing_input, and what verify_login throws.
[[nodiscard]] Secret ask_login_password(const Context& context, const LoginUser& user,
                                        SecretProvider& secrets, const std::string& target);

/// A new login password for what still opens with the previous one. Throws as ask_login_password.
[[nodiscard]] Secret ask_new_login_password(const Context& context, const LoginUser& user,
                                            SecretProvider& secrets, const std::string& target);

/// The error for something that does not open with the user's proven login password.
[[nodiscard]] Error still_previous_password(const std::string& what);

/// A user's login protector, opened.
struct LoginProtector {
  enum class Origin {
    here,    ///< its record lies in the store
    copied,  ///< from another filesystem; not written yet
    made     ///< new; not written yet
  };
  OpenProtector open;
  Origin origin;
};

/// The login protector of the store's user: the one there, else a copy of one on another
/// filesystem, else a new one. `password` must have been proven. One in the store that still opens
/// with a previous password is healed by the copy that the password opens, if it is the same
/// protector beyond doubt. Throws previous_login_password if there is one for this user and machine
/// that the password does not open.
[[nodiscard]] LoginProtector choose_login_protector(Context& context, const Filesystem& filesystem,
                                                    const UserStore& store, const Secret& password);

/// Under the lock: false if somebody has made another login protector for this user meanwhile.
[[nodiscard]] bool still_first_login_protector(const UserStore& store, const LoginUser& user,
                                               const ProtectorId& made);

}  // namespace fscryptctl
