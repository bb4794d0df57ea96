#include "fscryptctl/core/protector_admin.h"

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/login.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/core/policy_choice.h"
#include "fscryptctl/core/rotate.h"
#include "fscryptctl/core/users.h"

namespace fscryptctl {
namespace {

constexpr int kTries = 10;

struct Match {
  ProtectorId id;
  std::optional<ProtectorSummary> summary;
};

/// A rotation that was cut off leaves the new protector under a name that tells the old one's.
const ProtectorSummary* find_rotated(const std::vector<ProtectorSummary>& all,
                                     const std::string& name) {
  for (const ProtectorSummary& protector : all) {
    const std::optional<RotationMark> mark = parse_rotation_mark(protector.name);
    if (mark && (mark->name == name || mark->previous.hex() == name)) return &protector;
  }
  return nullptr;
}

std::optional<Match> find_damaged(const std::vector<DamagedRecord>& damaged,
                                  const std::string& name) {
  const std::optional<ProtectorId> id = ProtectorId::from_hex(name);
  const bool there =
      id && std::any_of(damaged.begin(), damaged.end(), [&name](const DamagedRecord& record) {
        return record.file.ends_with("/protectors/" + name + ".yaml");
      });
  if (!there) return std::nullopt;
  return Match{*id, std::nullopt};
}

std::optional<Match> find_in(const UserStore& store, const std::string& name) {
  const Listing<ProtectorSummary> all = store.protectors();
  try {
    const ProtectorSummary& found = find_protector(all.records, name);
    return Match{found.id, found};
  } catch (const Error& error) {
    if (error.code() != Errc::no_such_protector) throw;
  }
  if (const ProtectorSummary* found = find_rotated(all.records, name)) {
    return Match{found->id, *found};
  }
  return find_damaged(all.damaged, name);
}

std::vector<NamedProtector> find_with(const std::vector<Identity>& users,
                                      const MetadataRoot& metadata, const Filesystem& filesystem,
                                      const std::string& name) {
  std::vector<NamedProtector> found;
  for (const Identity& user : users) {
    std::optional<UserStore> store;
    std::optional<Match> match;
    // One user's bad directory does not hide another's.
    try {
      store = UserStore::open(metadata, user);
      if (store) match = find_in(*store, name);
    } catch (const Error&) {
      if (users.size() == 1) throw;
    }
    if (!match) continue;
    // A descriptor of its own for each.
    std::optional<Filesystem> own = Filesystem::at(filesystem.mount());
    if (own) found.push_back({std::move(*own), std::move(*store), match->id, match->summary});
  }
  return found;
}

std::vector<std::string> owners(const std::vector<NamedProtector>& found) {
  std::vector<std::string> names;
  names.reserve(found.size());
  for (const NamedProtector& one : found) names.push_back(user_name(one.store.user().uid));
  return names;
}

ProtectorChoice as_choice(const NamedProtector& place) {
  std::optional<Filesystem> filesystem = Filesystem::at(place.filesystem.mount());
  if (!filesystem) throw Error(Errc::io, "the filesystem has just been unmounted");
  std::optional<UserStore> store = filesystem->store(place.store.user());
  if (!store || !place.summary) {
    throw Error(Errc::no_such_protector, "no such protector: " + printable(place.name()));
  }
  return {std::move(*filesystem), std::move(*store), {*place.summary}, place.target()};
}

/// What relies on a protector on its filesystem.
struct Reliance {
  std::vector<PolicySummary> policies;
  std::vector<PolicySummary> losing;  ///< those that nothing else opens
};

Reliance reliance_on(const NamedProtector& place, bool unreadable_permitted) {
  const Listing<PolicySummary> all = place.store.policies();
  if (!all.damaged.empty() && !unreadable_permitted) {
    throw Error(Errc::corrupt_metadata,
                "a policy's record cannot be read, so nobody can tell if it needs " +
                    printable(place.name()) + ": " + printable(all.damaged.front().file))
        .with_path(all.damaged.front().file);
  }
  Reliance reliance;
  for (const PolicySummary& policy : all.records) {
    if (!is_opened_by(policy, place.id)) continue;
    reliance.policies.push_back(policy);
    if (!has_other_way(place.store, policy, place.id)) reliance.losing.push_back(policy);
  }
  return reliance;
}

std::vector<std::string> copies_elsewhere(const Context& context, const NamedProtector& place) {
  std::vector<std::string> found;
  for (const Filesystem& filesystem : local_filesystems(context)) {
    if (filesystem.mount().device == place.filesystem.mount().device) continue;
    // Another loop over independent filesystems: a bad one hides only what lies there.
    try {
      const std::optional<UserStore> store = filesystem.store(place.store.user());
      if (store && store->protector(place.id)) found.push_back(filesystem.mount().mount_point);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
    }
  }
  return found;
}

void remove_under_lock(const Context& context, const NamedProtector& place,
                       const UserStore::Lock& lock, const Reliance& reliance,
                       bool unreadable_permitted, RemovedProtector& result) {
  for (const PolicySummary& policy : reliance.policies) {
    // Another loop over independent records: those that cannot be read stay as they are.
    try {
      const std::optional<PolicyRecord> record = place.store.policy(policy.key_identifier);
      if (!record) continue;
      const bool stays = take_way(place.store, lock, *record, place.id);
      context.explain((stays ? "wrote the record of policy " : "removed the record of policy ") +
                      policy.key_identifier.hex());
      (stays ? result.taken_from : result.removed_policies).push_back(policy.key_identifier);
    } catch (const Error& error) {
      const bool damaged = error.code() == Errc::corrupt_metadata ||
                           error.code() == Errc::untrusted_metadata ||
                           error.code() == Errc::newer_format;
      if (!damaged || !unreadable_permitted) throw;
    }
  }
  place.store.remove(lock, place.id);
  context.explain("removed the record of protector " + place.id.hex());
}

}  // namespace

std::string NamedProtector::name() const { return summary ? summary->name : id.hex(); }

std::string NamedProtector::target() const { return "protector " + name(); }

NamedProtector find_named_protector(const Context& context, const std::string& text,
                                    const std::string& mount) {
  const ProtectorName parts = split_protector_name(text);
  const Filesystem filesystem = filesystem_of_path(context, parts.mount.value_or(mount));
  const std::string& mount_point = filesystem.mount().mount_point;
  const MetadataRoot metadata = filesystem.require_metadata();
  std::vector<NamedProtector> found =
      find_with({context.user_without_path()}, metadata, filesystem, parts.name);
  if (found.empty() && context.caller.uid == 0 && !context.user) {
    found = find_with(metadata.users(), metadata, filesystem, parts.name);
  }
  if (found.size() > 1) {
    throw Error(Errc::ambiguous, "several users have a protector " + printable(parts.name) +
                                     " on " + printable(mount_point) + ": choose one with --user")
        .with_candidates(owners(found));
  }
  if (found.empty()) {
    throw Error(Errc::no_such_protector,
                "no such protector on " + printable(mount_point) + ": " + printable(parts.name))
        .with_path(mount_point);
  }
  return std::move(found.front());
}

const OpenProtector& open_named_protector(const NamedProtector& place, Opener& opener) {
  if (!place.store.protector(place.id)) {
    throw Error(Errc::no_such_protector, place.target() + " has just been removed or replaced");
  }
  return opener.open_any(read_protectors(place.store, {place.id}), place.target(), true);
}

/// One for each user: the one there is taken up, and one of another filesystem is copied.
CreatedProtector create_login_protector(Context& context, Filesystem filesystem,
                                        const std::optional<std::string>& name,
                                        SecretProvider& secrets) {
  if (name && *name != "login") {
    throw Error(Errc::usage, "a login protector is always named \"login\"");
  }
  static_cast<void>(filesystem.require_metadata());
  UserStore store = filesystem.store_for_writing(context.user_without_path());
  const LoginUser user = login_user(store.user());
  const Secret password = ask_login_password(context, user, secrets, "protector login");
  for (int tries = 0; tries < kTries; ++tries) {
    LoginProtector login = choose_login_protector(context, filesystem, store, password);
    context.throw_if_interrupted();
    ProtectorRecord& record = login.open.record;
    const bool changed = login.origin != LoginProtector::Origin::here;
    if (changed) {
      const UserStore::Lock lock = store.lock(context.throw_if_interrupted);
      if (login.origin == LoginProtector::Origin::made &&
          !still_first_login_protector(store, user, record.summary.id)) {
        continue;
      }
      const std::vector<ProtectorSummary> all = store.protectors().records;
      if (std::any_of(all.begin(), all.end(), [&record](const ProtectorSummary& other) {
            return other.name == record.summary.name;
          })) {
        record.summary.name = free_name(record.summary.name, all);
      }
      store.write(lock, record);
      context.explain("wrote the record of protector " + record.summary.id.hex());
    }
    return {{std::move(filesystem), std::move(store), record.summary.id, record.summary}, changed};
  }
  throw Error(Errc::metadata_locked, "the protectors are being changed by others all the time");
}

CreatedProtector create_protector(Context& context, Filesystem filesystem, Source source,
                                  const std::optional<std::string>& name, SecretProvider& secrets) {
  if (source == Source::login) {
    return create_login_protector(context, std::move(filesystem), name, secrets);
  }
  if (name) {
    if (const auto reason = invalid_name(*name)) throw Error(Errc::usage, *reason);
  }
  static_cast<void>(filesystem.require_metadata());
  UserStore store = filesystem.store_for_writing(context.user_without_path());
  const NameWish wish{name, base_name(filesystem.mount().mount_point)};
  const Secret secret =
      secrets.fresh(source, "protector " + name.value_or(free_name(wish.otherwise, {})));
  const auto may_take_up = [&](const ProtectorId& id) {
    if (name) return true;
    // Under a name that nobody chose, only what nothing relies on is a leftover.
    const Listing<PolicySummary> policies = store.policies();
    return policies.damaged.empty() &&
           std::none_of(policies.records.begin(), policies.records.end(),
                        [&id](const PolicySummary& policy) { return is_opened_by(policy, id); });
  };
  for (int tries = 0; tries < kTries; ++tries) {
    NewProtector made = make_or_take_up(context, store, secret, wish, may_take_up);
    context.throw_if_interrupted();
    const UserStore::Lock lock = store.lock(context.throw_if_interrupted);
    if (!write_new(store, lock, wish, made)) continue;
    const ProtectorSummary& summary = made.open.record.summary;
    if (!made.there) context.explain("wrote the record of protector " + summary.id.hex());
    return {{std::move(filesystem), std::move(store), summary.id, summary}, !made.there};
  }
  throw Error(Errc::metadata_locked, "the protectors are being changed by others all the time");
}

bool rename_protector(Context& context, NamedProtector& place, const std::string& name) {
  if (const auto reason = invalid_name(name)) throw Error(Errc::usage, *reason);
  const UserStore::Lock lock = place.store.lock(context.throw_if_interrupted);
  std::optional<ProtectorRecord> record = place.store.protector(place.id);
  if (!record) throw Error(Errc::no_such_protector, place.target() + " has just been removed");
  if (record->summary.source == Source::login) {
    throw Error(Errc::usage, "a login protector is always named \"login\"");
  }
  if (record->summary.name == name) return false;
  for (const ProtectorSummary& other : place.store.protectors().records) {
    if (other.name == name) {
      throw Error(Errc::usage, "there is a protector named " + printable(name) + " already");
    }
  }
  record->summary.name = name;
  place.store.write(lock, *record);
  place.summary = record->summary;
  return true;
}

UpdatedProtector change_kdf(Context& context, const NamedProtector& place, const KdfCosts& costs,
                            SecretProvider& secrets) {
  const ProtectorChoice choice = as_choice(place);
  if (!is_hashed(method_of(place.summary->source))) {
    throw Error(Errc::usage, "protector " + printable(place.name()) +
                                 " opens with a raw key, of which nothing is hashed");
  }
  if (const auto reason = over_limit(costs, context.kdf_limits())) {
    throw Error(Errc::kdf_limit, *reason);
  }
  Opener opener(secrets, context);
  return update_protector(
      context, choice, opener, [&](const OpenProtector& open, std::uint64_t generation) {
        const std::optional<Secret> secret = opener.known_secret(open.record);
        if (!secret) {
          throw Error(Errc::usage,
                      "this needs the protector's own passphrase: a recovery key "
                      "cannot be hashed for it");
        }
        return with_new_secret(open, *secret, costs, generation);
      });
}

RemovedProtector remove_protector(Context& context, const NamedProtector& place,
                                  const RemovalWishes& wishes) {
  LastWayGuard guard(context, place.filesystem, wishes, Errc::last_way);
  const std::string subject = in_quotes(place.name());
  for (int tries = 0; tries < kTries; ++tries) {
    guard.require(subject, reliance_on(place, wishes.allow_data_loss).losing);
    context.throw_if_interrupted();
    RemovedProtector result;
    {
      const UserStore::Lock lock = place.store.lock(context.throw_if_interrupted);
      // Somebody may have removed another way meanwhile: then it is refused or asked anew.
      const Reliance now = reliance_on(place, wishes.allow_data_loss);
      if (!guard.permits(now.losing)) continue;
      remove_under_lock(context, place, lock, now, wishes.allow_data_loss, result);
    }
    result.other_copies = copies_elsewhere(context, place);
    return result;
  }
  throw Error(Errc::metadata_locked, "the policies are being changed by others all the time");
}

bool take_way(const UserStore& store, const UserStore::Lock& lock, PolicyRecord record,
              const ProtectorId& id) {
  drop_way(record, id);
  if (record.wrappings.empty()) {
    store.remove(lock, record.summary.key_identifier);
    return false;
  }
  store.write(lock, record);
  return true;
}

}  // namespace fscryptctl
