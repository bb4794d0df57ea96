#include "fscryptctl/core/import_google.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "fscryptctl/base/utc_time.h"
#include "fscryptctl/core/directory_search.h"
#include "fscryptctl/core/login.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/core/protector.h"
#include "fscryptctl/core/setup.h"
#include "fscryptctl/core/users.h"
#include "fscryptctl/metadata/record_rules.h"

namespace fscryptctl {
namespace {

constexpr const char* kLoginName = "login";

/// What becomes one user's.
struct Share {
  std::vector<const FoundGoogleProtector*> protectors;
  std::vector<std::pair<const FoundGooglePolicy*, std::vector<PolicyWrapping>>> policies;
};

/// Divides what was found among the users.
class Division {
 public:
  Division(const Context& context, const Filesystem& filesystem, GoogleMetadata& found)
      : context_(context), filesystem_(filesystem), found_(found) {
    for (const auto& [id, protector] : found.protectors) {
      if (wanted(protector.owner)) shares_[protector.owner].protectors.push_back(&protector);
    }
    for (const FoundGooglePolicy& policy : found.policies) divide(policy);
  }

  [[nodiscard]] const std::map<uid_t, Share>& shares() const noexcept { return shares_; }

 private:
  [[nodiscard]] bool wanted(uid_t uid) const {
    if (context_.user) return context_.user->uid == uid;
    return context_.caller.uid == 0 || context_.caller.uid == uid;
  }

  /// nullopt for a protector that was not found.
  [[nodiscard]] std::optional<uid_t> owner_of(const ProtectorId& id) const {
    const auto protector = found_.protectors.find(id);
    if (protector == found_.protectors.end()) return std::nullopt;
    return protector->second.owner;
  }

  /// An ordinary user's file says nothing about others: it could put records of hers among theirs.
  /// What root wrote may be for anybody whose protector it names.
  void divide(const FoundGooglePolicy& policy) {
    std::set<uid_t> holders;
    bool names_root_s = false;
    for (const PolicyWrapping& wrapping : policy.policy.wrappings) {
      const std::optional<uid_t> owner = owner_of(wrapping.protector);
      if (owner && (policy.owner == 0 || *owner == policy.owner)) holders.insert(*owner);
      if (owner == uid_t{0} && policy.owner != 0) names_root_s = true;
    }
    if (names_root_s && wanted(0)) {
      if (root_wants(policy.policy.key_identifier)) {
        holders.insert(0);
      } else {
        found_.skipped.push_back({policy.file, Errc::untrusted_metadata, claim_of(policy)});
      }
    }
    for (const uid_t holder : holders) {
      if (wanted(holder)) give(policy, holder);
    }
    if (holders.empty() && !names_root_s && context_.caller.uid == 0 && wanted(policy.owner)) {
      found_.skipped.push_back(
          {policy.file, Errc::no_such_protector, "none of its protectors could be taken over"});
    }
  }

  /// Root may have added a way in of its own to a user's policy. But she could have written that
  /// herself: it counts once root has said so.
  [[nodiscard]] bool root_wants(const KeyIdentifier& key) const {
    if (context_.user) return true;
    try {
      const std::optional<UserStore> store = filesystem_.store({0, 0});
      return store && store->policy(key);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      return true;  // a record that is damaged is reported as one
    }
  }

  [[nodiscard]] static std::string claim_of(const FoundGooglePolicy& policy) {
    const std::string name = printable(user_name(policy.owner));
    return "this file of " + name + " says that a protector of root opens " + name +
           "'s directory, too; if that is right: --user root";
  }

  /// What is on a disk that is away may come with a later run; its wrapping is here already. That a
  /// third user has put a file of that name here does not make it hers.
  [[nodiscard]] static bool missing_of_hers(const FoundGooglePolicy& policy,
                                            std::optional<uid_t> owner, uid_t holder) {
    if (policy.owner != holder) return false;
    if (!owner) return true;
    return holder != 0 && *owner != 0 && *owner != holder;
  }

