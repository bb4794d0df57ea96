#include "fscryptctl/core/restore.h"

#include <algorithm>
#include <map>
#include <set>

#include "fscryptctl/core/protector.h"
#include "fscryptctl/core/setup.h"
#include "fscryptctl/core/users.h"

namespace fscryptctl {
namespace {

/// True if both open the same with the same secrets. Names, hints and paths only label.
bool opens_the_same(const PolicyRecord& a, const PolicyRecord& b) {
  return a.options == b.options && a.operation == b.operation && a.wrappings == b.wrappings;
}

bool opens_the_same(const ProtectorRecord& a, const ProtectorRecord& b) {
  return a.summary.source == b.summary.source && a.wrappings == b.wrappings;
}

template <class Record>
RestoreState compare(const Record& wanted, const Record& present) {
  if (wanted == present) return RestoreState::identical;
  return opens_the_same(wanted, present) ? RestoreState::equivalent : RestoreState::different;
}

std::optional<PolicyRecord> present_in(const UserStore& store, const PolicyRecord& wanted) {
  return store.policy(wanted.summary.key_identifier);
}

std::optional<ProtectorRecord> present_in(const UserStore& store, const ProtectorRecord& wanted) {
  return store.protector(wanted.summary.id);
}

bool is_write(RestoreState state) {
  return state == RestoreState::written || state == RestoreState::replaced;
}

/// One user's share of a backup.
class UserRestore {
 public:
  UserRestore(const RestoreRequest& request, const RestoreResult* confirmed, RestoreResult& result)
      : request_(request), confirmed_(confirmed), result_(result) {}

  /// `store` may be missing in a dry run. Without `lock` nothing is written.
  void run(const std::optional<UserStore>& store, const UserStore::Lock* lock,
           const std::vector<std::pair<std::size_t, const BackupEntry*>>& entries) {
    store_ = store ? &*store : nullptr;
    lock_ = lock;
    if (store_ != nullptr) names_ = store_->protectors().records;
    // What opens comes before what is opened: no policy waits for its way in.
    for (const auto& [index, entry] : entries) {
      if (const auto* protector = std::get_if<ProtectorRecord>(&entry->record)) {
        take(index, *protector);
      }
    }
    for (const auto& [index, entry] : entries) {
      if (const auto* policy = std::get_if<PolicyRecord>(&entry->record)) take(index, *policy);
    }
    for (const PolicyRecord* policy : restored_) note_missing_protectors(*policy);
  }

 private:
  template <class Record>
  void take(std::size_t index, Record record) {
    RestoreItem& item = result_.items[index];
    item.state = decide(index, record);
    if (!is_write(item.state)) return;
    prepare(item, record);
    if (lock_ != nullptr) store_->write(*lock_, record);
    remember(std::move(record));
  }

  template <class Record>
  RestoreState decide(std::size_t index, const Record& record) {
    if (const Record* handled = handled_in_this_run(record)) {
      const RestoreState state = compare(record, *handled);
      return state == RestoreState::different ? RestoreState::duplicate : state;
    }
    const RestoreState state = store_ == nullptr ? RestoreState::written : look(record);
    const bool unconfirmed = state == RestoreState::replaced && confirmed_ != nullptr &&
                             confirmed_->items[index].state != RestoreState::replaced;
    return unconfirmed ? RestoreState::changed : state;
  }

  template <class Record>
  RestoreState look(const Record& record) const {
    const auto unless_told = [this](RestoreState kept) {
      return request_.replace ? RestoreState::replaced : kept;
    };
    // What stands in the way may be damaged, which is an answer here.
    try {
      const std::optional<Record> present = present_in(*store_, record);
      if (!present) return RestoreState::written;
      const RestoreState state = compare(record, *present);
      return state == RestoreState::different ? unless_told(state) : state;
    } catch (const Error& error) {
      if (error.code() == Errc::newer_format) return RestoreState::newer_format;
      const bool unusable =
          error.code() == Errc::corrupt_metadata || error.code() == Errc::untrusted_metadata;
      if (!unusable) throw;
      return unless_told(RestoreState::damaged);
    }
  }

  /// Names are unique. They are not authenticated, so that another may be given.
  void prepare(RestoreItem& item, ProtectorRecord& record) {
    std::erase_if(names_,
                  [&](const ProtectorSummary& other) { return other.id == record.summary.id; });
    item.renamed = std::any_of(names_.begin(), names_.end(), [&](const ProtectorSummary& other) {
      return other.name == record.summary.name;
    });
    if (item.renamed) record.summary.name = free_name(record.summary.name, names_);
    item.name = record.summary.name;
    names_.push_back(record.summary);
  }
  static void prepare(RestoreItem&, PolicyRecord&) {}

