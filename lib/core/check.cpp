#include "fscryptctl/core/check.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "fscryptctl/metadata/yaml_codec.h"

namespace fscryptctl {
namespace {

/// Whoever may make files can make many; what is wrong can be told from these.
constexpr std::size_t kMaxStrays = 100;

FindingCode code_of(Errc code) {
  if (code == Errc::corrupt_metadata) return FindingCode::damaged;
  if (code == Errc::untrusted_metadata) return FindingCode::untrusted;
  if (code == Errc::newer_format) return FindingCode::newer_format;
  return FindingCode::unreadable;
}

/// The identifier that a record's file is named after.
template <class Id>
std::optional<Id> id_of_file(std::string_view file) {
  constexpr std::string_view kSuffix = ".yaml";
  const std::size_t slash = file.find_last_of('/');
  if (slash != std::string_view::npos) file.remove_prefix(slash + 1);
  if (!file.ends_with(kSuffix)) return std::nullopt;
  file.remove_suffix(kSuffix.size());
  return Id::from_hex(file);
}

/// Where findings of one filesystem go.
class Report {
 public:
  Report(const Filesystem& filesystem, CheckResult& result)
      : mount_point_(filesystem.mount().mount_point), result_(result) {}

  /// `file` is relative to `.fscryptctl`; returns the finding's number.
  std::size_t add(FindingCode code, const std::string& file, std::optional<uid_t> uid,
                  const std::string& message, const std::string& id = "") {
    return add_path(code, below_mount_point(".fscryptctl" + (file.empty() ? "" : "/" + file)), uid,
                    message, id);
  }

  std::size_t add_path(FindingCode code, const std::string& path, std::optional<uid_t> uid,
                       const std::string& message, const std::string& id = "") {
    result_.findings.push_back({code, path, uid, message, id, mount_point_});
    return result_.findings.size() - 1;
  }

  void add(const DamagedRecord& damaged) {
    add(code_of(damaged.code), damaged.file, damaged.uid, damaged.reason);
  }

  void set_repaired(std::size_t finding) {
    result_.findings[finding].repaired = true;
    result_.changed = true;
  }

 private:
  [[nodiscard]] std::string below_mount_point(const std::string& rest) const {
    return (mount_point_ == "/" ? "" : mount_point_) + "/" + rest;
  }

