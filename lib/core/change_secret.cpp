#include "fscryptctl/core/change_secret.h"

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/policy.h"

namespace fscryptctl {
namespace {

constexpr int kTries = 10;

/// The protector to change: where its record lies, and which it is.
struct Place {
  Filesystem filesystem;
  UserStore store;
  std::vector<ProtectorSummary> candidates;
};

std::vector<ProtectorSummary> summaries(const std::vector<ProtectorRecord>& records) {
  std::vector<ProtectorSummary> all;
  all.reserve(records.size());
  for (const ProtectorRecord& record : records) all.push_back(record.summary);
  return all;
}

Place place_of_directory(Context& context, const std::string& path) {
  Target target = look_at(context, path);
  const KeyIdentifier key = require_v2_key(target);
  std::optional<FoundPolicy> found = find_record(context, target.filesystem, target.owner.uid, key);
  if (!found) throw not_managed(target.filesystem, path);
  std::vector<ProtectorSummary> candidates =
      summaries(read_protectors(found->store, found->record.summary.protectors).records);
  return {std::move(target.filesystem), std::move(found->store), std::move(candidates)};
}

Place place_of_mount(Context& context, const std::string& mount) {
  Filesystem filesystem = filesystem_of_path(context, mount);
  static_cast<void>(filesystem.require_metadata());
  std::optional<UserStore> store = filesystem.store(context.user_without_path());
  if (!store) {
    throw Error(Errc::no_such_protector,
                "no protectors on " + printable(filesystem.mount().mount_point));
  }
  std::vector<ProtectorSummary> candidates = store->protectors().records;
  return {std::move(filesystem), std::move(*store), std::move(candidates)};
}

std::vector<std::string> names(const std::vector<ProtectorSummary>& protectors) {
  std::vector<std::string> all;
  all.reserve(protectors.size());
  for (const ProtectorSummary& protector : protectors) {
    all.push_back(protector.name + " (" + protector.id.hex() + ")");
  }
  return all;
}

/// The protectors among which the secret decides.
std::vector<ProtectorSummary> choose(const Place& place, const ChangeSecretRequest& request) {
  if (request.protector) return {find_protector(place.candidates, *request.protector)};
  std::vector<ProtectorSummary> chosen = place.candidates;
  if (request.kind) {
    std::erase_if(chosen, [&](const ProtectorSummary& one) { return one.source != *request.kind; });
  }
  if (chosen.empty()) {
    throw Error(Errc::no_such_protector,
                "no such protectors on " + printable(place.filesystem.mount().mount_point));
  }
  if (request.path || chosen.size() == 1) return chosen;
  throw Error(Errc::ambiguous, "several protectors could be meant: choose one with --protector")
      .with_candidates(names(chosen));
}

std::vector<ProtectorId> ids_of(const std::vector<ProtectorSummary>& protectors) {
  std::vector<ProtectorId> ids;
  ids.reserve(protectors.size());
  for (const ProtectorSummary& protector : protectors) ids.push_back(protector.id);
  return ids;
}

/// Changes one protector wherever it has a record that the previous secret opens.
class Change {
 public:
  Change(Context& context, Opener& opener, OpenProtector protector)
      : context_(context), opener_(opener), protector_(std::move(protector)) {}

  /// nullopt if somebody changed the record since it was opened.
  std::optional<ChangeSecretResult> run(const Place& place, const Secret& secret) {
    const std::vector<Copy> others = find_other_copies(place);
    std::uint64_t generation = newest_generation(protector_.record) + 1;
    for (const Copy& copy : others) {
      if (copy.opened) generation = std::max(generation, newest_generation(copy.record) + 1);
    }
    const ProtectorRecord changed =
        with_new_secret(protector_, secret, costs_for_new_hashing(context_), generation);
    context_.throw_if_interrupted();
    if (!replace(place.store, protector_.record, changed)) return std::nullopt;
    context_.explain("wrote the record of protector " + changed.summary.id.hex());
    ChangeSecretResult result{changed.summary, {{place.filesystem.mount().mount_point, true}}};
    for (const Copy& copy : others) {
      result.copies.push_back({copy.mount_point, copy.opened && replace_copy(copy, changed)});
    }
    return result;
  }

