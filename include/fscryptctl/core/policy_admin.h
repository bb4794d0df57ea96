#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/last_way.h"
#include "fscryptctl/core/protector_admin.h"

namespace fscryptctl {

/// A policy that somebody named by a path under it or by its key identifier.
struct NamedPolicy {
  Filesystem filesystem;
  UserStore store;
  PolicyRecord record;
  std::string target;  ///< as it was named
};

/// A key identifier is looked up on `mount`'s filesystem. Throws no_such_policy, not_managed,
/// not_encrypted, ambiguous, and what looking and reading throws.
[[nodiscard]] NamedPolicy find_named_policy(const Context& context, const std::string& text,
                                            const std::string& mount);

struct AddRequest {
  std::optional<std::string> protector;  ///< an existing one: NAME, id, or MOUNTPOINT:NAME
  Source source = Source::passphrase;    ///< of a new one, unless `protector` is named
  std::optional<std::string> name;
};

struct AddedProtector {
  ProtectorSummary protector;
  bool changed;  ///< false: it opened the policy already
  bool made;     ///< a new protector
  bool copied;   ///< its record was not on this filesystem before
};

/// Lets one more protector open a policy. `existing` opens the policy, `other` the named protector,
/// if what opened the policy does not. The protector's record is durable before the policy's, and
/// the new wrapping is unwrapped from what was written. Throws wrong_key, stale_copy and what
/// opening throws, usage (16 protectors, name), no_such_protector.
[[nodiscard]] AddedProtector add_protector(Context& context, NamedPolicy& policy,
                                           const AddRequest& request, SecretProvider& existing,
                                           SecretProvider& other);

struct TakenProtector {
  ProtectorId id;
  std::string name;     ///< or its id
  bool policy_removed;  ///< it was the last one, and that was permitted
  bool opens_others;    ///< other policies here
};

/// Takes a protector from a policy; its record stays. Throws no_such_protector, ambiguous, and what
/// LastWayGuard throws.
[[nodiscard]] TakenProtector remove_policy_protector(Context& context, const NamedPolicy& policy,
                                                     const std::string& protector,
                                                     const RemovalWishes& wishes);

/// Removes the record of a policy, also a damaged one. Throws in_use while a directory with its key
/// exists anywhere on the filesystem, no_such_policy, and what LastWayGuard throws.
void remove_policy(Context& context, const Filesystem& filesystem, const KeyIdentifier& key,
                   const RemovalWishes& wishes);

}  // namespace fscryptctl
