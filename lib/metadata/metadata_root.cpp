#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "fscryptctl/base/mount_table.h"
#include "fscryptctl/metadata/store.h"
#include "owned_directory.h"

namespace fscryptctl {
namespace {

constexpr const char* kRootName = ".fscryptctl";
constexpr const char* kUsersName = "users";
constexpr const char* kParent = "the root directory of the filesystem";
constexpr mode_t kPublicMode = 0755;
constexpr mode_t kOpenToAllMode = 01777;
constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;
constexpr std::size_t kMaxUsers = 65536;
/// Whoever may make entries in `users` can make many; they must not hide the others' real ones.
constexpr std::size_t kMaxEntries = std::size_t{1} << 20U;
/// Of what lies in a user's directory. Its format needs two levels.
constexpr int kMaxRemovalDepth = 16;

Error untrusted(const std::string& what, const std::string& fault) {
  return Error(Errc::untrusted_metadata, what + ' ' + fault).with_path(what);
}

void require_owner(const FileInfo& info, Identity owner, const std::string& what) {
  if (info.uid != 0 && info.uid != owner.uid) throw untrusted(what, "belongs to another user");
  if (info.encrypted) throw untrusted(what, "is encrypted itself");
}

/// Root may have mounted something at `.fscryptctl`. It is used if it is root's, and if it cannot
/// hang: nothing is asked of it before its type is known.
void require_usable_mount(int filesystem_root, int directory, Identity owner) {
  const std::uint64_t id = mount_id_of(directory);
  if (id == mount_id_of(filesystem_root)) return;
  const std::vector<Mount> mounts = read_mount_table();
  const Mount* const mount = find_mount(mounts, id);
  if (owner.uid != 0 || mount == nullptr || is_network_type(mount->type)) {
    throw untrusted(kRootName, "is a mount point");
  }
}

/// `.fscryptctl`, for going through only. nullopt if there is none.
std::optional<UniqueFd> open_root_directory(int filesystem_root, Identity owner) {
  return with_error_path(kRootName, [&]() -> std::optional<UniqueFd> {
    UniqueFd directory(openat(filesystem_root, kRootName, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!directory && errno == ENOENT) return std::nullopt;
    if (!directory) throw system_error(errno, "cannot open .fscryptctl");
    require_usable_mount(filesystem_root, directory.get(), owner);
    const FileInfo info = file_info(directory.get());
    if (!S_ISDIR(info.mode)) throw untrusted(kRootName, "is not a directory");
    require_owner(info, owner, kRootName);
    if ((info.mode & kOthersWrite) != 0) throw untrusted(kRootName, "is writable by others");
    return directory;
  });
}

std::optional<UniqueFd> open_users_directory(int root_directory, Identity owner) {
  return with_error_path(kUsersName, [&]() -> std::optional<UniqueFd> {
    std::optional<UniqueFd> users = open_directory_beneath(root_directory, kUsersName);
    if (!users) return std::nullopt;
    const FileInfo info = file_info(users->get());
    require_owner(info, owner, kUsersName);
    // Without the sticky bit, users could take each other's entries away.
    if ((info.mode & kOthersWrite) != 0 && (info.mode & S_ISVTX) == 0) {
      throw untrusted(kUsersName, "is writable by others");
    }
    return users;
  });
}

/// Others must not be able to put something of theirs in the place of what is made here.
void require_safe_parent(int filesystem_root, Identity owner) {
  const FileInfo info = file_info(filesystem_root);
  require_owner(info, owner, kParent);
  if ((info.mode & kOthersWrite) != 0 && (info.mode & S_ISVTX) == 0) {
    throw untrusted(kParent, "is writable by others");
  }
}

/// Adds what `mode` has and the directory has not: a crash may have come between making it and
/// setting its mode, and the umask may be anything.
void complete_mode(int directory, const std::string& what, mode_t mode, bool& changed) {
  constexpr mode_t kPermissions = 07777;
  const mode_t present = file_info(directory).mode & kPermissions;
  if ((present & mode) == mode) return;
  if (fchmod(directory, present | mode) != 0) {
    throw system_error(errno, "cannot set the mode of " + what);
  }
  changed = true;
}

/// All that a crash may have left half done is done again; flushing what is on the disk already
/// costs little.
void complete_directory(int directory, int parent, const std::string& what, mode_t mode,
                        bool& changed) {
  complete_mode(directory, what, mode, changed);
  sync_file(directory, "cannot write the directory " + what);
  sync_file(parent, "cannot write the directory above " + what);
}

/// The descriptor that came in may be for going through only, which cannot be flushed.
UniqueFd open_for_flushing(int directory, const std::string& what) {
  UniqueFd fd(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw system_error(errno, "cannot open " + what);
  return fd;
}

UniqueFd provide_root_directory(int filesystem_root, Identity owner, bool& changed) {
  if (make_directory_durably(filesystem_root, kRootName, kPublicMode)) changed = true;
  const auto found = open_root_directory(filesystem_root, owner);
  if (!found) throw untrusted(kRootName, "vanished while it was made");
  UniqueFd directory = open_for_flushing(found->get(), kRootName);
  complete_directory(directory.get(), filesystem_root, kRootName, kPublicMode, changed);
  return directory;
}

UniqueFd provide_users_directory(int root_directory, Identity owner, mode_t mode, bool& changed) {
  if (make_directory_durably(root_directory, kUsersName, kPublicMode)) changed = true;
  std::optional<UniqueFd> users = open_users_directory(root_directory, owner);
  if (!users) throw untrusted(kUsersName, "vanished while it was made");
  complete_directory(users->get(), root_directory, kUsersName, mode, changed);
  return std::move(*users);
}

std::optional<uid_t> uid_from_name(std::string_view name) {
  uid_t uid = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, uid);
  const bool leading_zero = name.size() > 1 && name.front() == '0';
  if (error != std::errc() || stop != end || leading_zero) return std::nullopt;
  return uid;
}

void remove_directory(int parent, const std::string& name) {
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    throw system_error(errno, "cannot remove a metadata directory");
  }
}

void empty_directory(int directory, int depth);

void remove_entry(int directory, const std::string& name, int depth) {
  if (unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return;
  if (errno != EISDIR) throw system_error(errno, "cannot remove a metadata file");
  if (depth == kMaxRemovalDepth) throw untrusted(kRootName, "is nested too deeply to be removed");
  const std::optional<UniqueFd> child = open_directory_beneath(directory, name);
  if (!child) return;
  empty_directory(child->get(), depth + 1);
  remove_directory(directory, name);
}

void empty_directory(int directory, int depth) {
  for (const std::string& name : directory_names(directory, UserStore::kNoLimit).names) {
    remove_entry(directory, name, depth);
  }
}

/// Empties an entry of `users` with no more rights than its owner has: she may have put other
/// people's files there.
void empty_user_entry(int users, const std::string& name) {
  const std::optional<FileInfo> info = entry_info(users, name);
  if (!info || !S_ISDIR(info->mode)) return;
  const ActAsOwner acting({info->uid, info->gid});
  const std::optional<UniqueFd> directory = open_directory_beneath(users, name);
  if (directory) empty_directory(directory->get(), 0);
}

/// The user whose entry this is, if it is hers. One that cannot be looked at, with a mount on it
/// for example, is taken for hers, so that opening it reports what is wrong: it must neither stop
/// the others nor vanish.
std::optional<Identity> owner_of_entry(int users, const std::string& name, uid_t uid) {
  try {
    const std::optional<FileInfo> info = entry_info(users, name);
    if (!info || info->uid != uid) return std::nullopt;
    return Identity{info->uid, info->gid};
  } catch (const Error&) {
    return Identity{uid, uid};
  }
}

}  // namespace

std::optional<MetadataRoot> MetadataRoot::open(int filesystem_root, Identity trusted_owner) {
  const ActAsOwner acting(trusted_owner);
  const auto directory = open_root_directory(filesystem_root, trusted_owner);
  if (!directory) return std::nullopt;
  std::optional<UniqueFd> users = open_users_directory(directory->get(), trusted_owner);
  if (!users) return std::nullopt;
  return MetadataRoot(std::move(*users), trusted_owner);
}

MetadataRoot MetadataRoot::create(int filesystem_root, Identity trusted_owner, bool all_users,
                                  bool& changed) {
  const ActAsOwner acting(trusted_owner);
  changed = false;
  require_safe_parent(filesystem_root, trusted_owner);
  const UniqueFd parent = open_for_flushing(filesystem_root, kParent);
  const UniqueFd directory = provide_root_directory(parent.get(), trusted_owner, changed);
  return MetadataRoot(provide_users_directory(directory.get(), trusted_owner,
                                              all_users ? kOpenToAllMode : kPublicMode, changed),
                      trusted_owner);
}

void MetadataRoot::remove(int filesystem_root, Identity trusted_owner) {
  // Not through a mount, unlike everywhere else: its mount point could not be removed afterwards.
  if (!entry_info(filesystem_root, kRootName)) return;
  if (const auto root = open(filesystem_root, trusted_owner)) {
    for (const std::string& name : directory_names(root->users_fd(), UserStore::kNoLimit).names) {
      with_error_path("users/" + name, [&] { empty_user_entry(root->users_fd(), name); });
    }
  }
  const ActAsOwner acting(trusted_owner);
  with_error_path(kRootName, [&] {
    const UniqueFd parent = open_for_flushing(filesystem_root, kParent);
    remove_entry(parent.get(), kRootName, 0);
    sync_file(parent.get(), "cannot write " + std::string(kParent));
  });
}

bool MetadataRoot::open_to_all() const { return (file_info(users_fd()).mode & S_IWOTH) != 0; }

std::vector<Identity> MetadataRoot::users() const {
  const ActAsOwner acting(trusted_owner_);
  const uid_t unmapped = overflow_uid();
  std::vector<Identity> users;
  for (const std::string& name : directory_names(users_fd(), kMaxEntries).names) {
    const std::optional<uid_t> uid = uid_from_name(name);
    if (!uid || *uid == unmapped || users.size() == kMaxUsers) continue;
    if (const auto user = owner_of_entry(users_fd(), name, *uid)) users.push_back(*user);
  }
  std::sort(users.begin(), users.end(), [](Identity a, Identity b) { return a.uid < b.uid; });
  return users;
}

Strays MetadataRoot::strays(std::size_t limit) const {
  const ActAsOwner acting(trusted_owner_);
  const uid_t unmapped = overflow_uid();
  Strays strays;
  for (const std::string& name : directory_names(users_fd(), kMaxEntries).names) {
    const std::optional<uid_t> uid = uid_from_name(name);
    const bool possible = uid && *uid != unmapped;
    if (possible && owner_of_entry(users_fd(), name, *uid)) continue;
    if (strays.entries.size() == limit) {
      strays.complete = false;
      break;
    }
    strays.entries.push_back({std::string(kUsersName) + '/' + name,
                              possible ? StrayEntry::Kind::squatted : StrayEntry::Kind::foreign,
                              possible ? *uid : 0});
  }
  std::sort(strays.entries.begin(), strays.entries.end(),
            [](const StrayEntry& a, const StrayEntry& b) { return a.file < b.file; });
  return strays;
}

}  // namespace fscryptctl