 private:
  struct Copy {
    std::string mount_point;
    UserStore store;
    ProtectorRecord record;
    bool opened;  ///< by the secret that was just proven, to the same protector key
  };

  std::vector<Copy> find_other_copies(const Place& place) {
    std::vector<Copy> copies;
    for (const Filesystem& filesystem : local_filesystems(context_)) {
      if (filesystem.mount().device == place.filesystem.mount().device) continue;
      // One of the loops over independent filesystems: another's bad records stop nothing here.
      try {
        std::optional<UserStore> store = filesystem.store(place.store.user());
        if (!store) continue;
        std::optional<ProtectorRecord> record = store->protector(protector_.record.summary.id);
        if (!record) continue;
        const bool opened = opens_to_same_key(*record);
        copies.push_back(
            {filesystem.mount().mount_point, std::move(*store), std::move(*record), opened});
      } catch (const Error& error) {
        if (error.code() == Errc::interrupted) throw;
      }
    }
    return copies;
  }

  bool opens_to_same_key(const ProtectorRecord& record) {
    const std::optional<ProtectorKey> key = opener_.try_known(record);
    return key && equal_secrets(key->secret(), protector_.key.secret());
  }

  [[nodiscard]] bool replace_copy(const Copy& copy, ProtectorRecord changed) const {
    changed.summary.name = copy.record.summary.name;
    try {
      return replace(copy.store, copy.record, changed);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      return false;
    }
  }

  /// The store reads back what it wrote before the old record goes. The hashing was done without
  /// the lock, so somebody may have been faster: her change is not undone.
  [[nodiscard]] bool replace(const UserStore& store, const ProtectorRecord& seen,
                             const ProtectorRecord& changed) const {
    const UserStore::Lock lock = store.lock(context_.throw_if_interrupted);
    std::optional<ProtectorRecord> now = store.protector(seen.summary.id);
    if (!now || now->wrappings != seen.wrappings) return false;
    now->wrappings = changed.wrappings;
    now->summary.ways = changed.summary.ways;
    store.write(lock, *now);
    return true;
  }

  Context& context_;
  Opener& opener_;
  OpenProtector protector_;
};

OpenProtector copy_of(const OpenProtector& open) {
  return {open.record, ProtectorKey(SecretBytes(open.key.view()))};
}

}  // namespace

ChangeSecretResult change_secret(Context& context, const ChangeSecretRequest& request,
                                 SecretProvider& secrets) {
  const Place place = request.path ? place_of_directory(context, *request.path)
                                   : place_of_mount(context, request.mount);
  const std::vector<ProtectorSummary> candidates = choose(place, request);
  std::vector<ProtectorId> chosen = ids_of(candidates);
  const std::string target = request.path.value_or("protector " + candidates.front().name);
  Opener opener(secrets, context);
  std::optional<Secret> secret;
  // Whoever was faster may have changed the secret: then ours does not open it any more, and the
  // error says so.
  for (int tries = 0; tries < kTries; ++tries) {
    const bool named = chosen.size() == 1;
    const OpenProtector& open =
        opener.open_any(read_protectors(place.store, chosen), target, named);
    chosen = {open.record.summary.id};
    if (!secret) secret = secrets.fresh(open.record.summary.source, target);
    Change change(context, opener, copy_of(open));
    if (std::optional<ChangeSecretResult> result = change.run(place, *secret)) {
      return std::move(*result);
    }
  }
  throw Error(Errc::metadata_locked, "the protector is being changed by others all the time");
}

}  // namespace fscryptctl
