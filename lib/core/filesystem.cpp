#include "fscryptctl/core/filesystem.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "fscryptctl/base/error.h"
#include "fscryptctl/kernel/linux_kernel.h"

namespace fscryptctl {
namespace {

constexpr std::string_view kMetadataDirectory = ".fscryptctl";

/// The mount's root directory, if this descriptor of its mount point shows this very mount and no
/// other over it.
UniqueFd root_of_mount(const Mount& mount, UniqueFd root) {
  // Says nothing about the mount; another one must not be taken instead.
  if (!root && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
    throw system_error(errno, "cannot open " + printable(mount.mount_point));
  }
  if (root && mount_id_of(root.get()) != mount.id) root.reset();
  return root;
}

/// What the kernel's cache of names knows: it asks no filesystem, and it knows all mount points.
/// Not always, though: errno is EAGAIN where somebody would have to be asked.
UniqueFd open_cached(const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_CACHED;
  return UniqueFd(
      static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
}

/// One component after the other; nothing is looked up in a mount that is not among `mounts`.
UniqueFd open_through(const std::string& path, const std::vector<Mount>& mounts) {
  UniqueFd here(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  std::uint64_t known = here ? mount_id_of(here.get()) : 0;
  for (std::size_t start = 1; here && start < path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string name = path.substr(start, end - start);
    start = end + 1;
    here.reset(::openat(here.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    const std::uint64_t id = here ? mount_id_of(here.get()) : known;
    if (id != known && find_mount(mounts, id) == nullptr) here.reset();
    known = id;
  }
  return here;
}

/// For the kernel's key calls a readable descriptor is needed: the root, or, where it cannot be
/// read, our own directory in it, which never lies inside an encrypted one.
UniqueFd open_for_keys(int root) {
  UniqueFd fd(::openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && errno != EACCES) throw system_error(errno, "opening the root of a filesystem");
  if (!fd) {
    fd.reset(
        ::openat(root, kMetadataDirectory.data(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  }
  return fd;
}

bool belongs_to_caller_or_root(uid_t owner) {
  return owner == 0 || ::geteuid() == 0 || owner == ::geteuid();
}

/// A mount of a part of the filesystem may hold metadata only if nobody else can have put it there
/// and it is not an encrypted directory itself.
bool fit_without_root(const FileInfo& info) {
  return !info.encrypted && belongs_to_caller_or_root(info.uid) && (info.mode & 022) == 0;
}

UniqueFd open_beneath_by_steps(int root, const std::string& path) {
  const std::uint64_t mount_id = mount_id_of(root);
  UniqueFd here(::openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (std::size_t start = 0; here && start <= path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string name = path.substr(start, end - start);
    start = end + 1;
    if (name.empty() || name == "." || name == "..") return UniqueFd();
    here.reset(::openat(here.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (here && mount_id_of(here.get()) != mount_id) here.reset();
  }
  return here;
}

/// A directory below `root`, through no symlink and onto no other mount.
UniqueFd open_beneath(int root, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  UniqueFd fd(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
  if (!fd && (errno == ENOSYS || errno == EPERM)) return open_beneath_by_steps(root, path);
  return fd;
}

/// `path` without `prefix` and the slash after it; nullopt if it does not lie below or at it.
std::optional<std::string> strip_prefix(const std::string& path, const std::string& prefix) {
  if (prefix == "/" || prefix.empty()) return path.substr(path.starts_with('/') ? 1 : 0);
  if (path == prefix) return std::string();
  if (!path.starts_with(prefix + "/")) return std::nullopt;
  return path.substr(prefix.size() + 1);
}

std::string join(const std::string& directory, const std::string& rest) {
  if (rest.empty()) return directory;
  if (directory.empty() || directory.ends_with('/')) return directory + rest;
  return directory + "/" + rest;
}

std::optional<std::string> link_target(int fd) {
  std::array<char, PATH_MAX> text{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(link.c_str(), text.data(), text.size());
  if (size <= 0 || static_cast<std::size_t>(size) == text.size()) return std::nullopt;
  return std::string(text.data(), static_cast<std::size_t>(size));
}

}  // namespace

std::string describe(const Mount& mount) {
  return printable(mount.type) + " on " + printable(mount.source);
}

Filesystem Filesystem::adopt(const Mount& mount, UniqueFd root) {
  Filesystem filesystem(mount, std::move(root));
  const FileInfo info = file_info(filesystem.root_.get());
  filesystem.trusted_owner_ = info.uid == 0 ? Identity{0, 0} : Identity{info.uid, info.gid};
  filesystem.key_fd_ = open_for_keys(filesystem.root_.get());
  return filesystem;
}

std::optional<Filesystem> Filesystem::at(const Mount& mount) {
  const int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  return of_root(mount, UniqueFd(::open(mount.mount_point.c_str(), flags)));
}

std::optional<Filesystem> Filesystem::at(const Mount& mount, const std::vector<Mount>& mounts) {
  UniqueFd root = open_cached(mount.mount_point);
  const bool unknown = errno == EAGAIN || errno == EINVAL || errno == ENOSYS || errno == EPERM;
  if (!root && unknown) root = open_through(mount.mount_point, mounts);
  return of_root(mount, std::move(root));
}

std::optional<Filesystem> Filesystem::of_root(const Mount& mount, UniqueFd opened) {
  UniqueFd root = root_of_mount(mount, std::move(opened));
  if (!root) return std::nullopt;
  if (mount.root != "/" && !fit_without_root(file_info(root.get()))) return std::nullopt;
  return adopt(mount, std::move(root));
}

Filesystem Filesystem::of(int fd, const std::vector<Mount>& mounts, const std::string& path) {
  const Mount* containing = find_mount(mounts, mount_id_of(fd));
  if (containing == nullptr) {
    throw Error(Errc::io, "the mount that holds " + printable(path) + " is not visible here")
        .with_path(path);
  }
  if (containing->root != "/") {
    for (const Mount& mount : mounts) {
      if (mount.device != containing->device || mount.root != "/") continue;
      if (std::optional<Filesystem> filesystem = at(mount)) return std::move(*filesystem);
    }
  }
  if (std::optional<Filesystem> filesystem = at(*containing)) return std::move(*filesystem);
  throw Error(Errc::untrusted_metadata,
              "only a part of the filesystem of " + printable(path) +
                  " is mounted here, and that part is not fit to hold its metadata")
      .with_path(path);
}

bool Filesystem::trusted() const noexcept { return belongs_to_caller_or_root(trusted_owner_.uid); }

std::optional<FilesystemUuid> Filesystem::uuid() const {
  const std::optional<std::string> hex = filesystem_uuid(fd());
  return hex ? FilesystemUuid::from_hex(*hex) : std::nullopt;
}

std::optional<MetadataRoot> Filesystem::metadata() const {
  if (!trusted()) {
    throw Error(Errc::untrusted_metadata,
                printable(mount_.mount_point) + " belongs to another user")
        .with_path(mount_.mount_point);
  }
  return MetadataRoot::open(root_.get(), trusted_owner_);
}

MetadataRoot Filesystem::require_metadata() const {
  std::optional<MetadataRoot> root = metadata();
  if (!root) {
    throw Error(Errc::not_set_up, printable(mount_.mount_point) + " (" + describe(mount_) +
                                      ") is not set up for fscryptctl")
        .with_path(mount_.mount_point);
  }
  return std::move(*root);
}

std::optional<UserStore> Filesystem::store(Identity user) const {
  const std::optional<MetadataRoot> root = metadata();
  if (!root) return std::nullopt;
  return UserStore::open(*root, user);
}

UserStore Filesystem::store_for_writing(Identity user) const {
  bool changed = false;
  const MetadataRoot root = require_metadata();
  if (std::optional<UserStore> store = UserStore::open(root, user)) return std::move(*store);
  require_store_possible(user);
  return UserStore::create(root, user, changed);
}

void Filesystem::require_store_possible(Identity user) const {
  const uid_t caller = ::geteuid();
  if (caller == 0 || caller == trusted_owner_.uid || require_metadata().open_to_all()) return;
  throw Error(Errc::not_set_up,
              printable(mount_.mount_point) + " is set up, but not for " +
                  (user.uid == caller ? "this user" : "user " + std::to_string(user.uid)))
      .with_path(mount_.mount_point);
}

std::optional<std::string> Filesystem::hint_of(int fd, const std::vector<Mount>& mounts) const {
  const Mount* containing = find_mount(mounts, mount_id_of(fd));
  const std::optional<std::string> path = link_target(fd);
  if (containing == nullptr || !path || file_info(fd).links == 0) return std::nullopt;
  const std::optional<std::string> below = strip_prefix(*path, containing->mount_point);
  if (!below) return std::nullopt;
  const std::string hint = join(containing->root == "/" ? "" : containing->root.substr(1), *below);
  if (hint.empty()) return std::nullopt;
  return hint;
}

std::optional<std::string> Filesystem::below_root(const std::string& hint) const {
  return strip_prefix("/" + hint, mount_.root);
}

std::optional<std::string> Filesystem::path_of_hint(const std::string& hint) const {
  const std::optional<std::string> below = below_root(hint);
  if (!below) return std::nullopt;
  return join(mount_.mount_point, *below);
}

UniqueFd Filesystem::open_hint(const std::string& hint) const {
  const std::optional<std::string> below = below_root(hint);
  if (!below || below->empty()) return UniqueFd();
  return open_beneath(root_.get(), *below);
}

}  // namespace fscryptctl