  void give(const FoundGooglePolicy& policy, uid_t holder) {
    std::vector<PolicyWrapping> wrappings;
    for (const PolicyWrapping& wrapping : policy.policy.wrappings) {
      const std::optional<uid_t> owner = owner_of(wrapping.protector);
      if (owner == holder || missing_of_hers(policy, owner, holder)) wrappings.push_back(wrapping);
    }
    shares_[holder].policies.emplace_back(&policy, std::move(wrappings));
  }

  const Context& context_;
  const Filesystem& filesystem_;
  GoogleMetadata& found_;
  std::map<uid_t, Share> shares_;
};

ProtectorRecord record_of(const FoundGoogleProtector& found,
                          const std::vector<ProtectorSummary>& existing) {
  const GoogleProtector& protector = found.protector;
  ProtectorRecord record;
  ProtectorSummary& summary = record.summary;
  summary.id = protector.id;
  summary.source = protector.source;
  summary.created = now_rfc3339();
  record.wrappings = {protector.wrapping};
  summarise(record);
  if (protector.source != Source::login) {
    summary.name = free_name(protector.name, existing);
    return record;
  }
  const bool taken = std::any_of(existing.begin(), existing.end(),
                                 [](const auto& other) { return other.name == kLoginName; });
  summary.name = taken ? free_name(kLoginName, existing) : kLoginName;
  set_hints(summary, login_user(user_from_uid(*protector.uid)));
  if (!found.on_running_root) summary.machine_id.clear();
  return record;
}

/// Where directories lie, by key, as records note it.
using Places = std::map<KeyIdentifier, std::vector<std::string>>;

PolicyRecord record_of(const GooglePolicy& policy, const std::vector<PolicyWrapping>& wrappings,
                       const Places& places) {
  PolicyRecord record;
  record.summary.key_identifier = policy.key_identifier;
  record.options = policy.options;
  record.wrappings = wrappings;
  summarise(record);
  const auto found = places.find(policy.key_identifier);
  if (found == places.end()) return record;
  for (const std::string& place : found->second) add_hint(record, place);
  return record;
}

/// The other tool keeps no paths, and without them listings show nothing. So the filesystem is
/// looked through once, for a while: what is not found in time is noted when it is unlocked.
class PlaceSearch {
 public:
  PlaceSearch(const Context& context, const Filesystem& filesystem,
              const std::set<KeyIdentifier>& keys)
      : context_(context), filesystem_(filesystem), keys_(keys) {}

