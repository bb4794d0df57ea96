#include "fscryptctl/core/rotate.h"

#include <algorithm>
#include <set>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/policy.h"

namespace fscryptctl {
namespace {

constexpr int kTries = 10;
constexpr std::string_view kMarkStart = " (rotated from ";
constexpr std::size_t kMarkSize = kMarkStart.size() + 2 * ProtectorId::kSize + 1;

OpenProtector copy_of(const OpenProtector& open) {
  return {open.record, ProtectorKey(SecretBytes(open.key.view()))};
}

bool has_recovery_key(const ProtectorSummary& summary) {
  return std::any_of(summary.ways.begin(), summary.ways.end(),
                     [](const auto& way) { return way.method == Method::recovery_key; });
}

/// The larger of what the old record and the configuration say, if this machine reads that.
KdfCosts costs_of_successor(Context& context, const ProtectorRecord& old) {
  const KdfCosts configured = costs_for_new_hashing(context);
  for (const ProtectorSummary::Way& way : ways_of(old.wrappings)) {
    if (!way.costs || way.method == Method::recovery_key) continue;
    const KdfCosts larger{std::max(configured.passes, way.costs->passes),
                          std::max(configured.memory_kib, way.costs->memory_kib), configured.lanes};
    const bool usable = valid_costs(larger) && !over_limit(larger, context.kdf_limits());
    return usable ? larger : *way.costs;
  }
  return configured;
}

/// One user's store on one filesystem, as found without the lock.
struct Place {
  std::string mount_point;
  UserStore store;
  std::optional<ProtectorRecord> old;  ///< the old protector's record
  bool opened = false;                 ///< by the secret that was just proven
};

class Rotation {
 public:
  Rotation(Context& context, const NamedProtector& chosen, Opener& opener)
      : context_(context), chosen_(chosen), opener_(opener) {}

  /// nullopt if somebody changed the protector meanwhile.
  std::optional<RotatedProtector> run() {
    const OpenProtector open = copy_of(open_named_protector(chosen_, opener_));
    secret_ = opener_.known_secret(open.record);
    if (!secret_) {
      throw Error(Errc::usage,
                  "this needs the protector's own secret: a recovery key cannot make a new one");
    }
    require_movable_policies(open);
    determine(open);
    const std::vector<Place> others = find_other_places();
    context_.throw_if_interrupted();
    if (!write_first()) return std::nullopt;
    std::vector<bool> written;
    written.reserve(others.size());
    for (const Place& other : others) written.push_back(move_elsewhere(other));
    context_.throw_if_interrupted();
    if (!finish_chosen()) return std::nullopt;
    for (std::size_t i = 0; i < others.size(); ++i) {
      if (written[i]) written[i] = take_name_elsewhere(others[i]);
    }
    return result(others, written);
  }

 private:
  /// Nothing is begun that could not be finished here.
  void require_movable_policies(const OpenProtector& open) const {
    const Listing<PolicySummary> all = chosen_.store.policies();
    for (const DamagedRecord& damaged : all.damaged) {
      throw Error(damaged.code,
                  "a policy's record cannot be read, so nobody can tell if it needs " +
                      printable(chosen_.name()) + ": " + printable(damaged.file))
          .with_path(damaged.file);
    }
    for (const PolicySummary& policy : all.records) {
      if (!is_opened_by(policy, chosen_.id)) continue;
      const std::optional<PolicyRecord> record = chosen_.store.policy(policy.key_identifier);
      if (!record) continue;
      require_no_operation(*record);
      static_cast<void>(unlock_policy({*record}, open));
    }
  }

  /// Which is the old one and which the new: an earlier run may have got anywhere.
  void determine(const OpenProtector& open) {
    if (const auto mark = parse_rotation_mark(open.record.summary.name)) {
      return finish_earlier(open, mark->previous);
    }
    old_id_ = open.record.summary.id;
    old_ = copy_of(open);
    if (take_up_marked()) return;
    if (const std::optional<ProtectorId> previous = marked_copy_elsewhere(open)) {
      return finish_earlier(open, *previous);
    }
    new_ = make_protector(*secret_, rotation_mark({open.record.summary.name, old_id_}),
                          costs_of_successor(context_, open.record));
    new_->record.summary.user = open.record.summary.user;
    new_->record.summary.machine_id = open.record.summary.machine_id;
  }

