#include "keyed_files.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

constexpr std::string_view kDeletedMark = " (deleted)";

UniqueFd open_restricted(int dirfd, const std::string& path, int flags, std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = resolve;
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, dirfd, path.c_str(), &how, sizeof how)));
}

bool same_file(int a, int b) {
  const auto status_a = remembered_status(a, "");
  const auto status_b = remembered_status(b, "");
  return status_a && status_b && device_of(*status_a) == device_of(*status_b) &&
         status_a->stx_ino == status_b->stx_ino;
}

/// The root of the mount that `fs_fd` is on, reached without naming any other mount: upwards until
/// the next step would leave it. Nothing if that cannot be found out.
UniqueFd mount_root_above(int fs_fd) {
  constexpr int kMaxDepth = PATH_MAX;
  constexpr int kFlags = O_PATH | O_DIRECTORY;
  UniqueFd directory = open_restricted(fs_fd, ".", kFlags, 0);
  for (int depth = 0; directory && depth < kMaxDepth; ++depth) {
    UniqueFd parent = open_restricted(directory.get(), "..", kFlags, RESOLVE_NO_XDEV);
    if (!parent && errno == EXDEV) return directory;
    if (!parent) break;
    // The root directory of this process is its own parent, and need not be a mount's root.
    if (same_file(parent.get(), directory.get())) {
      const auto status = remembered_status(directory.get(), "");
      if (status && (status->stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) return directory;
      break;
    }
    directory = std::move(parent);
  }
  return UniqueFd();
}

/// The same without what is mounted below it, so that what lies under those mounts can be reached.
/// Needs root; without, the mount itself has to do.
UniqueFd without_mounts_below(UniqueFd root) {
  constexpr unsigned kFlags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  UniqueFd bare(static_cast<int>(syscall(SYS_open_tree, root.get(), "", kFlags)));
  return bare ? std::move(bare) : std::move(root);
}

std::string directory_of(const std::string& place) {
  const std::size_t slash = place.find_last_of('/');
  return slash == 0 || slash == std::string::npos ? "/" : place.substr(0, slash);
}

bool is_deleted(std::string_view path) { return path.ends_with(kDeletedMark); }

bool can_be_opened_safely(const struct statx& status) {
  return S_ISREG(status.stx_mode) || S_ISDIR(status.stx_mode);
}

}  // namespace

KeyedFiles::KeyedFiles(Kernel& kernel, int fs_fd, const KeySpecifier& key)
    : FileSet(fs_fd), kernel_(kernel), key_(key) {
  UniqueFd root = mount_root_above(fs_fd);
  if (!root) return;
  const std::vector<Mount> mounts = read_mount_table();
  const Mount* const mount = find_mount(mounts, mount_id_of(root.get()));
  if (mount == nullptr) return;
  base_place_ = mount->root;
  base_ = without_mounts_below(std::move(root));
}

void KeyedFiles::learn(const std::vector<Mount>& mounts) {
  for (const Mount& mount : mounts) {
    if (mount.device == device()) mounts_.try_emplace(mount.id, mount);
  }
}

bool KeyedFiles::has_policy_of_key(int fd) {
  try {
    const std::optional<KernelPolicy> policy = kernel_.get_policy(fd);
    return policy && policy->key == key_;
  } catch (const Error&) {
    // A policy that this program cannot read is not the one that it has set or is asked about, and
    // one odd file must not hide who uses the others.
    return false;
  }
}

/// Without opening it: most files are plain, and many are met more than once.
KeyedFiles::Answer KeyedFiles::ask_status(const struct statx& status) {
  if (!can_be_opened_safely(status)) return Answer::unknown;
  if ((status.stx_attributes & STATX_ATTR_ENCRYPTED) == 0) {
    inodes_.emplace(status.stx_ino, Answer::no);
    return Answer::no;
  }
  const auto remembered = inodes_.find(status.stx_ino);
  return remembered == inodes_.end() ? Answer::unknown : remembered->second;
}

