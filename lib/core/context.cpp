#include "fscryptctl/core/context.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/users.h"

namespace fscryptctl {
namespace {

std::string parent_of(const std::string& path) {
  const std::size_t end = path.find_last_not_of('/');
  const std::size_t slash = end == std::string::npos ? end : path.find_last_of('/', end);
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// A locked regular file cannot be opened, so its policy is its directory's.
std::optional<KernelPolicy> policy_of(const Context& context, const NamedFile& file,
                                      const std::string& path) {
  if (!file.path_only) return context.kernel.get_policy(file.fd.get());
  if (!S_ISREG(file.info.mode) || !file.info.encrypted) return std::nullopt;
  const NamedFile parent = open_named(parent_of(path));
  return parent.path_only ? std::nullopt : context.kernel.get_policy(parent.fd.get());
}

/// Root looks first where the file's owner keeps hers, then at its own.
std::vector<Identity> users_to_search(const Context& context, const MetadataRoot& metadata,
                                      std::optional<uid_t> owner) {
  if (!owner) return context.users_to_list(metadata);
  const Identity user = context.user_for(*owner);
  if (context.user || context.caller.uid != 0 || user.uid == 0) return {user};
  return {user, context.caller};
}

std::vector<std::string> names_of(const std::vector<FoundPolicy>& found) {
  std::vector<std::string> names;
  names.reserve(found.size());
  for (const FoundPolicy& policy : found) names.push_back(user_name(policy.store.user().uid));
  return names;
}

}  // namespace

const Config& Context::config() {
  if (!config_read) config_read = read_config(config_path).value_or(Config{});
  return *config_read;
}

KdfLimits Context::kdf_limits() {
  // Opening needs no configuration, so a bad one must not keep anybody out.
  try {
    static_cast<void>(config());
  } catch (const Error& error) {
    explain("the configuration is not used: " + std::string(error.what()));
    config_read = Config{};
  }
  const std::optional<std::uint64_t> mib = std::max(kdf_limit_mib, config().kdf_limit_mib);
  if (!mib) return machine_kdf_limits(std::nullopt);
  return machine_kdf_limits(*mib * 1024);
}

Identity Context::user_for(uid_t owner) const {
  if (user) return *user;
  return caller.uid == 0 ? user_from_uid(owner) : caller;
}

std::vector<Identity> Context::users_to_list(const MetadataRoot& metadata) const {
  if (user) return {*user};
  if (caller.uid == 0) return metadata.users();
  return {caller};
}

Filesystem filesystem_of_path(const Context& context, const std::string& path) {
  const NamedFile file = open_named(path);
  return Filesystem::of(file.fd.get(), context.mounts, path);
}

std::vector<Filesystem> local_filesystems(const Context& context) {
  std::vector<Filesystem> found;
  std::set<dev_t> seen;
  // Whole filesystems first: only where none is mounted does a part stand for its device.
  for (const bool whole : {true, false}) {
    for (const Mount& mount : context.mounts) {
      if ((mount.root == "/") != whole || is_network_type(mount.type)) continue;
      if (seen.contains(mount.device)) continue;
      std::optional<Filesystem> filesystem = Filesystem::at(mount, context.mounts);
      if (!filesystem) continue;
      seen.insert(mount.device);
      found.push_back(std::move(*filesystem));
    }
  }
  std::sort(found.begin(), found.end(), [](const Filesystem& a, const Filesystem& b) {
    return a.mount().mount_point < b.mount().mount_point;
  });
  return found;
}

void require_encryption(const Context& context, const Filesystem& filesystem) {
  const Mount& mount = filesystem.mount();
  const std::string where = printable(mount.mount_point) + " (" + describe(mount) + ")";
  switch (context.kernel.probe(filesystem.fd())) {
    case Support::usable:
      return;
    case Support::not_enabled:
      throw Error(Errc::not_enabled, "encryption is not enabled on " + where)
          .with_path(mount.mount_point);
    case Support::unsupported:
      throw Error(Errc::filesystem, where + " cannot encrypt directories")
          .with_path(mount.mount_point);
  }
}

Target look_at(const Context& context, const std::string& path) {
  const NamedFile file = open_named(path);
  Target target{path, Filesystem::of(file.fd.get(), context.mounts, path),
                Identity{file.info.uid, file.info.gid}, S_ISDIR(file.info.mode),
                policy_of(context, file, path)};
  if (file.info.encrypted && !target.policy && !file.path_only) {
    throw Error(Errc::filesystem, printable(path) + " lies on " +
                                      describe(target.filesystem.mount()) +
                                      ", which shows another filesystem's encrypted directory")
        .with_path(path);
  }
  return target;
}

bool is_mount_point(const Context& context, const std::string& path) {
  const NamedFile file = open_named(path);
  const Mount* mount = find_mount(context.mounts, file.info.mount_id);
  if (mount == nullptr) return false;
  const UniqueFd root(::open(mount->mount_point.c_str(), O_PATH | O_CLOEXEC));
  if (!root) return false;
  const FileInfo info = file_info(root.get());
  return info.inode == file.info.inode && info.mount_id == file.info.mount_id;
}

std::optional<FoundPolicy> find_record(const Context& context, const Filesystem& filesystem,
                                       std::optional<uid_t> owner, const KeyIdentifier& key) {
  const std::optional<MetadataRoot> metadata = filesystem.metadata();
  if (!metadata) return std::nullopt;
  std::vector<FoundPolicy> found;
  for (const Identity& user : users_to_search(context, *metadata, owner)) {
    std::optional<UserStore> store = UserStore::open(*metadata, user);
    std::optional<PolicyRecord> record = store ? store->policy(key) : std::nullopt;
    if (!record) continue;
    found.push_back({std::move(*store), std::move(*record)});
    if (owner || context.user) break;
  }
  if (found.empty()) return std::nullopt;
  if (found.size() > 1) {
    throw Error(Errc::ambiguous,
                "several users have a record of " + key.hex() + ": choose one with --user")
        .with_candidates(names_of(found));
  }
  return std::move(found.front());
}

Identity user_of_key(const Context& context, const Filesystem& filesystem, uid_t owner,
                     const KeyIdentifier& key) {
  const Identity user = context.user_for(owner);
  if (context.user || context.caller.uid != 0 || user.uid == 0) return user;
  try {
    const std::optional<FoundPolicy> found = find_record(context, filesystem, owner, key);
    return found ? found->store.user() : user;
  } catch (const Error&) {
    return user;
  }
}

Error not_managed(const Filesystem& filesystem, const std::string& path) {
  struct stat info {};
  const bool other_tool =
      ::fstatat(filesystem.root_fd(), ".fscrypt", &info, AT_SYMLINK_NOFOLLOW) == 0;
  Error error(Errc::not_managed, printable(path) + " is encrypted, but not set up here" +
                                     (other_tool ? " (google/fscrypt metadata found)" : ""));
  return error.with_path(path);
}

KeyIdentifier require_v2_key(const Target& target) {
  if (!target.policy) {
    throw Error(Errc::not_encrypted, printable(target.path) + " is not encrypted")
        .with_path(target.path);
  }
  if (const auto* key = std::get_if<KeyIdentifier>(&target.policy->key)) return *key;
  throw Error(Errc::policy_version,
              printable(target.path) + " is encrypted with a version 1 policy")
      .with_path(target.path);
}

}  // namespace fscryptctl