  /// The new one is there and has, at least here, taken the old one's place.
  void finish_earlier(const OpenProtector& open, const ProtectorId& previous) {
    finished_earlier_ = true;
    new_ = copy_of(open);
    old_id_ = previous;
    old_ = open_old_record(chosen_.store);
  }

  std::optional<OpenProtector> open_old_record(const UserStore& store) {
    std::optional<ProtectorRecord> record = store.protector(old_id_);
    if (!record) return std::nullopt;
    std::optional<ProtectorKey> key = opener_.try_known(*record);
    if (!key) return std::nullopt;
    return OpenProtector{std::move(*record), std::move(*key)};
  }

  /// What an earlier run left here, if the secret just proven opens it. Names are not
  /// authenticated: on another filesystem somebody could give one of the user's records this name.
  bool take_up_marked() {
    for (const ProtectorSummary& summary : chosen_.store.protectors().records) {
      const std::optional<RotationMark> mark = parse_rotation_mark(summary.name);
      if (!mark || mark->previous != old_id_) continue;
      std::optional<ProtectorRecord> record = chosen_.store.protector(summary.id);
      if (!record) continue;
      std::optional<ProtectorKey> key = opener_.try_known(*record);
      if (!key) continue;
      new_ = OpenProtector{std::move(*record), std::move(*key)};
      return true;
    }
    return false;
  }

  /// The old one's id if another filesystem has a copy of this one that has not got its name yet.
  std::optional<ProtectorId> marked_copy_elsewhere(const OpenProtector& open) {
    for (const Filesystem& filesystem : other_filesystems()) {
      // Another loop over independent filesystems.
      try {
        const std::optional<UserStore> store = filesystem.store(chosen_.store.user());
        const auto copy = store ? store->protector(open.record.summary.id) : std::nullopt;
        const auto mark = copy ? parse_rotation_mark(copy->summary.name) : std::nullopt;
        if (mark && !is_relied_on_here(mark->previous)) return mark->previous;
      } catch (const Error& error) {
        if (error.code() == Errc::interrupted) throw;
      }
    }
    return std::nullopt;
  }

  /// Names are not authenticated: a rotation that is finished here has left nothing of the old one,
  /// and whatever is still here was not meant.
  [[nodiscard]] bool is_relied_on_here(const ProtectorId& id) const {
    const std::vector<ProtectorSummary> protectors = chosen_.store.protectors().records;
    const std::vector<PolicySummary> policies = chosen_.store.policies().records;
    return std::any_of(protectors.begin(), protectors.end(),
                       [&id](const ProtectorSummary& protector) { return protector.id == id; }) ||
           std::any_of(policies.begin(), policies.end(),
                       [&id](const PolicySummary& policy) { return is_opened_by(policy, id); });
  }

  std::vector<Filesystem> other_filesystems() const {
    std::vector<Filesystem> all = local_filesystems(context_);
    std::erase_if(all, [this](const Filesystem& filesystem) {
      return filesystem.mount().device == chosen_.filesystem.mount().device;
    });
    return all;
  }

  std::vector<Place> find_other_places() {
    std::vector<Place> places;
    for (const Filesystem& filesystem : other_filesystems()) {
      // Another loop over independent filesystems: one that is in a bad state stops nothing here.
      try {
        std::optional<UserStore> store = filesystem.store(chosen_.store.user());
        if (!store || !concerned(*store)) continue;
        Place place{filesystem.mount().mount_point, std::move(*store), {}, false};
        look_at_old(place);
        places.push_back(std::move(place));
      } catch (const Error& error) {
        if (error.code() == Errc::interrupted) throw;
      }
    }
    return places;
  }

  [[nodiscard]] bool concerned(const UserStore& store) const {
    const std::vector<ProtectorSummary> protectors = store.protectors().records;
    const std::vector<PolicySummary> policies = store.policies().records;
    return std::any_of(protectors.begin(), protectors.end(),
                       [this](const ProtectorSummary& protector) {
                         const bool fresh = protector.id == new_->record.summary.id &&
                                            parse_rotation_mark(protector.name).has_value();
                         return protector.id == old_id_ || fresh;
                       }) ||
           std::any_of(policies.begin(), policies.end(), [this](const PolicySummary& policy) {
             return is_opened_by(policy, old_id_);
           });
  }