  std::string mount_point_;
  CheckResult& result_;
};

/// What stands where a hint leads.
struct HintState {
  enum class Kind { ok, missing, plain, other_policy, closed, hidden };
  Kind kind;
  std::optional<KernelPolicy> policy{};
  uid_t owner{};  ///< of the directory, if its policy is known
};

/// Acting as the user whose hint it is: root's rights would lead it where she cannot go.
HintState look_at_hint(const Context& context, const Filesystem& filesystem,
                       const std::string& hint, const KeyIdentifier& key) {
  errno = 0;
  const UniqueFd found = filesystem.open_hint(hint);
  // What cannot be looked at may be right.
  if (!found && errno == EACCES) return {HintState::Kind::closed};
  if (!found && errno == EXDEV) return {HintState::Kind::hidden};
  if (!found) return {HintState::Kind::missing};
  const UniqueFd readable(
      ::openat(found.get(), ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
  // Somebody else's shared directory may be closed to her; that it is encrypted has to do.
  if (!readable) {
    return {file_info(found.get()).encrypted ? HintState::Kind::closed : HintState::Kind::plain};
  }
  const std::optional<KernelPolicy> policy = context.kernel.get_policy(readable.get());
  if (!policy) return {HintState::Kind::plain};
  const uid_t owner = file_info(readable.get()).uid;
  if (policy->key == KeySpecifier(key)) return {HintState::Kind::ok, policy, owner};
  return {HintState::Kind::other_policy, policy, owner};
}

bool leads_there(const HintState& state) {
  return state.kind == HintState::Kind::ok || state.kind == HintState::Kind::closed;
}

std::string describe(HintState::Kind kind) {
  switch (kind) {
    case HintState::Kind::missing:
      return "there is no such directory";
    case HintState::Kind::plain:
      return "the directory is not encrypted";
    case HintState::Kind::other_policy:
      return "the directory has another key";
    case HintState::Kind::hidden:
      return "something is mounted over it";
    case HintState::Kind::ok:
    case HintState::Kind::closed:
      break;
  }
  return "";
}

/// All of one user's.
class UserCheck {
 public:
  /// `known`: keys of which somebody has a record.
  UserCheck(Context& context, const Filesystem& filesystem, const UserStore& store,
            const std::set<KeyIdentifier>& known, Report& report)
      : context_(context),
        filesystem_(filesystem),
        store_(store),
        known_(known),
        report_(report),
        uid_(store.user().uid),
        limits_(context.kdf_limits()) {}

  void look() {
    look_at_strays();
    read_protectors();
    read_policies();
    check_names();
    for (const auto& [key, policy] : policies_) {
      context_.throw_if_interrupted();
      check_ways(policy);
      check_hints(policy);
    }
    check_unused();
  }

  /// Throws metadata_locked, no_space, io.
  void repair() {
    if (leftovers_.empty() && spelled_protectors_.empty() && changes_.empty()) return;
    // Whoever gets the lock removes what interrupted writers left.
    const UserStore::Lock lock = store_.lock(context_.throw_if_interrupted);
    for (const std::size_t finding : leftovers_) report_.set_repaired(finding);
    for (const auto& [id, finding] : spelled_protectors_) {
      const std::optional<ProtectorRecord> record = store_.protector(id);
      if (!record) continue;
      store_.write(lock, *record);
      report_.set_repaired(finding);
    }
    for (const auto& [key, change] : changes_) rewrite(lock, key, change);
  }

 private:
  struct PolicyChange {
    std::vector<std::size_t> findings;
  };

  std::string file_of(const ProtectorId& id) const {
    return "users/" + std::to_string(uid_) + "/protectors/" + id.hex() + ".yaml";
  }
  std::string file_of(const KeyIdentifier& key) const {
    return "users/" + std::to_string(uid_) + "/policies/" + key.hex() + ".yaml";
  }

  void look_at_strays() {
    const Strays strays = store_.strays(kMaxStrays);
    for (const StrayEntry& stray : strays.entries) {
      if (stray.kind == StrayEntry::Kind::leftover) {
        leftovers_.push_back(report_.add(FindingCode::leftover, stray.file, uid_,
                                         "an interrupted command left this behind"));
      } else {
        report_.add(FindingCode::foreign, stray.file, uid_, "this is no record, and is ignored");
      }
    }
    if (!strays.complete) {
      report_.add(FindingCode::foreign, "users/" + std::to_string(uid_), uid_,
                  "there are more files that are no records");
    }
  }

  void read_protectors() {
    const Listing<ProtectorSummary> listing = store_.protectors();
    for (const DamagedRecord& damaged : listing.damaged) {
      report_.add(damaged);
      if (const auto id = id_of_file<ProtectorId>(damaged.file)) unusable_.insert(*id);
    }
    for (const ProtectorSummary& summary : listing.records) {
      try {
        if (const auto text = store_.protector_text(summary.id)) add_protector(*text);
      } catch (const Error& error) {
        report_.add({error.path(), uid_, error.code(), error.what()});
        unusable_.insert(summary.id);
      }
    }
  }

  void add_protector(const std::string& text) {
    ProtectorRecord record = parse_protector(text);
    const ProtectorId id = record.summary.id;
    if (emit(record) != text) spelled_protectors_.emplace(id, add_spelling(file_of(id)));
    check_costs(record.summary);
    protectors_.emplace(id, std::move(record.summary));
  }

  std::size_t add_spelling(const std::string& file) {
    return report_.add(FindingCode::not_canonical, file, uid_,
                       "the record is right, but spelled in another way than this program's");
  }

  void check_costs(const ProtectorSummary& protector) {
    for (const ProtectorSummary::Way& way : protector.ways) {
      if (!way.costs) continue;
      if (const auto over = over_limit(*way.costs, limits_)) {
        report_.add(FindingCode::kdf_limit, file_of(protector.id), uid_,
                    "opening it is refused on this machine: " + *over, protector.id.hex());
      }
    }
  }

  void read_policies() {
    const Listing<PolicySummary> listing = store_.policies();
    policies_complete_ = listing.damaged.empty();
    for (const DamagedRecord& damaged : listing.damaged) report_.add(damaged);
    for (const PolicySummary& summary : listing.records) {
      try {
        if (const auto text = store_.policy_text(summary.key_identifier)) add_policy(*text);
      } catch (const Error& error) {
        report_.add({error.path(), uid_, error.code(), error.what()});
        policies_complete_ = false;
      }
    }
  }

  void add_policy(const std::string& text) {
    PolicyRecord record = parse_policy(text);
    const KeyIdentifier key = record.summary.key_identifier;
    if (emit(record) != text) changes_[key].findings.push_back(add_spelling(file_of(key)));
    if (record.operation && !record.summary.paths.empty()) {
      report_.add_path(FindingCode::conversion, path_of(record.summary.paths.back()), uid_,
                       "a conversion of this directory is unfinished", key.hex());
    }
    policies_.emplace(key, std::move(record));
  }

  void check_names() {
    std::map<std::string, ProtectorId> names;
    for (const auto& [id, protector] : protectors_) {
      const auto [first, fresh] = names.emplace(protector.name, id);
      if (fresh) continue;
      report_.add(FindingCode::duplicate_name, file_of(id), uid_,
                  "protector " + first->second.hex() + " has the same name", id.hex());
    }
  }

  void check_ways(const PolicyRecord& policy) {
    const KeyIdentifier& key = policy.summary.key_identifier;
    std::size_t usable = 0;
    for (const ProtectorId& id : policy.summary.protectors) {
      if (protectors_.contains(id)) {
        ++usable;
      } else if (unusable_.contains(id)) {
        report_.add(FindingCode::protector_unusable, file_of(key), uid_,
                    "the record of its protector " + id.hex() + " cannot be used", key.hex());
      } else {
        report_.add(FindingCode::protector_missing, file_of(key), uid_,
                    "its protector " + id.hex() + " has no record", key.hex());
      }
      used_.insert(id);
    }
    if (usable > 0) return;
    report_.add(FindingCode::no_way_in, file_of(key), uid_,
                "none of its protectors can be used: nobody can open what it is for", key.hex());
  }

  void check_unused() {
    if (!policies_complete_) return;  // what cannot be read may use them
    for (const auto& [id, protector] : protectors_) {
      if (used_.contains(id)) continue;
      report_.add(FindingCode::unused_protector, file_of(id), uid_, "this protector opens nothing",
                  id.hex());
    }
  }

  void check_hints(const PolicyRecord& policy) {
    const KeyIdentifier& key = policy.summary.key_identifier;
    const ActAs acting(store_.user());
    std::vector<std::pair<std::string, HintState>> states;
    for (const std::string& hint : policy.summary.paths) {
      states.emplace_back(hint, look_at_hint(context_, filesystem_, hint, key));
    }
    const bool found = std::any_of(states.begin(), states.end(),
                                   [](const auto& state) { return leads_there(state.second); });
    for (const auto& [hint, state] : states) {
      check_policy_of(policy, hint, state);
      if (leads_there(state)) continue;
      if (found && state.kind == HintState::Kind::hidden) continue;
      // Until its conversion is done, what stands there is not encrypted with it yet.
      if (policy.operation) continue;
      if (found) {
        changes_[key].findings.push_back(report_.add_path(
            FindingCode::stale_hint, path_of(hint), uid_,
            "a record says that its directory lies here: " + describe(state.kind), key.hex()));
      } else {
        report_.add_path(FindingCode::directory_missing, path_of(hint), uid_,
                         "the directory of a policy should lie here: " + describe(state.kind),
                         key.hex());
      }
    }
  }

  void check_policy_of(const PolicyRecord& policy, const std::string& hint,
                       const HintState& state) {
    if (!state.policy) return;
    const std::string hex = policy.summary.key_identifier.hex();
    if (state.kind == HintState::Kind::ok && state.policy->options != policy.options) {
      report_.add_path(FindingCode::modes_differ, path_of(hint), uid_,
                       "the directory has other modes than its record says", hex);
    }
    if (state.kind != HintState::Kind::other_policy) return;
    const auto* other = std::get_if<KeyIdentifier>(&state.policy->key);
    if (other == nullptr || known_.contains(*other) || !reported_.insert(hint).second) return;
    // Of somebody else's directory only root can tell whether she has a record.
    const bool sees_all = context_.caller.uid == 0 && !context_.user;
    if (!sees_all && state.owner != uid_) return;
    report_.add_path(FindingCode::no_record, path_of(hint), uid_,
                     "the directory is encrypted with a key of which there is no record",
                     other->hex());
  }

  [[nodiscard]] std::string path_of(const std::string& hint) const {
    return filesystem_.path_of_hint(hint).value_or("/" + hint);
  }

  /// Read again under the lock; what has become right meanwhile stays as it is.
  void rewrite(const UserStore::Lock& lock, const KeyIdentifier& key, const PolicyChange& change) {
    std::optional<PolicyRecord> record = store_.policy(key);
    if (!record) return;
    std::vector<std::string> good;
    bool right = false;
    {
      const ActAs acting(store_.user());
      for (const std::string& hint : record->summary.paths) {
        const HintState state = look_at_hint(context_, filesystem_, hint, key);
        right |= leads_there(state);
        if (leads_there(state) || state.kind == HintState::Kind::hidden) good.push_back(hint);
      }
    }
    // With no hint that is good, all stay: they may be right again when something is mounted.
    if (right) record->summary.paths = good;
    store_.write(lock, *record);
    for (const std::size_t finding : change.findings) report_.set_repaired(finding);
  }

  Context& context_;
  const Filesystem& filesystem_;
  const UserStore& store_;
  const std::set<KeyIdentifier>& known_;
  Report& report_;
  uid_t uid_;
  KdfLimits limits_;

  std::map<ProtectorId, ProtectorSummary> protectors_;
  std::map<KeyIdentifier, PolicyRecord> policies_;
  bool policies_complete_ = true;
  std::set<ProtectorId> unusable_;
  std::set<ProtectorId> used_;
  std::set<std::string> reported_;

  // What may be repaired, with the numbers of the findings.
  std::vector<std::size_t> leftovers_;
  std::map<ProtectorId, std::size_t> spelled_protectors_;
  std::map<KeyIdentifier, PolicyChange> changes_;
};

/// What lies in `users` and is no user's; others cannot do anything about it.
void look_at_users(const Context& context, const MetadataRoot& metadata, Report& report) {
  if (context.caller.uid != 0 || context.user) return;
  const Strays strays = metadata.strays(kMaxStrays);
  for (const StrayEntry& stray : strays.entries) {
    if (stray.kind == StrayEntry::Kind::squatted) {
      report.add(FindingCode::squatted, stray.file, stray.uid,
                 "this stands in the place of a user's directory and belongs to another");
    } else {
      report.add(FindingCode::foreign, stray.file, std::nullopt,
                 "this is no user's directory, and is ignored");
    }
  }
  if (!strays.complete) {
    report.add(FindingCode::foreign, "users", std::nullopt, "there are more such entries");
  }
}

/// The users' stores; one that cannot be opened is a finding.
std::vector<UserStore> open_stores(const Context& context, const MetadataRoot& metadata,
                                   Report& report) {
  std::vector<UserStore> stores;
  for (const Identity& user : context.users_to_list(metadata)) {
    try {
      if (auto store = UserStore::open(metadata, user)) stores.push_back(std::move(*store));
    } catch (const Error& error) {
      report.add({error.path().empty() ? "users/" + std::to_string(user.uid) : error.path(),
                  user.uid, error.code(), error.what()});
    }
  }
  return stores;
}

std::set<KeyIdentifier> recorded_keys(const std::vector<UserStore>& stores) {
  std::set<KeyIdentifier> keys;
  for (const UserStore& store : stores) {
    const Listing<PolicySummary> listing = store.policies();
    for (const PolicySummary& policy : listing.records) keys.insert(policy.key_identifier);
    // A damaged record is a finding of its own.
    for (const DamagedRecord& damaged : listing.damaged) {
      if (const auto key = id_of_file<KeyIdentifier>(damaged.file)) keys.insert(*key);
    }
  }
  return keys;
}

void check_user(Context& context, const Filesystem& filesystem, const UserStore& store,
                const std::set<KeyIdentifier>& known, bool repair, Report& report,
                CheckResult& result) {
  try {
    UserCheck check(context, filesystem, store, known, report);
    check.look();
    if (repair) check.repair();
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    result.failures.push_back(error);
  }
}

}  // namespace

Severity severity_of(FindingCode code) noexcept {
  switch (code) {
    case FindingCode::damaged:
    case FindingCode::untrusted:
    case FindingCode::newer_format:
    case FindingCode::unreadable:
    case FindingCode::no_way_in:
    case FindingCode::modes_differ:
    case FindingCode::no_record:
      return Severity::error;
    case FindingCode::squatted:
    case FindingCode::protector_missing:
    case FindingCode::protector_unusable:
    case FindingCode::duplicate_name:
    case FindingCode::kdf_limit:
    case FindingCode::directory_missing:
      return Severity::warning;
    case FindingCode::foreign:
    case FindingCode::leftover:
    case FindingCode::not_canonical:
    case FindingCode::unused_protector:
    case FindingCode::conversion:
    case FindingCode::stale_hint:
      return Severity::info;
  }
  return Severity::error;
}

CheckResult check_filesystem(Context& context, const Filesystem& filesystem, bool repair) {
  CheckResult result;
  Report report(filesystem, result);
  try {
    const MetadataRoot metadata = filesystem.require_metadata();
    look_at_users(context, metadata, report);
    const std::vector<UserStore> stores = open_stores(context, metadata, report);
    const std::set<KeyIdentifier> known = recorded_keys(stores);
    for (const UserStore& store : stores) {
      context.throw_if_interrupted();
      check_user(context, filesystem, store, known, repair, report, result);
    }
  } catch (const Error& error) {
    // Nothing below can be looked at: one finding says all.
    if (error.code() != Errc::untrusted_metadata) throw;
    report.add(FindingCode::untrusted, "", std::nullopt, error.what());
  }
  return result;
}

}  // namespace fscryptctl