  Places run() {
    const UniqueFd root(::openat(filesystem_.root_fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (keys_.empty() || filesystem_.mount().root != "/" || !root) return {};
    Context limited = context_;
    limited.throw_if_interrupted = [this] {
      context_.throw_if_interrupted();
      if (std::chrono::steady_clock::now() > deadline_) {
        throw Error(Errc::io, "looking for directories takes too long");
      }
    };
    const DirectorySearch search{
        [this](const std::string& path, const KernelPolicy& policy) { note(path, policy); },
        [](const std::string&, const Error&) {}};
    try {
      search_directories(limited, root.get(), "", search);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      context_.explain(error.what());  // it is a convenience
    }
    return std::move(places_);
  }

 private:
  void note(const std::string& path, const KernelPolicy& policy) {
    const auto* const key = std::get_if<KeyIdentifier>(&policy.key);
    const std::string hint = path.substr(path.starts_with('/') ? 1 : 0);
    if (key == nullptr || !keys_.contains(*key) || !valid_path_hint(hint)) return;
    struct stat info {};
    const bool directory =
        ::fstatat(filesystem_.root_fd(), hint.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(info.st_mode);
    std::vector<std::string>& found = places_[*key];
    if (directory && found.size() < kMaxPaths) found.push_back(hint);
  }

  static constexpr std::chrono::seconds kPatience{10};
  const Context& context_;
  const Filesystem& filesystem_;
  const std::set<KeyIdentifier>& keys_;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::now() + kPatience;
  Places places_;
};

bool all_imported(const std::vector<PolicyWrapping>& wrappings) {
  return std::all_of(wrappings.begin(), wrappings.end(), [](const PolicyWrapping& wrapping) {
    return algorithm_of(wrapping.wrapped) == WrapAlgorithm::google_fscrypt_1;
  });
}

/// Lets one user's share become records. Nothing is hashed or asked, so one lock spans it all.
class UserImport {
 public:
  UserImport(Context& context, const GoogleImportRequest& request, Identity user,
             const std::optional<UserStore>& store, const Places& places, GoogleImport& result)
      : context_(context),
        request_(request),
        user_(user),
        name_(user_name(user.uid)),
        store_(store),
        places_(places),
        result_(result) {
    if (store_ && !request_.dry_run) lock_ = store_->lock(context_.throw_if_interrupted);
    if (store_) summaries_ = store_->protectors().records;
  }

  void run(const Share& share) {
    // Protectors first: a policy that nothing opens would be no use to anybody.
    for (const FoundGoogleProtector* protector : share.protectors) {
      guard(protector->file, [&] { import(*protector); });
    }
    for (const auto& policy : share.policies) {
      guard(policy.first->file, [&] { import(*policy.first, policy.second); });
    }
  }

 private:
  /// Our own record may be damaged, or not be hers: said, and left alone.
  template <class Action>
  void guard(const std::string& file, const Action& action) {
    context_.throw_if_interrupted();
    try {
      action();
    } catch (const Error& error) {
      const bool of_the_record =
          errc_info(error.code()).exit_code == errc_info(Errc::corrupt_metadata).exit_code;
      if (!of_the_record) throw;
      const std::string what = error.path().empty()
                                   ? error.what()
                                   : "the record that is here already (" + printable(error.path()) +
                                         "): " + error.what();
      result_.skipped.push_back({file, error.code(), what});
    }
  }

  template <class Record>
  void write(const Record& record) {
    if (request_.dry_run) return;
    store_->write(*lock_, record);
    result_.changed = true;
  }

  void import(const FoundGoogleProtector& found) {
    std::optional<ProtectorRecord> record;
    if (store_) record = store_->protector(found.protector.id);
    ImportState state = ImportState::imported;
    if (!record) {
      record = record_of(found, summaries_);
      write(*record);
      summaries_.push_back(record->summary);
    } else {
      state = state_of(*record, found.protector);
      if (state == ImportState::outdated && request_.update) {
        const std::uint64_t generation = newest_generation(*record) + 1;
        record->wrappings = {found.protector.wrapping};
        record->wrappings.front().generation = generation;
        summarise(*record);
        write(*record);
        state = ImportState::updated;
      }
    }
    result_.records.push_back({found.file, user_.uid, name_, state, record->summary, std::nullopt});
  }

  static ImportState state_of(const ProtectorRecord& record, const GoogleProtector& protector) {
    if (algorithm_of(record.wrappings) != WrapAlgorithm::google_fscrypt_1) return ImportState::kept;
    const ProtectorWrapping& here = record.wrappings.front();
    const bool same = here.method == protector.wrapping.method &&
                      here.kdf == protector.wrapping.kdf &&
                      here.wrapped == protector.wrapping.wrapped;
    if (same) return ImportState::unchanged;
    // Another source is another protector's business, whatever the id says.
    return here.method == protector.wrapping.method ? ImportState::outdated : ImportState::kept;
  }

  void import(const FoundGooglePolicy& found, const std::vector<PolicyWrapping>& hers) {
    std::optional<PolicyRecord> record;
    if (store_) record = store_->policy(found.policy.key_identifier);
    ImportState state = ImportState::imported;
    if (!record) {
      record = record_of(found.policy, hers, places_);
      write(*record);
    } else {
      const std::vector<PolicyWrapping> wrappings = still_hers(found.policy, hers, *record);
      state = state_of(*record, found.policy, wrappings);
      // Anybody's file may say that root has a way in; but not take another away.
      if (state == ImportState::outdated && found.owner != 0 && found.owner != user_.uid) {
        throw Error(Errc::untrusted_metadata,
                    "it differs from the record of " + name_ + ", and belongs to another user");
      }
      if (state == ImportState::outdated && request_.update) {
        record->wrappings = wrappings;
        summarise(*record);
        write(*record);
        state = ImportState::updated;
      }
    }
    result_.records.push_back({found.file, user_.uid, name_, state, std::nullopt, record->summary});
  }

  /// A way in goes only when the other tool has it no more, and not because its protector is
  /// damaged or away at the moment.
  static std::vector<PolicyWrapping> still_hers(const GooglePolicy& policy,
                                                const std::vector<PolicyWrapping>& hers,
                                                const PolicyRecord& record) {
    const auto among = [](const std::vector<PolicyWrapping>& all, const ProtectorId& id) {
      return std::any_of(all.begin(), all.end(),
                         [&](const PolicyWrapping& other) { return other.protector == id; });
    };
    std::vector<PolicyWrapping> wrappings;
    for (const PolicyWrapping& wrapping : policy.wrappings) {
      const ProtectorId& id = wrapping.protector;
      if (among(hers, id) || among(record.wrappings, id)) wrappings.push_back(wrapping);
    }
    return wrappings;
  }

  static ImportState state_of(const PolicyRecord& record, const GooglePolicy& policy,
                              const std::vector<PolicyWrapping>& wrappings) {
    if (!all_imported(record.wrappings) || record.options != policy.options) {
      return ImportState::kept;
    }
    return record.wrappings == wrappings ? ImportState::unchanged : ImportState::outdated;
  }

  Context& context_;
  const GoogleImportRequest& request_;
  Identity user_;
  std::string name_;
  const std::optional<UserStore>& store_;
  const Places& places_;
  GoogleImport& result_;
  std::optional<UserStore::Lock> lock_;
  std::vector<ProtectorSummary> summaries_;
};

/// Keys of which some user is to get a first record.
std::set<KeyIdentifier> new_keys(const Filesystem& filesystem,
                                 const std::map<uid_t, Share>& shares) {
  std::set<KeyIdentifier> keys;
  for (const auto& [uid, share] : shares) {
    for (const auto& [policy, wrappings] : share.policies) {
      const KeyIdentifier& key = policy->policy.key_identifier;
      try {
        const std::optional<UserStore> store = filesystem.store(user_from_uid(uid));
        if (!store || !store->policy(key)) keys.insert(key);
      } catch (const Error& error) {
        if (error.code() == Errc::interrupted) throw;  // else it is reported when it is imported
      }
    }
  }
  return keys;
}

/// The user's directory, made where that is missing and may be; with dry_run it may stay away.
std::optional<UserStore> store_of(const Filesystem& filesystem, Identity user, bool dry_run) {
  if (dry_run) return filesystem.store(user);
  return filesystem.store_for_writing(user);
}

}  // namespace

void import_google_fscrypt(Context& context, const Filesystem& filesystem,
                           const GoogleImportRequest& request, GoogleImport& result) {
  const std::string& mount_point = filesystem.mount().mount_point;
  std::optional<MetadataRoot> ours = filesystem.metadata();  // throws for another user's disk
  std::optional<GoogleMetadata> found = read_google_metadata(context, filesystem);
  if (!found) {
    throw Error(Errc::no_such_path,
                "there is no metadata of google/fscrypt on " + printable(mount_point))
        .with_path(mount_point);
  }
  const Division division(context, filesystem, *found);
  result.skipped = std::move(found->skipped);
  if (division.shares().empty()) return;

  const bool may_set_up =
      context.caller.uid == 0 || context.caller.uid == filesystem.trusted_owner().uid;
  if (!ours && !may_set_up) static_cast<void>(filesystem.require_metadata());
  if (!ours && !request.dry_run) {
    // Who may begin there is as before.
    if (set_up_filesystem(context, filesystem, std::nullopt, found->open_to_all)) {
      result.changed = true;
    }
  }
  const std::set<KeyIdentifier> keys =
      request.dry_run ? std::set<KeyIdentifier>() : new_keys(filesystem, division.shares());
  const Places places = PlaceSearch(context, filesystem, keys).run();
  for (const auto& [uid, share] : division.shares()) {
    const Identity user = user_from_uid(uid);
    // One of the loops over independent users: her directory may not be in order, her quota used
    // up, or she may hold its lock for as long as she likes.
    try {
      const std::optional<UserStore> store = store_of(filesystem, user, request.dry_run);
      UserImport(context, request, user, store, places, result).run(share);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      result.failed.push_back({uid, user_name(uid), error});
    }
  }
}

}  // namespace fscryptctl