  void look_at_old(Place& place) {
    try {
      place.old = place.store.protector(old_id_);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      return;  // damaged: the key is in hand all the same
    }
    if (!place.old) return;
    const std::optional<ProtectorKey> key = opener_.try_known(*place.old);
    place.opened = key && (!old_ || equal_secrets(key->secret(), old_->key.secret()));
    if (place.opened && !old_) old_ = open_old_record(place.store);
  }

  /// The new record on the chosen filesystem, before anything relies on it. False if somebody else
  /// began or finished the same meanwhile.
  bool write_first() {
    const UserStore::Lock lock = chosen_.store.lock(context_.throw_if_interrupted);
    if (chosen_.store.protector(new_->record.summary.id)) return true;
    if (!old_is_as_opened()) return false;
    for (const ProtectorSummary& other : chosen_.store.protectors().records) {
      if (other.name == new_->record.summary.name) return begun_by_other(other.id);
    }
    chosen_.store.write(lock, new_->record);
    context_.explain("wrote the record of protector " + new_->record.summary.id.hex());
    return true;
  }

  /// A mark with our old id: another run's, to be taken up, or one that does not open any more.
  bool begun_by_other(const ProtectorId& id) const {
    const std::optional<ProtectorRecord> record = chosen_.store.protector(id);
    if (record && !opener_.try_known(*record)) {
      throw Error(Errc::usage,
                  "an earlier rotation, from before the secret was changed, left protector " +
                      id.hex() + ": remove that one first");
    }
    return false;
  }

  bool old_is_as_opened() const {
    const std::optional<ProtectorRecord> now = chosen_.store.protector(old_id_);
    return now && old_ && now->wrappings == old_->record.wrappings;
  }

  /// Makes the new one open every policy of a store that the old one opens. False if some could not
  /// be read.
  bool move_policies(const UserStore& store, const UserStore::Lock& lock) {
    const Listing<PolicySummary> all = store.policies();
    bool complete = all.damaged.empty();
    for (const PolicySummary& policy : all.records) {
      if (!is_opened_by(policy, old_id_)) continue;
      context_.throw_if_interrupted();
      // Another loop over independent records.
      try {
        complete = move_policy(store, lock, policy.key_identifier) && complete;
      } catch (const Error& error) {
        if (error.code() != Errc::corrupt_metadata && error.code() != Errc::untrusted_metadata &&
            error.code() != Errc::newer_format) {
          throw;
        }
        complete = false;
      }
    }
    return complete;
  }

  bool move_policy(const UserStore& store, const UserStore::Lock& lock, const KeyIdentifier& key) {
    const std::optional<PolicyRecord> record = store.policy(key);
    if (!record || !old_) return !record;
    UnlockedPolicy policy = unlock_policy({*record}, *old_);
    drop_way(policy.record, old_id_);
    add_way(policy, *new_);
    store.write(lock, policy.record);
    context_.explain("wrote the record of policy " + key.hex());
    moved_.insert(key);
    return true;
  }

  /// True if the new protector has taken the old one's place there, but for the name.
  bool move_elsewhere(const Place& place) {
    // Another loop over independent filesystems: what fails there is reported as stale.
    try {
      const UserStore::Lock lock = place.store.lock(context_.throw_if_interrupted);
      if (place.old && place.opened) {
        const std::optional<ProtectorRecord> now = place.store.protector(old_id_);
        if (now && now->wrappings != place.old->wrappings) return false;
      }
      const ProtectorRecord fresh = named_for(place);
      if (!place.store.protector(fresh.summary.id)) place.store.write(lock, fresh);
      if (!move_policies(place.store, lock)) return false;
      remove_old(place.store, lock);
      return true;
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      context_.explain(printable(place.mount_point) + ": " + error.what());
      return false;
    }
  }

  /// Names are each filesystem's own.
  ProtectorRecord named_for(const Place& place) const {
    ProtectorRecord record = new_->record;
    const std::string& own = record.summary.name;
    const std::optional<RotationMark> mark = parse_rotation_mark(own);
    const std::string name = place.old ? place.old->summary.name : mark ? mark->name : own;
    record.summary.name = rotation_mark({name, old_id_});
    return record;
  }