bool KeyedFiles::is_known_outside(std::uint64_t inode) const {
  const auto remembered = inodes_.find(inode);
  return remembered != inodes_.end() && remembered->second == Answer::no;
}

KeyedFiles::Answer KeyedFiles::ask_file(int path_fd, const struct statx& status) {
  const Answer known = ask_status(status);
  if (is_definite(known) || !can_be_opened_safely(status)) return known;
  const std::string self = "/proc/self/fd/" + std::to_string(path_fd);
  const UniqueFd file(open(self.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file) return errno == ENOKEY ? Answer::locked : Answer::unknown;
  const Answer answer = has_policy_of_key(file.get()) ? Answer::yes : Answer::no;
  inodes_.emplace(status.stx_ino, answer);
  return answer;
}

KeyedFiles::Answer KeyedFiles::look_up_place(const std::string& place) {
  const auto below = part_below(place, base_place_);
  if (!base_ || !below) return Answer::unknown;
  const std::string relative = below->empty() ? "." : std::string(below->substr(1));
  const UniqueFd found = open_restricted(
      base_.get(), relative, O_PATH | O_NOFOLLOW,
      RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
  if (!found) return Answer::unknown;
  const auto status = remembered_status(found.get(), "");
  if (!status) return Answer::unknown;
  const Answer answer = ask_file(found.get(), *status);
  if (is_definite(answer) || place == "/") return answer;
  const Answer directory = ask_place(directory_of(place));
  return is_definite(directory) ? directory : answer;
}

KeyedFiles::Answer KeyedFiles::ask_place(const std::string& place) {
  const auto remembered = places_.find(place);
  if (remembered != places_.end()) return remembered->second;
  const Answer answer = look_up_place(place);
  places_.emplace(place, answer);
  return answer;
}

/// What lies in a directory that is encrypted with the key keeps that directory in use.
KeyedFiles::Answer KeyedFiles::ask_directory_of_link(int path_fd, std::uint64_t mount_id) {
  const auto mount = mounts_.find(mount_id);
  if (mount == mounts_.end()) return Answer::unknown;
  const std::string path = link_text(AT_FDCWD, "/proc/self/fd/" + std::to_string(path_fd));
  const std::optional<std::string> place = place_on(mount->second, path);
  return place ? ask_place(directory_of(*place)) : Answer::unknown;
}

bool KeyedFiles::contains_descriptor(int path_fd) {
  const auto status = remembered_status(path_fd, "");
  if (!status || device_of(*status) != device()) return false;
  const Answer answer = ask_file(path_fd, *status);
  if (is_definite(answer)) return answer == Answer::yes;
  const Answer directory = ask_directory_of_link(path_fd, status->stx_mnt_id);
  if (is_definite(directory)) return directory == Answer::yes;
  // Neither it nor its directory can be asked: only what lacks its key is named on suspicion.
  return answer == Answer::locked;
}

bool KeyedFiles::contains_link(int dirfd, const std::string& name, const struct statx& status) {
  if (device_of(status) != device()) return false;
  const Answer known = ask_status(status);
  if (is_definite(known)) return known == Answer::yes;
  // Links can change between two looks; what this descriptor is stays.
  const UniqueFd path_fd(openat(dirfd, name.c_str(), O_PATH | O_CLOEXEC));
  return path_fd && contains_descriptor(path_fd.get());
}

bool KeyedFiles::contains_place(const std::string& place) {
  return ask_place(place) == Answer::yes;
}

bool KeyedFiles::contains_path(const std::vector<Mount>& mounts, std::string_view path) {
  if (is_deleted(path)) return contains_directory_of_path(mounts, path);
  const std::optional<std::string> place = place_in(mounts, device(), path);
  return place && contains_place(*place);
}

bool KeyedFiles::contains_directory_of_path(const std::vector<Mount>& mounts,
                                            std::string_view path) {
  const std::optional<std::string> place = place_in(mounts, device(), path);
  return place && contains_place(directory_of(*place));
}

}  // namespace fscryptctl
