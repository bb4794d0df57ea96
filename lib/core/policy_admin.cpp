#include "fscryptctl/core/policy_admin.h"

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/login.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/core/policy_choice.h"
#include "fscryptctl/core/users.h"

namespace fscryptctl {
namespace {

constexpr int kTries = 10;

Error no_record(const Filesystem& filesystem, const KeyIdentifier& key) {
  const std::string& mount_point = filesystem.mount().mount_point;
  return Error(Errc::no_such_policy,
               "no record of policy " + key.hex() + " on " + printable(mount_point))
      .with_path(mount_point);
}

[[noreturn]] void changed_all_the_time() {
  throw Error(Errc::metadata_locked, "the policy is being changed by others all the time");
}

/// The protector that is to be added, its key in hand.
struct Chosen {
  NewProtector protector;  ///< `there`: its record is on the policy's filesystem
  bool made = false;
  NameWish wish;
};

class Addition {
 public:
  Addition(Context& context, NamedPolicy& policy, const AddRequest& request,
           SecretProvider& existing, SecretProvider& other)
      : context_(context),
        policy_(policy),
        request_(request),
        other_(other),
        opener_(existing, context),
        other_opener_(other, context) {}

  AddedProtector run() {
    require_room();
    for (int tries = 0; tries < kTries; ++tries) {
      UnlockedPolicy unlocked =
          open_policy(policy_.store, policy_.record, request_.open_with, opener_, policy_.target);
      Chosen chosen = request_.protector ? existing_protector() : new_protector();
      context_.throw_if_interrupted();
      if (const std::optional<AddedProtector> result = write(std::move(unlocked), chosen)) {
        return *result;
      }
      read_again();
    }
    changed_all_the_time();
  }

 private:
  /// Before anybody is asked for anything. One that the policy has already needs no room.
  void require_room() const {
    const PolicySummary& summary = policy_.record.summary;
    if (request_.protector || summary.protectors.size() < kMaxProtectorsOfPolicy) return;
    throw Error(Errc::usage, printable(policy_.target) + " has " +
                                 std::to_string(kMaxProtectorsOfPolicy) +
                                 " protectors already, and more do not fit")
        .with_path(policy_.target);
  }

  void read_again() {
    const KeyIdentifier key = policy_.record.summary.key_identifier;
    std::optional<PolicyRecord> record = policy_.store.policy(key);
    if (!record) throw no_record(policy_.filesystem, key);
    policy_.record = std::move(*record);
  }

  Chosen existing_protector() {
    const std::string& mount_point = policy_.filesystem.mount().mount_point;
    Context same_user = context_;
    same_user.user = policy_.store.user();
    const NamedProtector named = find_named_protector(same_user, *request_.protector, mount_point);
    const OpenProtector& open = open_other(named);
    const bool there = named.filesystem.mount().device == policy_.filesystem.mount().device ||
                       require_copy_opens(policy_.store, mount_point, opener_of(open), open);
    Chosen chosen{{{open.record, ProtectorKey(SecretBytes(open.key.view()))}, there}, false, {}};
    if (there) chosen.protector.open.record = *policy_.store.protector(open.record.summary.id);
    chosen.wish.otherwise = open.record.summary.name;
    return chosen;
  }

  /// What opened the policy may open the other protector as well; else somebody is asked.
  const OpenProtector& open_other(const NamedProtector& named) {
    const ReadProtectors read = read_protectors(named.store, {named.id});
    if (opener_.try_known(read.records.front())) {
      return opener_.open_any(read, named.target(), true);
    }
    return other_opener_.open_any(read, named.target(), true);
  }

  Opener& opener_of(const OpenProtector& open) {
    return opener_.try_known(open.record) ? opener_ : other_opener_;
  }