  [[nodiscard]] const ProtectorRecord* handled_in_this_run(const ProtectorRecord& record) const {
    const auto found = protectors_.find(record.summary.id);
    return found == protectors_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const PolicyRecord* handled_in_this_run(const PolicyRecord& record) const {
    const auto found = policies_.find(record.summary.key_identifier);
    return found == policies_.end() ? nullptr : &found->second;
  }
  void remember(ProtectorRecord record) {
    const ProtectorId id = record.summary.id;
    protectors_.emplace(id, std::move(record));
  }
  void remember(PolicyRecord record) {
    const KeyIdentifier key = record.summary.key_identifier;
    restored_.push_back(&policies_.emplace(key, std::move(record)).first->second);
  }

  void note_missing_protectors(const PolicyRecord& policy) {
    for (const ProtectorId& id : policy.summary.protectors) {
      if (protectors_.contains(id) || is_usable(id)) continue;
      result_.missing_protectors.push_back("policy " + policy.summary.key_identifier.hex() +
                                           " names protector " + id.hex());
    }
  }

  [[nodiscard]] bool is_usable(const ProtectorId& id) const {
    try {
      return store_ != nullptr && store_->protector(id);
    } catch (const Error&) {
      return false;
    }
  }

  const RestoreRequest& request_;
  const RestoreResult* confirmed_;
  RestoreResult& result_;
  const UserStore* store_ = nullptr;
  const UserStore::Lock* lock_ = nullptr;
  std::vector<ProtectorSummary> names_;
  std::map<ProtectorId, ProtectorRecord> protectors_;
  std::map<KeyIdentifier, PolicyRecord> policies_;
  std::vector<const PolicyRecord*> restored_;
};

/// Whose the record becomes; nullopt if the caller may not have it.
std::optional<Identity> receiver_of(const Context& context, const BackupEntry& entry) {
  if (context.user) return context.user;
  if (context.caller.uid == 0) return user_from_uid(entry.uid);
  return entry.uid == context.caller.uid ? std::optional(context.caller) : std::nullopt;
}

RestoreItem item_of(const BackupEntry& entry, uid_t receiver, RestoreState state) {
  const auto* protector = std::get_if<ProtectorRecord>(&entry.record);
  return {kind_of(entry.record),
          id_of(entry.record),
          receiver,
          user_name(receiver),
          protector != nullptr ? protector->summary.name : "",
          state};
}

struct Share {
  Identity user;
  std::vector<std::pair<std::size_t, const BackupEntry*>> entries;
};

/// What each user gets. Fills `items`.
std::map<uid_t, Share> distribute(const Context& context, const Backup& backup,
                                  std::vector<RestoreItem>& items) {
  std::map<uid_t, Identity> receivers;
  std::map<uid_t, Share> shares;
  for (const BackupEntry& entry : backup.entries) {
    const auto known = receivers.find(entry.uid);
    const std::optional<Identity> receiver =
        known != receivers.end() ? known->second : receiver_of(context, entry);
    if (receiver) {
      receivers.emplace(entry.uid, *receiver);
      Share& share = shares.try_emplace(receiver->uid, Share{*receiver, {}}).first->second;
      share.entries.emplace_back(items.size(), &entry);
    }
    items.push_back(item_of(entry, receiver ? receiver->uid : entry.uid,
                            receiver ? RestoreState::failed : RestoreState::other_user));
  }
  return shares;
}

void restore_user(Context& context, const Filesystem& filesystem, const Share& share,
                  const RestoreRequest& request, const RestoreResult* confirmed,
                  RestoreResult& result) {
  UserRestore restore(request, confirmed, result);
  if (request.dry_run) {
    const std::optional<UserStore> store = filesystem.store(share.user);
    if (!store) filesystem.require_store_possible(share.user);
    return restore.run(store, nullptr, share.entries);
  }
  const std::optional<UserStore> store = filesystem.store_for_writing(share.user);
  const UserStore::Lock lock = store->lock(context.throw_if_interrupted);
  restore.run(store, &lock, share.entries);
}

/// Of a filesystem whose metadata is lost as a whole nothing is left to add to.
void provide_metadata(Context& context, const Filesystem& filesystem,
                      const RestoreRequest& request) {
  const uid_t caller = context.caller.uid;
  const bool possible = caller == 0 || caller == filesystem.trusted_owner().uid;
  if (filesystem.metadata()) return;
  if (!request.set_up || !possible) static_cast<void>(filesystem.require_metadata());
  require_encryption(context, filesystem);
  if (!request.dry_run) {
    static_cast<void>(set_up_filesystem(context, filesystem, std::nullopt, false));
  }
}

}  // namespace

std::size_t RestoreResult::count(RestoreState state) const {
  return static_cast<std::size_t>(
      std::count_if(items.begin(), items.end(),
                    [state](const RestoreItem& item) { return item.state == state; }));
}

RestoreResult restore(Context& context, const Filesystem& filesystem, const Backup& backup,
                      const RestoreRequest& request, const RestoreResult* confirmed) {
  provide_metadata(context, filesystem, request);
  RestoreResult result;
  const std::map<uid_t, Share> shares = distribute(context, backup, result.items);
  if (shares.empty()) {
    throw Error(Errc::permission, "the backup holds no records of " +
                                      user_name(context.caller.uid) + " (user " +
                                      std::to_string(context.caller.uid) + ")");
  }
  for (const auto& [uid, share] : shares) {
    context.throw_if_interrupted();
    // One user's metadata in disorder keeps nothing from the others.
    try {
      restore_user(context, filesystem, share, request, confirmed, result);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      result.failures.push_back(error);
      // Whoever is to be set up is set up on the filesystem.
      if (error.code() == Errc::not_set_up) {
        result.failures.back().with_path(filesystem.mount().mount_point);
      }
    }
  }
  return result;
}

}  // namespace fscryptctl
