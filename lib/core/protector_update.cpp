#include "fscryptctl/core/protector_update.h"

#include <algorithm>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

constexpr int kTries = 10;

/// One protector's records on all filesystems.
class Update {
 public:
  Update(Context& context, Opener& opener, OpenProtector protector)
      : context_(context), opener_(opener), protector_(std::move(protector)) {}

  /// nullopt if somebody changed the record since it was opened.
  std::optional<UpdatedProtector> run(const ProtectorChoice& place, const ChangeWrappings& change) {
    std::vector<Copy> others = find_other_copies(place);
    ProtectorRecord changed = change(protector_, next_generation(others));
    // The new secret may be the one that other copies have got already.
    for (Copy& copy : others) copy.opened = copy.opened || opens_to_same_key(copy.record);
    if (newest_generation(changed) < next_generation(others)) {
      changed = change(protector_, next_generation(others));
    }
    context_.throw_if_interrupted();
    if (!replace(place.store, protector_.record, changed)) return std::nullopt;
    context_.explain("wrote the record of protector " + changed.summary.id.hex());
    UpdatedProtector result{changed.summary, {{place.filesystem.mount().mount_point, true}}};
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

  [[nodiscard]] std::uint64_t next_generation(const std::vector<Copy>& others) const {
    std::uint64_t generation = newest_generation(protector_.record) + 1;
    for (const Copy& copy : others) {
      if (copy.opened) generation = std::max(generation, newest_generation(copy.record) + 1);
    }
    return generation;
  }

  std::vector<Copy> find_other_copies(const ProtectorChoice& place) {
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
    summarise(*now);
    now->summary.user = changed.summary.user;
    now->summary.machine_id = changed.summary.machine_id;
    store.write(lock, *now);
    return true;
  }

  Context& context_;
  Opener& opener_;
  OpenProtector protector_;
};

OpenProtector copy_of(const OpenProtector& open) {
  return {open.record, ProtectorKey(SecretBytes(open.key.view())), open.opened_with};
}

bool is_imported(const ProtectorWrapping& wrapping) {
  return algorithm_of(wrapping.wrapped) != WrapAlgorithm::fscryptctl_wrap_1;
}

/// A record never mixes algorithms: where something of ours has come to an imported wrapping, this
/// one is made again by the secret that has just opened it.
ProtectorRecord in_one_algorithm(ProtectorRecord changed, const OpenProtector& open,
                                 Opener& opener) {
  const auto imported =
      std::find_if(changed.wrappings.begin(), changed.wrappings.end(), is_imported);
  if (imported == changed.wrappings.end() || changed.wrappings.size() == 1) return changed;
  const std::optional<ProtectorWrapping> again = opener.wrap_again(open.record, open.key);
  if (!again) throw Error(Errc::internal, "an imported wrapping cannot be made again");
  *imported = *again;
  summarise(changed);
  return changed;
}

std::vector<ProtectorId> ids_of(const std::vector<ProtectorSummary>& protectors) {
  std::vector<ProtectorId> ids;
  ids.reserve(protectors.size());
  for (const ProtectorSummary& protector : protectors) ids.push_back(protector.id);
  return ids;
}

}  // namespace

UpdatedProtector update_protector(Context& context, const ProtectorChoice& choice, Opener& opener,
                                  const ChangeWrappings& change) {
  std::vector<ProtectorId> chosen = ids_of(choice.candidates);
  const ChangeWrappings change_all = [&](const OpenProtector& open, std::uint64_t generation) {
    return in_one_algorithm(change(open, generation), open, opener);
  };
  // Whoever was faster may have changed the secret: then ours does not open it any more, and the
  // error says so.
  for (int tries = 0; tries < kTries; ++tries) {
    const bool named = chosen.size() == 1;
    if (named && tries > 0 && !choice.store.protector(chosen.front())) {
      throw Error(Errc::no_such_protector,
                  choice.target + " has just been replaced by another run");
    }
    const OpenProtector& open =
        opener.open_any(read_protectors(choice.store, chosen), choice.target, named);
    chosen = {open.record.summary.id};
    Update update(context, opener, copy_of(open));
    if (std::optional<UpdatedProtector> result = update.run(choice, change_all)) {
      return std::move(*result);
    }
  }
  throw Error(Errc::metadata_locked, "the protector is being changed by others all the time");
}

}  // namespace fscryptctl