  Chosen login_protector() {
    if (!secret_) {
      secret_ = ask_new_login_password(context_, login_user(policy_.store.user()), other_,
                                       policy_.target);
    }
    LoginProtector login =
        choose_login_protector(context_, policy_.filesystem, policy_.store, *secret_);
    const NameWish wish{std::nullopt, login.open.record.summary.name};
    const bool there = login.origin == LoginProtector::Origin::here;
    return {{std::move(login.open), there}, login.origin == LoginProtector::Origin::made, wish};
  }

  Chosen new_protector() {
    if (request_.source == Source::login) return login_protector();
    const std::vector<std::string>& paths = policy_.record.summary.paths;
    const NameWish wish{request_.name, paths.empty() ? "protector" : base_name(paths.back())};
    if (!secret_) {
      secret_ = other_.fresh(request_.source,
                             request_.name ? "protector " + *request_.name : policy_.target);
    }
    NewProtector made = make_or_take_up(context_, policy_.store, *secret_, wish,
                                        [this](const ProtectorId& id) { return is_leftover(id); });
    return {std::move(made), true, wish};
  }

  /// Of an earlier run of this command: nothing else relies on it.
  bool is_leftover(const ProtectorId& id) const {
    const Listing<PolicySummary> all = policy_.store.policies();
    const KeyIdentifier& key = policy_.record.summary.key_identifier;
    return all.damaged.empty() &&
           std::none_of(all.records.begin(), all.records.end(), [&](const PolicySummary& policy) {
             return policy.key_identifier != key && is_opened_by(policy, id);
           });
  }

  /// nullopt if the policy or the protector has changed since.
  std::optional<AddedProtector> write(UnlockedPolicy unlocked, Chosen& chosen) {
    const UserStore& store = policy_.store;
    const ProtectorId id = chosen.protector.open.record.summary.id;
    const UserStore::Lock lock = store.lock(context_.throw_if_interrupted);
    const std::optional<PolicyRecord> now = store.policy(unlocked.record.summary.key_identifier);
    if (!now || now->wrappings != unlocked.record.wrappings) return std::nullopt;
    unlocked.record.summary = now->summary;
    const bool there = chosen.protector.there;
    AddedProtector result{{}, false, chosen.made && !there, !chosen.made && !there};
    if (is_opened_by(now->summary, id) && there && opens(*now, chosen.protector.open)) {
      result.protector = chosen.protector.open.record.summary;
      return result;
    }
    // Before its record is written: that must not stay behind if there is no room.
    add_way(unlocked, chosen.protector.open);
    if (!write_protector(lock, chosen)) return std::nullopt;
    store.write(lock, unlocked.record);
    context_.explain("wrote the record of policy " + now->summary.key_identifier.hex());
    prove(unlocked, chosen.protector.open);
    result.changed = true;
    result.protector = chosen.protector.open.record.summary;
    return result;
  }

  /// A copy keeps its secret and gets a name that is free here. One that was on this filesystem
  /// must still be: somebody may have changed or removed it.
  bool write_protector(const UserStore::Lock& lock, Chosen& chosen) const {
    ProtectorRecord& record = chosen.protector.open.record;
    const bool login = record.summary.source == Source::login;
    if ((chosen.made && !login) || chosen.protector.there) {
      return write_new(policy_.store, lock, chosen.wish, chosen.protector);
    }
    if (policy_.store.protector(record.summary.id)) return false;
    if (chosen.made && !still_first_login_protector(policy_.store, login_user(policy_.store.user()),
                                                    record.summary.id)) {
      return false;
    }
    const std::vector<ProtectorSummary> all = policy_.store.protectors().records;
    const bool taken = std::any_of(all.begin(), all.end(), [&](const ProtectorSummary& other) {
      return other.name == record.summary.name;
    });
    if (taken) record.summary.name = free_name(record.summary.name, all);
    policy_.store.write(lock, record);
    context_.explain("wrote the record of protector " + record.summary.id.hex());
    return true;
  }

