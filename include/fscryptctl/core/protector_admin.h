#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/last_way.h"
#include "fscryptctl/core/new_protector.h"
#include "fscryptctl/core/protector.h"
#include "fscryptctl/core/protector_update.h"
#include "fscryptctl/core/secrets.h"

namespace fscryptctl {

/// A protector that somebody named, with the store that holds it.
struct NamedProtector {
  Filesystem filesystem;
  UserStore store;
  ProtectorId id;
  std::optional<ProtectorSummary> summary;  ///< nullopt: its record is damaged

  [[nodiscard]] std::string name() const;    ///< or its id
  [[nodiscard]] std::string target() const;  ///< what a person thinks she opens
};

/// NAME, full id, unique prefix of an id, or MOUNTPOINT:NAME; else on `mount`. `--user`'s, else the
/// caller's, else, for root, of whoever alone has one. One whose record is damaged is found by its
/// full id. Throws no_such_protector, ambiguous, not_set_up.
[[nodiscard]] NamedProtector find_named_protector(const Context& context, const std::string& text,
                                                  const std::string& mount);

/// Opens it, or throws what Opener::open_any throws.
[[nodiscard]] const OpenProtector& open_named_protector(const NamedProtector& place,
                                                        Opener& opener);

struct CreatedProtector {
  NamedProtector place;
  bool changed;  ///< false: an earlier run made it
};

/// A new protector that opens nothing yet. Repeating it with the same name and secret is success.
/// Throws usage (name), not_set_up, missing_input, no_space.
/// A login protector is named `login`; the password is proven, and the one that exists is used.
[[nodiscard]] CreatedProtector create_protector(Context& context, Filesystem filesystem,
                                                Source source,
                                                const std::optional<std::string>& name,
                                                SecretProvider& secrets);

/// False if it is called so already. Copies on other filesystems keep theirs. Throws usage.
bool rename_protector(Context& context, NamedProtector& place, const std::string& name);

/// Hashes the secret that was proven with other costs, in all copies that it opens. Throws usage
/// for a protector that hashes nothing, kdf_limit for costs that this machine would not read.
[[nodiscard]] UpdatedProtector change_kdf(Context& context, const NamedProtector& place,
                                          const KdfCosts& costs, SecretProvider& secrets);

struct RemovedProtector {
  std::vector<KeyIdentifier> taken_from;        ///< policies that others open
  std::vector<KeyIdentifier> removed_policies;  ///< nothing opened them any more
  std::vector<std::string> other_copies;        ///< mount points where copies stay
};

/// Takes it from the policies that it opens, then removes its record. Cut off, each policy has it
/// or not, and repeating finishes. Throws last_way and what LastWayGuard throws, and
/// corrupt_metadata if a policy record that may need it cannot be read.
[[nodiscard]] RemovedProtector remove_protector(Context& context, const NamedProtector& place,
                                                const RemovalWishes& wishes);

/// Takes a protector's wrapping from a policy under the lock; a policy without any is removed.
/// True if the policy is still there.
bool take_way(const UserStore& store, const UserStore::Lock& lock, PolicyRecord record,
              const ProtectorId& id);

}  // namespace fscryptctl
