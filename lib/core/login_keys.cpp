#include "fscryptctl/core/login_keys.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/policy.h"

namespace fscryptctl {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Entries of each kind that are looked at for a login.
constexpr std::size_t kMaxEntries = 256;
/// How long another writer is waited for.
constexpr milliseconds kPatience{1000};
/// What a lane does on a slow machine of our days, in KiB and passes a millisecond.
constexpr double kSlowLane = 700;
/// Above this a guess is not good enough: the machine is measured.
constexpr milliseconds kWorthMeasuring{500};
constexpr KdfCosts kMeasure{1, 16 * 1024, 1};

bool is_network(const Mount& mount) { return is_network_type(mount.type); }

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// The device that a path lies on, told without looking at the path.
std::optional<dev_t> device_of(const std::vector<Mount>& mounts, const std::string& path) {
  const Mount* best = nullptr;
  for (const Mount& mount : mounts) {
    const std::string& point = mount.mount_point;
    const bool above = point == "/" || path == point || path.starts_with(point + "/");
    if (above && (best == nullptr || point.size() >= best->mount_point.size())) best = &mount;
  }
  if (best == nullptr) return std::nullopt;
  return best->device;
}

std::vector<Filesystem> filesystems_for_login(const Context& context, const std::string& home) {
  std::vector<Filesystem> filesystems = local_filesystems(context);
  // A removable disk that belongs to a user is hers to unlock, by hand.
  std::erase_if(filesystems,
                [](const Filesystem& filesystem) { return filesystem.trusted_owner().uid != 0; });
  const std::optional<dev_t> first = device_of(context.mounts, home);
  std::stable_partition(filesystems.begin(), filesystems.end(), [&](const Filesystem& filesystem) {
    return filesystem.mount().device == first;
  });
  return filesystems;
}

/// Login wrappings, the newest first.
std::vector<const ProtectorWrapping*> login_wrappings(const ProtectorRecord& record) {
  std::vector<const ProtectorWrapping*> found;
  for (const ProtectorWrapping& wrapping : record.wrappings) {
    if (wrapping.method == Method::login && wrapping.kdf) found.push_back(&wrapping);
  }
  std::sort(found.begin(), found.end(),
            [](const auto* a, const auto* b) { return a->generation > b->generation; });
  return found;
}

const WrappingKey* hashed_with(const HashedPassword& hashed, const Argon2id& kdf) {
  for (const auto& [known, key] : hashed) {
    if (known == kdf) return &key;
  }
  return nullptr;
}

bool opens_with(const ProtectorRecord& record, const HashedPassword& hashed) {
  const auto wrappings = login_wrappings(record);
  return std::any_of(wrappings.begin(), wrappings.end(), [&](const ProtectorWrapping* wrapping) {
    const WrappingKey* const hash = hashed_with(hashed, *wrapping->kdf);
    return hash != nullptr && unwrap(*hash, context_of(record, *wrapping), wrapping->wrapped);
  });
}

bool is_readable_only(const LoginCopy& copy) {
  const ActAs acting(copy.place->store.user());
  return copy.place->filesystem.mount().read_only ||
         ::faccessat(copy.place->store.directory_fd(), ".", W_OK, AT_EACCESS) != 0;
}

}  // namespace

std::vector<Mount> mounts_for_login(std::vector<Mount> mounts) {
  // Something local mounted upon it, as an automount's filesystem is: the path leads there.
  const auto is_covered = [&mounts](const Mount& below) {
    return std::any_of(mounts.begin(), mounts.end(), [&below](const Mount& mount) {
      return mount.parent_id == below.id && mount.mount_point == below.mount_point &&
             !is_network(mount);
    });
  };
  std::vector<std::string> through;
  for (const Mount& mount : mounts) {
    // Where the root itself comes from a server, so does this program.
    if (is_network(mount) && mount.mount_point != "/" && !is_covered(mount)) {
      through.push_back(mount.mount_point + "/");
    }
  }
  std::erase_if(mounts, [&through](const Mount& mount) {
    return is_network(mount) ||
           std::any_of(through.begin(), through.end(), [&mount](const std::string& prefix) {
             return mount.mount_point.starts_with(prefix);
           });
  });
  return mounts;
}

LoginKeys::LoginKeys(Context& context, LoginUser user, const std::string& home, LoginBudget& budget)
    : context_(context),
      user_(std::move(user)),
      budget_(budget),
      limits_(context.kdf_limits()),
      places_(login_places(filesystems_for_login(context, home), user_.identity)) {
  for (LoginCopy& copy : find_login_copies(places_, user_, search())) {
    copies_.push_back({std::move(copy)});
  }
  if (budget_.over()) context_.explain("reading what opens directories took too long");
}

LoginSearch LoginKeys::search() const {
  return {kMaxEntries, [this] { return budget_.over(); }};
}

bool LoginKeys::some_closed() const {
  return std::any_of(copies_.begin(), copies_.end(), [this](const Copy& copy) {
    return hints_at(copy.seen.record.summary, user_) &&
           !keys_.contains(copy.seen.record.summary.id);
  });
}