  static bool opens(const PolicyRecord& record, const OpenProtector& protector) {
    try {
      static_cast<void>(unlock_policy({record}, protector));
      return true;
    } catch (const Error& error) {
      if (error.code() != Errc::corrupt_metadata) throw;
      return false;  // a wrapping that somebody changed: it is replaced
    }
  }

  /// From the file, as whoever unlocks it next will.
  void prove(const UnlockedPolicy& written, const OpenProtector& protector) const {
    const std::optional<PolicyRecord> read =
        policy_.store.policy(written.record.summary.key_identifier);
    if (!read) throw Error(Errc::io, "the record that was just written is not there");
    const UnlockedPolicy again = unlock_policy({*read}, protector);
    if (!equal_secrets(again.key.secret(), written.key.secret())) {
      throw Error(Errc::internal, "a new wrapping does not open");
    }
  }

  Context& context_;
  NamedPolicy& policy_;
  const AddRequest& request_;
  SecretProvider& other_;
  Opener opener_;
  Opener other_opener_;
  std::optional<Secret> secret_;  ///< the new one, asked for once
};

struct Named {
  ProtectorId id;
  std::string name;
};

/// One of a policy's protectors, also one whose record is damaged or missing, by its full id.
Named protector_of(const Context& context, const NamedPolicy& policy, const std::string& text) {
  std::vector<ProtectorSummary> summaries = policy.store.protectors().records;
  std::erase_if(summaries, [&](const ProtectorSummary& summary) {
    return !is_opened_by(policy.record.summary, summary.id);
  });
  const ProtectorName parts = split_protector_name(text);
  if (const auto id = ProtectorId::from_hex(parts.name);
      id && !parts.mount && is_opened_by(policy.record.summary, *id)) {
    for (const ProtectorSummary& summary : summaries) {
      if (summary.id == *id) return {*id, summary.name};
    }
    return {*id, id->hex()};
  }
  if (!parts.mount) {
    const ProtectorSummary& found = find_protector(summaries, parts.name);
    return {found.id, found.name};
  }
  Context same_user = context;
  same_user.user = policy.store.user();
  const NamedProtector elsewhere = find_named_protector(same_user, parts.name, *parts.mount);
  const ProtectorSummary& found = find_protector(summaries, elsewhere.id.hex());
  return {found.id, found.name};
}

bool opens_others(const NamedPolicy& policy, const ProtectorId& id) {
  const std::vector<PolicySummary> all = policy.store.policies().records;
  return std::any_of(all.begin(), all.end(),
                     [&id](const PolicySummary& other) { return is_opened_by(other, id); });
}

/// A policy's record, of which only the name is known if it is damaged.
struct RecordFile {
  UserStore store;
  PolicySummary summary;
};

std::optional<PolicySummary> record_in(const UserStore& store, const KeyIdentifier& key) {
  const Listing<PolicySummary> all = store.policies();
  for (const PolicySummary& policy : all.records) {
    if (policy.key_identifier == key) return policy;
  }
  for (const DamagedRecord& damaged : all.damaged) {
    if (damaged.file.ends_with("/policies/" + key.hex() + ".yaml")) {
      return PolicySummary{key, {}, {}};
    }
  }
  return std::nullopt;
}

RecordFile find_record_file(const Context& context, const Filesystem& filesystem,
                            const KeyIdentifier& key) {
  const MetadataRoot metadata = filesystem.require_metadata();
  std::vector<RecordFile> found;
  std::vector<std::string> owners;
  for (const Identity& user : context.users_to_list(metadata)) {
    std::optional<UserStore> store = UserStore::open(metadata, user);
    std::optional<PolicySummary> summary = store ? record_in(*store, key) : std::nullopt;
    if (!summary) continue;
    owners.push_back(user_name(user.uid));
    found.push_back({std::move(*store), std::move(*summary)});
  }
  if (found.empty()) throw no_record(filesystem, key);
  if (found.size() > 1) {
    throw Error(Errc::ambiguous,
                "several users have a record of " + key.hex() + ": choose one with --user")
        .with_candidates(owners);
  }
  return std::move(found.front());
}

}  // namespace

NamedPolicy find_named_policy(const Context& context, const std::string& text,
                              const std::string& mount) {
  if (const std::optional<KeyIdentifier> key = KeyIdentifier::from_hex(text)) {
    Filesystem filesystem = filesystem_of_path(context, mount);
    static_cast<void>(filesystem.require_metadata());
    std::optional<FoundPolicy> found = find_record(context, filesystem, std::nullopt, *key);
    if (!found) throw no_record(filesystem, *key);
    return {std::move(filesystem), std::move(found->store), std::move(found->record), text};
  }
  Target target = look_at(context, text);
  const KeyIdentifier key = require_v2_key(target);
  std::optional<FoundPolicy> found = find_record(context, target.filesystem, target.owner.uid, key);
  if (!found) throw not_managed(target.filesystem, text);
  return {std::move(target.filesystem), std::move(found->store), std::move(found->record), text};
}

AddedProtector add_protector(Context& context, NamedPolicy& policy, const AddRequest& request,
                             SecretProvider& existing, SecretProvider& other) {
  if (request.name) {
    if (const auto reason = invalid_name(*request.name)) throw Error(Errc::usage, *reason);
  }
  return Addition(context, policy, request, existing, other).run();
}

TakenProtector remove_policy_protector(Context& context, const NamedPolicy& policy,
                                       const std::string& protector, const RemovalWishes& wishes) {
  const Named named = protector_of(context, policy, protector);
  const KeyIdentifier key = policy.record.summary.key_identifier;
  LastWayGuard guard(context, policy.filesystem, wishes, Errc::last_way);
  const auto losing = [&](const PolicyRecord& record) {
    std::vector<PolicySummary> all;
    if (!has_other_way(policy.store, record.summary, named.id)) all.push_back(record.summary);
    return all;
  };
  std::optional<PolicyRecord> record = policy.record;
  for (int tries = 0; tries < kTries; ++tries) {
    guard.require(in_quotes(named.name), losing(*record));
    context.throw_if_interrupted();
    const UserStore::Lock lock = policy.store.lock(context.throw_if_interrupted);
    // Somebody may have removed another way meanwhile: then it is refused or asked anew.
    record = policy.store.policy(key);
    if (!record) throw no_record(policy.filesystem, key);
    if (!is_opened_by(record->summary, named.id)) {
      throw Error(Errc::no_such_protector, in_quotes(named.name) + " does not open it any more");
    }
    if (!guard.permits(losing(*record))) continue;
    const bool stays = take_way(policy.store, lock, *record, named.id);
    context.explain((stays ? "wrote the record of policy " : "removed the record of policy ") +
                    key.hex());
    return {named.id, named.name, !stays, opens_others(policy, named.id)};
  }
  changed_all_the_time();
}

void remove_policy(Context& context, const Filesystem& filesystem, const KeyIdentifier& key,
                   const RemovalWishes& wishes) {
  RecordFile file = find_record_file(context, filesystem, key);
  LastWayGuard guard(context, filesystem, wishes, Errc::in_use);
  for (int tries = 0; tries < kTries; ++tries) {
    guard.require("the record of policy " + key.hex(), {file.summary});
    context.throw_if_interrupted();
    const UserStore::Lock lock = file.store.lock(context.throw_if_interrupted);
    const std::optional<PolicySummary> now = record_in(file.store, key);
    if (!now) throw no_record(filesystem, key);
    file.summary = *now;
    if (!guard.permits({file.summary})) continue;
    file.store.remove(lock, key);
    context.explain("removed the record of policy " + key.hex());
    return;
  }
  changed_all_the_time();
}

}  // namespace fscryptctl
