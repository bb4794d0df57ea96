#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <optional>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/tree/attributes.h"

namespace fscryptctl {

[[nodiscard]] timespec to_timespec(const FileTime& time) noexcept;

/// What statx says of an entry of a tree.
struct EntryStatus {
  mode_t mode;
  uid_t uid;
  gid_t gid;
  std::uint64_t links;
  std::uint64_t size;
  std::uint64_t disk_bytes;  ///< that it has blocks for
  std::uint64_t inode;
  dev_t device;
  FileTime accessed;
  FileTime modified;
  FileTime changed;
  FileTime made;        ///< none where the filesystem does not know
  std::uint64_t marks;  ///< STATX_ATTR_*

  [[nodiscard]] bool is_directory() const noexcept { return S_ISDIR(mode); }
  [[nodiscard]] bool is_regular() const noexcept { return S_ISREG(mode); }
  [[nodiscard]] bool is_symlink() const noexcept { return S_ISLNK(mode); }
  /// FIFO, socket or device: never opened, and only given further names.
  [[nodiscard]] bool is_special() const noexcept {
    return !is_directory() && !is_regular() && !is_symlink();
  }
};
[[nodiscard]] EntryStatus entry_status(int fd);
/// Of what stands under a name, which may be a mount point. Throws files_in_use if nothing does any
/// more, io.
[[nodiscard]] EntryStatus entry_status(int dirfd, const std::string& name);

/// An O_PATH descriptor of what stands under `name`, a symlink itself. Throws files_in_use if
/// nothing does any more or it is a mount point, io.
[[nodiscard]] UniqueFd open_entry(int dirfd, const std::string& name);
/// The same, but empty if there is nothing.
[[nodiscard]] UniqueFd find_entry(int dirfd, const std::string& name);

/// A directory below `dirfd`, for reading, without a change of its time of access where that is
/// permitted. Throws files_in_use for anything but a directory of the same mount, permission, io.
[[nodiscard]] UniqueFd open_tree_directory(int dirfd, const std::string& name);
/// "." of a directory once more, with a position of its own.
[[nodiscard]] UniqueFd reopen_directory(int fd);

/// Opens again what an O_PATH descriptor is known to be, a regular file; `access` is O_RDONLY or
/// O_RDWR. The time of access stays where that is permitted. Empty with errno on failure: EAGAIN if
/// somebody has a lease on it.
[[nodiscard]] UniqueFd reopen_file(int path_fd, int access);
/// For reading, with errors thrown: files_in_use, permission, io.
[[nodiscard]] UniqueFd open_file(int path_fd);

/// Where the same inode is found whatever happens to its names; for calls that take no O_PATH
/// descriptor.
[[nodiscard]] std::string descriptor_path(int fd);

/// The target of a symlink. Its time of access may change: setting that back would change its
/// change time, by which alone others' changes are noticed.
[[nodiscard]] std::string read_link(int path_fd, const EntryStatus& status);
/// The same of a copy that nobody else changes, with its time of access as it was.
[[nodiscard]] std::string read_own_link(int path_fd, const EntryStatus& status);

/// What stands under a name, opened so that as much as possible can be asked of it.
struct OpenedEntry {
  UniqueFd fd;
  EntryStatus status;
  bool readable;  ///< a regular file, open for reading; anything else by an O_PATH descriptor

  /// Opens a regular file for reading where that was not possible at once. False with errno: EAGAIN
  /// if somebody has a lease on it. Throws io when there are no descriptors or memory for it, which
  /// says nothing of the file.
  [[nodiscard]] bool make_readable();
  /// The same with errors thrown: files_in_use, permission, io.
  void require_readable();
};
/// `type` is what a listing says of it (DT_*): it saves opening regular files twice. What was put
/// in the place of one since is opened without waiting and let go. Follows nothing, and leaves the
/// time of access where that is permitted. nullopt if nothing is there; throws files_in_use for a
/// mount point, io.
[[nodiscard]] std::optional<OpenedEntry> find_opened(int dirfd, const std::string& name,
                                                     unsigned char type);
/// The same of a source: throws files_in_use for what is gone, or has become a directory.
[[nodiscard]] OpenedEntry open_listed(int dirfd, const std::string& name, unsigned char type);

/// Gives what `path_fd` is a further name.
void link_entry(int path_fd, int dirfd, const std::string& name);

/// Error of a source that is not what it was a moment ago.
[[nodiscard]] Error changed_meanwhile();

/// As system_error, with files_in_use for what vanished.
[[nodiscard]] Error tree_error(int sys_errno, const std::string& what);

/// FS_IOC_GETFLAGS, all of them; 0 where the filesystem has none.
[[nodiscard]] std::uint32_t inode_flags(int fd);
void set_inode_flags(int fd, std::uint32_t flags);

/// What a program may set and what a copy can have.
extern const std::uint32_t kKeptFlags;

/// As read_attributes, when the status is known.
[[nodiscard]] Attributes read_attributes(int fd, const EntryStatus& status);
/// As apply_attributes, when it is known what the file has.
void change_attributes(int fd, Attributes current, const Attributes& wanted);

}  // namespace fscryptctl
