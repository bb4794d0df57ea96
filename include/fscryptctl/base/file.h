#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fscryptctl {

/// Owns a file descriptor.
class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset(int fd = -1) noexcept;
  /// Gives the descriptor up without closing it.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// What statx says of an open descriptor, as far as this program asks.
struct FileInfo {
  mode_t mode;
  uid_t uid;
  gid_t gid;
  std::uint64_t links;
  std::uint64_t size;
  std::uint64_t inode;
  dev_t device;
  std::uint64_t mount_id;  ///< as in mountinfo; 0 where the kernel does not tell
  bool encrypted;          ///< STATX_ATTR_ENCRYPTED
};
[[nodiscard]] FileInfo file_info(int fd);

/// Opens what a user named, for ioctls and further checks: O_PATH first (so that a FIFO, device or
/// socket is never opened), then regular files and directories again with
/// O_RDONLY|O_NONBLOCK|O_NOCTTY|O_CLOEXEC. The last component may be a symlink.
/// Throws no_such_path, permission, io. A regular file of a locked directory cannot be opened: its
/// O_PATH descriptor is returned (`path_only`).
struct NamedFile {
  UniqueFd fd;
  FileInfo info;
  bool path_only = false;
};
[[nodiscard]] NamedFile open_named(const std::string& path);

/// Opens one component below `dirfd`, never through a symlink, never onto another mount: openat2 with
/// RESOLVE_BENEATH|NO_SYMLINKS|NO_XDEV|NO_MAGICLINKS and O_NOFOLLOW|O_CLOEXEC, or, without openat2,
/// O_PATH|O_NOFOLLOW and an equal mount id before any other call on it. `flags` have O_PATH (then a
/// symlink is opened itself) or O_DIRECTORY. Empty with errno on failure: EXDEV for another mount.
/// Throws internal for what is not the name of an entry.
[[nodiscard]] UniqueFd open_beneath(int dirfd, const std::string& name, int flags);

/// Opens one component below `dirfd` as a directory, never through a symlink, never onto another
/// mount: openat2 with RESOLVE_BENEATH|NO_SYMLINKS|NO_XDEV|NO_MAGICLINKS, or, without openat2,
/// O_PATH|O_NOFOLLOW and an equal mount id before any other call on it.
/// nullopt if there is no such entry. Throws untrusted_metadata for symlinks, mounts and
/// non-directories, io for the rest.
[[nodiscard]] std::optional<UniqueFd> open_directory_beneath(int dirfd, const std::string& name);

/// What stands under a name in `dirfd`, without opening it: a symlink is described itself. nullopt
/// if there is no such entry. Throws untrusted_metadata for a mount, io.
[[nodiscard]] std::optional<FileInfo> entry_info(int dirfd, const std::string& name);

/// Reads a small regular file of `dirfd` that its owner may have made hostile: O_PATH|O_NOFOLLOW,
/// then checked on the descriptor (regular, owned by `owner`, one link, not group- or
/// other-writable, at most `max_size` bytes), then opened again through /proc/self/fd with
/// O_NONBLOCK. nullopt if there is no such entry.
/// Throws untrusted_metadata, corrupt_metadata (too large), metadata_locked (a lease), io.
[[nodiscard]] std::optional<std::string> read_untrusted_file(int dirfd, const std::string& name,
                                                             uid_t owner, std::size_t max_size);

/// Replaces or makes `name` in `dirfd`, durably and atomically: random temporary name
/// (kTemporaryPrefix), O_CREAT|O_EXCL|O_NOFOLLOW with `mode`, write, fsync, read back and compare,
/// renameat, fsync of the directory. On failure the temporary file is removed and the old file is
/// as it was. Throws no_space, io, permission.
void write_file_durably(int dirfd, const std::string& name, std::string_view contents, mode_t mode);
/// The same with the temporary file in another directory of the filesystem, where a later writer
/// finds what an interruption left without looking through all the files.
void write_file_durably(int dirfd, const std::string& name, std::string_view contents, mode_t mode,
                        int temporary_dirfd);

/// Makes `name` in `dirfd`, durably and atomically, and never replaces anything: as
/// write_file_durably, but the file goes to a name that must not exist. 0600, less what the umask
/// takes. Throws exists, no_space, io, permission.
void write_new_file_durably(int dirfd, const std::string& name, std::string_view contents);

/// Temporary files of write_file_durably start so; a later writer under the lock may remove them.
inline constexpr std::string_view kTemporaryPrefix = ".tmp-";

/// fsync that reports failure as Error.
void sync_file(int fd, const std::string& what);

/// mkdirat, then fsync of the new directory and of `dirfd`. False if the name exists already.
[[nodiscard]] bool make_directory_durably(int dirfd, const std::string& name, mode_t mode);

/// The names in a directory, without "." and "..", in no order; at most `limit` of them.
struct DirectoryNames {
  std::vector<std::string> names;
  bool complete;  ///< false if there are more than `limit`
};
[[nodiscard]] DirectoryNames directory_names(int dirfd, std::size_t limit);

}  // namespace fscryptctl
