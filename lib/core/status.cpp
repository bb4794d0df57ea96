#include "fscryptctl/core/status.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "conversion_operation.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/core/users.h"

namespace fscryptctl {
namespace {

bool any_recovery_key(const Protectors& protectors) {
  return std::any_of(protectors.begin(), protectors.end(),
                     [](const auto& protector) { return protector->has_recovery_key(); });
}

FilesystemStatus status_of(Context& context, const Filesystem& filesystem) {
  const Mount& mount = filesystem.mount();
  struct stat info {};
  const bool metadata =
      ::fstatat(filesystem.root_fd(), ".fscryptctl/users", &info, AT_SYMLINK_NOFOLLOW) == 0;
  return {mount.mount_point, mount.source, mount.type, context.kernel.probe(filesystem.fd()),
          metadata};
}

DamagedRecord damage(const Error& error, uid_t uid) {
  return {error.path().empty() ? "users/" + std::to_string(uid) : error.path(), uid, error.code(),
          error.what()};
}

/// What one user's records say, and what the kernel says to it.
class UserView {
 public:
  UserView(Context& context, const Filesystem& filesystem, const UserStore& store)
      : context_(context),
        filesystem_(filesystem),
        store_(store),
        user_(user_name(store.user().uid)) {}

  void add_to(MountStatus& status) {
    Listing<ProtectorSummary> protectors = store_.protectors();
    Listing<PolicySummary> policies = store_.policies();
    append(status.damaged, policies.damaged);
    append(status.damaged, protectors.damaged);
    index(protectors.records, policies.records);
    // What is unfinished is told beside the rest: it hides nothing.
    try {
      operations_ = OperationStore(store_).list();
    } catch (const Error& error) {
      status.damaged.push_back(damage(error, store_.user().uid));
    }
    const ActAs acting(store_.user());
    for (PolicySummary& policy : policies.records) add_policy(std::move(policy), status);
    for (auto& [id, protector] : protectors_) status.protectors.push_back(protector);
  }

 private:
  static void append(std::vector<DamagedRecord>& all, const std::vector<DamagedRecord>& more) {
    all.insert(all.end(), more.begin(), more.end());
  }

  void index(const std::vector<ProtectorSummary>& protectors,
             const std::vector<PolicySummary>& policies) {
    for (const ProtectorSummary& protector : protectors) {
      protectors_.emplace(
          protector.id,
          std::make_shared<ProtectorStatus>(ProtectorStatus{
              protector, store_.user().uid, user_, filesystem_.mount().mount_point, {}}));
    }
    for (const PolicySummary& policy : policies) {
      for (const ProtectorId& id : policy.protectors) {
        const auto found = protectors_.find(id);
        if (found != protectors_.end()) found->second->opens.push_back(policy.key_identifier);
      }
    }
  }

  void add_policy(PolicySummary policy, MountStatus& status) {
    PolicyStatus shown{std::move(policy), store_.user().uid, user_, {}, {}, false};
    const KeyIdentifier& key = shown.summary.key_identifier;
    shown.key = context_.kernel.key_status(filesystem_.fd(), key);
    const Protectors protectors = protectors_of(shown.summary);
    shown.has_recovery_key = any_recovery_key(protectors);
    for (const std::string& hint : shown.summary.paths) {
      DirectoryStatus directory;
      const PathState::State state = look_at_hint(hint, key, directory);
      directory.key = shown.key;
      directory.user = shown.uid;
      directory.managed = true;
      directory.protectors = protectors;
      directory.unfinished = unfinished_at(hint, key);
      shown.paths.push_back({directory.path, state});
      status.directories.push_back(std::move(directory));
    }
    status.policies.push_back(std::move(shown));
  }

  Protectors protectors_of(const PolicySummary& policy) const {
    Protectors all;
    for (const ProtectorId& id : policy.protectors) {
      const auto found = protectors_.find(id);
      if (found != protectors_.end()) all.push_back(found->second);
    }
    return all;
  }