bool LoginKeys::affordable(const KdfCosts& costs) {
  const auto lanes = std::min(costs.lanes, default_lanes());
  const double work = static_cast<double>(costs.memory_kib) * costs.passes / lanes;
  const double guess = work / (kib_a_ms_ > 0 ? kib_a_ms_ : kSlowLane);
  if (kib_a_ms_ == 0 && guess > static_cast<double>(kWorthMeasuring.count())) {
    const Clock::time_point start = Clock::now();
    static_cast<void>(derive_wrapping_key(SecretBytes(1), KdfSalt{}, kMeasure));
    kib_a_ms_ = kMeasure.memory_kib / std::max(milliseconds_since(start), 0.01);
    return affordable(costs);
  }
  return guess <= static_cast<double>(budget_.left().count());
}

/// There can be any number of them: the log gets the first.
void LoginKeys::explain_untried(const ProtectorId& id, const std::string& reason) {
  if (std::exchange(untried_, true)) return;
  context_.explain("protector " + id.hex() + " was not tried: " + reason);
}

bool LoginKeys::hash_for(const Copy& copy, const SecretBytes& password, HashedPassword& hashed,
                         int& strangers) {
  const ProtectorRecord& record = copy.seen.record;
  const bool own = hints_at(record.summary, user_);
  for (const ProtectorWrapping* wrapping : login_wrappings(record)) {
    if (hashed_with(hashed, *wrapping->kdf) != nullptr) continue;
    const KdfCosts& costs = wrapping->kdf->costs;
    if (const auto reason = over_limit(costs, limits_)) {
      explain_untried(record.summary.id, *reason);
      continue;
    }
    if (!affordable(costs)) {
      explain_untried(record.summary.id, "hashing would keep the login waiting for too long");
      continue;
    }
    if (!own && ++strangers > Opener::kMaxHashings) return false;
    const Clock::time_point start = Clock::now();
    hashed.emplace_back(*wrapping->kdf, derive_wrapping_key(password, wrapping->kdf->salt, costs));
    const double work = static_cast<double>(costs.memory_kib) * costs.passes /
                        std::min(costs.lanes, default_lanes());
    // Small ones stay in the processor's cache and say nothing about large ones.
    if (costs.memory_kib >= kMeasure.memory_kib) {
      kib_a_ms_ = work / std::max(milliseconds_since(start), 0.01);
    }
    const WrappingKey& key = hashed.back().second;
    if (unwrap(key, context_of(record, *wrapping), wrapping->wrapped)) return true;
  }
  return true;
}

bool LoginKeys::opened(Copy& copy, const HashedPassword& hashed) {
  const ProtectorRecord& record = copy.seen.record;
  for (const ProtectorWrapping* wrapping : login_wrappings(record)) {
    const WrappingKey* const hash = hashed_with(hashed, *wrapping->kdf);
    if (hash == nullptr) continue;
    std::optional<ProtectorKey> key =
        unwrap(*hash, context_of(record, *wrapping), wrapping->wrapped);
    if (!key) continue;
    copy.opened = wrapping->generation;
    keys_.try_emplace(record.summary.id, std::move(*key));
    return true;
  }
  return false;
}

bool LoginKeys::open(const SecretBytes& password, HashedPassword& hashed) {
  bool any = false;
  int strangers = 0;
  for (Copy& copy : copies_) {
    // Once the key is known, another copy is not worth another hashing.
    if (!keys_.contains(copy.seen.record.summary.id) &&
        !hash_for(copy, password, hashed, strangers)) {
      break;
    }
    if (copy.opened == 0 && opened(copy, hashed)) any = true;
  }
  return any;
}

bool LoginKeys::open(const HashedPassword& hashed) {
  bool any = false;
  for (Copy& copy : copies_) {
    if (copy.opened == 0 && opened(copy, hashed)) any = true;
  }
  return any;
}

bool LoginKeys::open(const RecoveryKey& recovery_key) {
  bool any = false;
  for (Copy& copy : copies_) {
    const ProtectorRecord& record = copy.seen.record;
    if (copy.opened != 0) continue;
    for (const ProtectorWrapping& wrapping : record.wrappings) {
      if (wrapping.method != Method::recovery_key) continue;
      const WrappingKey key(SecretBytes(recovery_key.view()));
      std::optional<ProtectorKey> opened =
          unwrap(key, context_of(record, wrapping), wrapping.wrapped);
      if (!opened) continue;
      copy.opened = login_wrappings(record).front()->generation;
      keys_.try_emplace(record.summary.id, std::move(*opened));
      any = true;
    }
  }
  return any;
}

OpenProtector LoginKeys::open_protector(const Copy& copy) const {
  const ProtectorKey& key = keys_.at(copy.seen.record.summary.id);
  return {copy.seen.record, ProtectorKey(SecretBytes(key.view()))};
}