  /// All in one go: whoever waits for the lock finds the old one or the new one.
  bool finish_chosen() {
    const UserStore::Lock lock = chosen_.store.lock(context_.throw_if_interrupted);
    if (!finished_earlier_ && !old_is_as_opened()) return false;
    if (!chosen_.store.protector(new_->record.summary.id)) return false;
    if (!move_policies(chosen_.store, lock)) {
      throw Error(Errc::corrupt_metadata,
                  "a policy could not be moved to the new protector: the old one stays beside it");
    }
    remove_old(chosen_.store, lock);
    take_name(chosen_.store, lock);
    return true;
  }

  /// Only what was proven to be the old one: a name alone removes nothing.
  void remove_old(const UserStore& store, const UserStore::Lock& lock) const {
    if (!old_ || !store.remove(lock, old_id_)) return;
    context_.explain("removed the record of protector " + old_id_.hex());
  }

  void take_name(const UserStore& store, const UserStore::Lock& lock) const {
    std::optional<ProtectorRecord> record = store.protector(new_->record.summary.id);
    const auto mark = record ? parse_rotation_mark(record->summary.name) : std::nullopt;
    if (!mark) return;
    const std::vector<ProtectorSummary> all = store.protectors().records;
    const bool taken = std::any_of(all.begin(), all.end(), [&](const ProtectorSummary& other) {
      return other.name == mark->name;
    });
    record->summary.name = taken ? free_name(mark->name, all) : mark->name;
    store.write(lock, *record);
  }

  bool take_name_elsewhere(const Place& place) const {
    try {
      const UserStore::Lock lock = place.store.lock(context_.throw_if_interrupted);
      take_name(place.store, lock);
      return true;
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      return false;
    }
  }

  RotatedProtector result(const std::vector<Place>& others, const std::vector<bool>& written) {
    const std::optional<ProtectorRecord> now = chosen_.store.protector(new_->record.summary.id);
    RotatedProtector result{
        now ? now->summary : new_->record.summary, old_id_, {}, {}, false, false};
    result.policies.assign(moved_.begin(), moved_.end());
    result.copies.push_back({chosen_.filesystem.mount().mount_point, true});
    for (std::size_t i = 0; i < others.size(); ++i) {
      result.copies.push_back({others[i].mount_point, written[i]});
    }
    result.finished_earlier = finished_earlier_;
    result.lost_recovery_key = old_ && has_recovery_key(old_->record.summary);
    return result;
  }

  Context& context_;
  const NamedProtector& chosen_;
  Opener& opener_;
  std::optional<Secret> secret_;
  ProtectorId old_id_;
  std::optional<OpenProtector> old_;  ///< nullopt: an earlier run removed it
  std::optional<OpenProtector> new_;
  bool finished_earlier_ = false;
  std::set<KeyIdentifier> moved_;
};

}  // namespace

std::string rotation_mark(const RotationMark& mark) {
  std::string name = mark.name;
  if (name.size() > kMaxNameSize - kMarkSize) {
    name.resize(kMaxNameSize - kMarkSize);
    while (!is_utf8(name)) name.pop_back();
  }
  return name + std::string(kMarkStart) + mark.previous.hex() + ")";
}

std::optional<RotationMark> parse_rotation_mark(const std::string& name) {
  if (name.size() <= kMarkSize || !name.ends_with(')')) return std::nullopt;
  const std::size_t start = name.size() - kMarkSize;
  if (name.compare(start, kMarkStart.size(), kMarkStart) != 0) return std::nullopt;
  const std::optional<ProtectorId> previous = ProtectorId::from_hex(
      std::string_view(name).substr(start + kMarkStart.size(), 2 * ProtectorId::kSize));
  if (!previous) return std::nullopt;
  return RotationMark{name.substr(0, start), *previous};
}

RotatedProtector rotate_protector(Context& context, const NamedProtector& place,
                                  SecretProvider& secrets) {
  Opener opener(secrets, context);
  // Whoever was faster may have changed the secret: then ours does not open it any more, and the
  // error says so.
  for (int tries = 0; tries < kTries; ++tries) {
    Rotation rotation(context, place, opener);
    if (std::optional<RotatedProtector> result = rotation.run()) return std::move(*result);
  }
  throw Error(Errc::metadata_locked, "the protector is being changed by others all the time");
}

}  // namespace fscryptctl