  PathState::State look_at_hint(const std::string& hint, const KeyIdentifier& key,
                                DirectoryStatus& directory) const {
    directory.path = filesystem_.path_of_hint(hint).value_or("/" + hint);
    directory.missing = true;
    const UniqueFd found = filesystem_.open_hint(hint);
    if (!found) return PathState::State::missing;
    const UniqueFd readable(
        ::openat(found.get(), ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
    if (!readable) return unreadable(found.get(), directory);
    directory.policy = context_.kernel.get_policy(readable.get());
    if (!directory.policy) return PathState::State::missing;
    if (directory.policy->key != KeySpecifier(key)) {
      directory.policy.reset();
      return PathState::State::other_policy;
    }
    directory.missing = false;
    return PathState::State::ok;
  }

  [[nodiscard]] std::optional<Journal::Command> unfinished_at(const std::string& hint,
                                                              const KeyIdentifier& key) const {
    for (const UnfinishedOperation& operation : operations_) {
      const std::optional<Journal>& journal = operation.journal;
      if (!journal || journal->path != hint) continue;
      if (journal->key == key || journal->previous == key) return journal->command;
    }
    return std::nullopt;
  }

  /// Somebody else's shared directory may be closed to this user: then the attribute has to do.
  static PathState::State unreadable(int fd, DirectoryStatus& directory) {
    directory.missing = !file_info(fd).encrypted;
    return directory.missing ? PathState::State::missing : PathState::State::ok;
  }

  Context& context_;
  const Filesystem& filesystem_;
  const UserStore& store_;
  std::string user_;
  std::vector<UnfinishedOperation> operations_;
  std::map<ProtectorId, std::shared_ptr<ProtectorStatus>> protectors_;
};

void fill_opens(std::vector<ProtectorStatus>& protectors, const UserStore& store) {
  for (const PolicySummary& policy : store.policies().records) {
    for (ProtectorStatus& protector : protectors) {
      if (is_opened_by(policy, protector.summary.id)) {
        protector.opens.push_back(policy.key_identifier);
      }
    }
  }
}

/// One user's record of an encrypted directory, whole, since both documents have to agree.
void add_record(const Filesystem& filesystem, const UserStore& store, const KeyIdentifier& key,
                bool with_opens, PathStatus& status) {
  const std::optional<PolicyRecord> record = store.policy(key);
  if (!record) return;
  DirectoryStatus& directory = *status.directory;
  directory.managed = true;
  if (directory.policy->options != record->options) {
    throw Error(Errc::corrupt_metadata, "the record names other modes than the directory has")
        .with_path("users/" + std::to_string(store.user().uid) + "/policies/" + key.hex() +
                   ".yaml");
  }
  const std::string user = user_name(store.user().uid);
  std::vector<ProtectorStatus> protectors;
  for (const ProtectorId& id : record->summary.protectors) {
    try {
      if (std::optional<ProtectorRecord> protector = store.protector(id)) {
        protectors.push_back({std::move(protector->summary),
                              store.user().uid,
                              user,
                              filesystem.mount().mount_point,
                              {}});
      }
    } catch (const Error& error) {
      status.damaged.push_back(damage(error, store.user().uid));
    }
  }
  if (with_opens) fill_opens(protectors, store);
  for (ProtectorStatus& protector : protectors) {
    directory.protectors.push_back(std::make_shared<ProtectorStatus>(std::move(protector)));
  }
}

void look_up_records(Context& context, const Filesystem& filesystem, const KeyIdentifier& key,
                     bool with_opens, PathStatus& status) {
  const std::optional<MetadataRoot> metadata = filesystem.metadata();
  if (!metadata) return;
  for (const Identity& user : context.users_to_list(*metadata)) {
    try {
      const std::optional<UserStore> store = UserStore::open(*metadata, user);
      if (store) add_record(filesystem, *store, key, with_opens, status);
    } catch (const Error& error) {
      status.damaged.push_back(damage(error, user.uid));
    }
  }
  status.directory->damaged = !status.damaged.empty() && status.directory->protectors.empty();
}

/// What one user has begun with the directory and not finished.
std::optional<Journal::Command> unfinished_at(const std::string& path, const UserStore& store) {
  const std::vector<UnfinishedOperation> operations = OperationStore(store).list();
  if (operations.empty()) return std::nullopt;
  const UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return std::nullopt;
  const InodeIdentity identity = inode_identity(directory.get());
  for (const UnfinishedOperation& operation : operations) {
    if (operation.journal && is_about(*operation.journal, identity)) {
      return operation.journal->command;
    }
  }
  return std::nullopt;
}

void look_for_unfinished(Context& context, const Target& target, DirectoryStatus& status) {
  // Records that cannot be used are reported where they are about the directory.
  try {
    const std::optional<MetadataRoot> metadata = target.filesystem.metadata();
    if (!metadata) return;
    for (const Identity& user : context.users_to_list(*metadata)) {
      const std::optional<UserStore> store = UserStore::open(*metadata, user);
      if (store && !status.unfinished) status.unfinished = unfinished_at(target.path, *store);
    }
  } catch (const Error&) {
  }
}

}  // namespace

bool ProtectorStatus::has_recovery_key() const { return summary.has_recovery_key(); }

bool DirectoryStatus::has_recovery_key() const { return any_recovery_key(protectors); }

MountStatus mount_status(Context& context, const Filesystem& filesystem) {
  MountStatus status{status_of(context, filesystem), {}, {}, {}, {}};
  if (!status.filesystem.metadata || !filesystem.trusted()) return status;
  const std::optional<MetadataRoot> metadata = filesystem.metadata();
  if (!metadata) return status;
  for (const Identity& user : context.users_to_list(*metadata)) {
    try {
      const std::optional<UserStore> store = UserStore::open(*metadata, user);
      if (store) UserView(context, filesystem, *store).add_to(status);
    } catch (const Error& error) {
      status.damaged.push_back(damage(error, user.uid));
    }
  }
  std::stable_sort(
      status.directories.begin(), status.directories.end(),
      [](const DirectoryStatus& a, const DirectoryStatus& b) { return a.path < b.path; });
  return status;
}

std::vector<MountStatus> system_status(Context& context) {
  std::vector<MountStatus> all;
  for (const Filesystem& filesystem : local_filesystems(context)) {
    // Another loop over independent things: a bad filesystem does not hide the others.
    try {
      MountStatus status = mount_status(context, filesystem);
      const bool on_device = status.filesystem.device.starts_with('/');
      if (status.filesystem.encryption == Support::unsupported && !on_device) continue;
      all.push_back(std::move(status));
    } catch (const Error& error) {
      all.push_back({status_of(context, filesystem), {}, {}, {}, {damage(error, 0)}});
    }
  }
  return all;
}

PathStatus path_status(Context& context, const std::string& path, bool with_opens) {
  const Target target = look_at(context, path);
  if (!target.policy && target.directory && is_mount_point(context, path)) {
    return {
        PathStatus::Kind::mount_point, std::nullopt, mount_status(context, target.filesystem), {}};
  }
  PathStatus status{PathStatus::Kind::plain, DirectoryStatus{}, std::nullopt, {}};
  status.directory->path = path;
  status.directory->policy = target.policy;
  if (target.directory) look_for_unfinished(context, target, *status.directory);
  if (!target.policy) return status;
  status.kind = PathStatus::Kind::encrypted;
  const auto* v2 = std::get_if<KeyIdentifier>(&target.policy->key);
  const Identity user = v2 != nullptr
                            ? user_of_key(context, target.filesystem, target.owner.uid, *v2)
                            : context.user_for(target.owner.uid);
  status.directory->user = user.uid;
  {
    const ActAs acting(user);
    status.directory->key = context.kernel.key_status(target.filesystem.fd(), target.policy->key);
  }
  if (const auto* key = std::get_if<KeyIdentifier>(&target.policy->key)) {
    look_up_records(context, target.filesystem, *key, with_opens, status);
  }
  return status;
}

}  // namespace fscryptctl