LoginKeys::Copy* LoginKeys::best_copy(const ProtectorId& id) {
  Copy* best = nullptr;
  for (Copy& copy : copies_) {
    if (copy.seen.record.summary.id != id || copy.opened == 0) continue;
    if (best == nullptr || copy.opened > best->opened) best = &copy;
  }
  return best;
}

bool LoginKeys::is_proven(const Copy& copy) const {
  return copy.opened != 0 ||
         opens_some_policy(copy.seen.place->store, open_protector(copy), search());
}

bool LoginKeys::write(Copy& copy, const ProtectorRecord& wanted) {
  if (wanted.wrappings == copy.seen.record.wrappings) return true;
  const std::string where = copy.seen.place->filesystem.mount().mount_point;
  // One of the loops over independent records.
  try {
    if (!replace_copy(context_, copy.seen, wanted, kPatience)) {
      context_.explain("the copy on " + printable(where) + " has just been changed by others");
      return false;
    }
    copy.seen.record = wanted;
    return true;
  } catch (const Error& error) {
    context_.explain("the copy on " + printable(where) + " was not written: " + error.what());
    return false;
  }
}

bool LoginKeys::spread(const Copy& from) {
  bool all = true;
  for (Copy& copy : copies_) {
    if (&copy == &from || copy.seen.record.summary.id != from.seen.record.summary.id) continue;
    const ProtectorRecord wanted = with_login_wrappings(copy.seen.record, from.seen.record);
    if (wanted.wrappings == copy.seen.record.wrappings) continue;
    if (budget_.over() || !is_proven(copy)) {
      context_.explain("the copy on " + printable(copy.seen.place->filesystem.mount().mount_point) +
                       " stays as it is");
      all = false;
      continue;
    }
    if (!write(copy, wanted)) all = false;
  }
  return all;
}

bool LoginKeys::rewrap(const SecretBytes& password, const HashedPassword& hashed) {
  bool all = true;
  std::vector<ProtectorId> ids;
  for (const auto& [id, key] : keys_) ids.push_back(id);
  for (const ProtectorId& id : ids) {
    Copy* const best = best_copy(id);
    if (best == nullptr || opens_with(best->seen.record, hashed)) continue;
    std::uint64_t generation = 1;
    KdfCosts costs = costs_for_new_hashing(context_);
    for (const Copy& copy : copies_) {
      if (copy.seen.record.summary.id != id || copy.opened == 0) continue;
      generation = std::max(generation, newest_generation(copy.seen.record) + 1);
    }
    for (const ProtectorWrapping* wrapping : login_wrappings(best->seen.record)) {
      const KdfCosts before = wrapping->kdf->costs;
      const KdfCosts larger{std::max(costs.passes, before.passes),
                            std::max(costs.memory_kib, before.memory_kib), costs.lanes};
      if (!over_limit(larger, limits_) && affordable(larger)) costs = larger;
    }
    if (!affordable(costs)) {
      context_.explain("protector " + id.hex() + " keeps its previous password: hashing the new " +
                       "one would keep the login waiting for too long");
      all = false;
      continue;
    }
    ProtectorRecord wanted = with_newer_login_password(
        open_protector(*best), {Source::login, SecretBytes(password.view())}, costs, generation,
        best->opened);
    // It may have been another machine's, before an installation anew for example.
    set_hints(wanted.summary, user_);
    if (!write(*best, wanted)) {
      all = false;
      continue;
    }
    context_.explain("protector " + id.hex() + " opens with the new login password");
    if (!spread(*best)) all = false;
  }
  return all;
}

void LoginKeys::settle() {
  std::vector<ProtectorId> ids;
  for (const auto& [id, key] : keys_) ids.push_back(id);
  for (const ProtectorId& id : ids) {
    Copy* const best = best_copy(id);
    if (best == nullptr || budget_.over()) continue;
    const auto wrappings = login_wrappings(best->seen.record);
    // The previous one goes only when the newest has been proven.
    if (wrappings.front()->generation == best->opened && wrappings.size() > 1) {
      ProtectorRecord wanted = best->seen.record;
      const std::uint64_t newest = best->opened;
      std::erase_if(wanted.wrappings, [newest](const ProtectorWrapping& wrapping) {
        return wrapping.method == Method::login && wrapping.generation != newest;
      });
      summarise(wanted);
      if (!write(*best, wanted)) continue;
    }
    spread(*best);
  }
}

bool LoginKeys::settled() const {
  return std::none_of(copies_.begin(), copies_.end(), [this](const Copy& copy) {
    if (!keys_.contains(copy.seen.record.summary.id)) return false;
    return copy.opened == 0 || login_wrappings(copy.seen.record).size() > 1;
  });
}

std::set<ProtectorId> LoginKeys::ids() const {
  std::set<ProtectorId> ids;
  for (const Copy& copy : copies_) ids.insert(copy.seen.record.summary.id);
  return ids;
}

bool LoginKeys::writable() const {
  return std::none_of(copies_.begin(), copies_.end(), [this](const Copy& copy) {
    return keys_.contains(copy.seen.record.summary.id) && is_readable_only(copy.seen);
  });
}

}  // namespace fscryptctl
