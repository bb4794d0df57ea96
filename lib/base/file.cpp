#include "fscryptctl/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/directory_listing.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/base/mount_table.h"

namespace fscryptctl {
namespace {

constexpr int kReadFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

std::string quoted(std::string_view name) { return '"' + printable(name) + '"'; }

Error untrusted(const std::string& name, const std::string& fault) {
  return Error(Errc::untrusted_metadata, quoted(name) + ' ' + fault);
}

/// The same file as an O_PATH descriptor, opened for reading, whatever happened to its name.
UniqueFd reopen(int path_fd) {
  const std::string link = "/proc/self/fd/" + std::to_string(path_fd);
  UniqueFd fd(open(link.c_str(), kReadFlags));
  // The link of an open descriptor always leads somewhere.
  if (!fd && errno == ENOENT) throw Error(Errc::io, "/proc is not mounted", ENOENT);
  return fd;
}

/// For kernels without openat2: nothing but the mount id is asked of what was found before it is
/// known to be on the same mount, because any other call may hang on a user's FUSE mount.
UniqueFd open_beneath_by_mount_id(int dirfd, const std::string& name, int flags) {
  UniqueFd found(openat(dirfd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!found) return found;
  if (mount_id_of(found.get()) != mount_id_of(dirfd)) {
    errno = EXDEV;
    return UniqueFd();
  }
  // "." of a descriptor crosses neither a symlink nor a mount.
  return (flags & O_PATH) != 0 ? std::move(found) : UniqueFd(openat(found.get(), ".", flags));
}

Error cannot_open(const std::string& name, int code) {
  if (code == EXDEV) return untrusted(name, "is a mount point");
  if (code == ELOOP || code == ENOTDIR) return untrusted(name, "is not a directory");
  return system_error(code, "cannot open " + quoted(name));
}

void require_trusted(const FileInfo& info, const std::string& name, uid_t owner) {
  if (S_ISLNK(info.mode)) throw untrusted(name, "is a symbolic link");
  if (!S_ISREG(info.mode)) throw untrusted(name, "is not a regular file");
  if (info.uid != owner) throw untrusted(name, "belongs to another user");
  if (info.links != 1) throw untrusted(name, "has more than one name (hard links)");
  if ((info.mode & (S_IWGRP | S_IWOTH)) != 0) throw untrusted(name, "is writable by others");
}

Error too_large(const std::string& name, std::size_t max_size) {
  return Error(Errc::corrupt_metadata,
               quoted(name) + " is larger than " + std::to_string(max_size) + " bytes");
}

/// Reads to the end, at most `max_size` bytes. nullopt if there is more.
std::optional<std::string> read_to_end(int fd, const std::string& name, std::size_t expected_size,
                                       std::size_t max_size) {
  std::string text(expected_size + 1, '\0');
  std::size_t used = 0;
  while (true) {
    const ssize_t count =
        pread(fd, text.data() + used, text.size() - used, static_cast<off_t>(used));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error(errno, "cannot read " + quoted(name));
    if (count == 0) break;
    used += static_cast<std::size_t>(count);
    if (used > max_size) return std::nullopt;
    if (used == text.size()) text.resize(max_size + 1);
  }
  text.resize(used);
  return text;
}

void write_all(int fd, const std::string& name, std::string_view contents) {
  while (!contents.empty()) {
    const ssize_t count = write(fd, contents.data(), contents.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error(errno, "cannot write " + quoted(name));
    contents.remove_prefix(static_cast<std::size_t>(count));
  }
}

/// Compares with what the device holds rather than with the page cache, as far as the kernel gives
/// up clean pages.
void require_contents(int fd, const std::string& name, std::string_view contents) {
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  const auto found = read_to_end(fd, name, contents.size(), contents.size());
  if (found != contents) throw Error(Errc::io, quoted(name) + " reads back other than written");
}

void set_mode(int fd, const std::string& name, mode_t mode) {
  constexpr mode_t kPermissions = 07777;
  if ((file_info(fd).mode & kPermissions) == mode) return;
  if (fchmod(fd, mode) != 0) throw system_error(errno, "cannot set the mode of " + quoted(name));
}

std::string random_temporary_name() {
  std::array<std::uint8_t, 8> random{};
  // Never fails or falls short for so few bytes; a name that exists would be refused anyway.
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    throw system_error(errno, "cannot get random bytes");
  }
  return std::string(kTemporaryPrefix) + to_hex(random);
}

/// A new file under a temporary name, which goes away unless it is renamed.
class TemporaryFile {
 public:
  TemporaryFile(int dirfd, const std::string& target)
      : dirfd_(dirfd),
        name_(random_temporary_name()),
        fd_(openat(dirfd, name_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                   S_IRUSR | S_IWUSR)) {
    if (!fd_) throw system_error(errno, "cannot write " + quoted(target));
  }
  ~TemporaryFile() {
    if (!name_.empty()) unlinkat(dirfd_, name_.c_str(), 0);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  /// Where the filesystem cannot rename without replacing, the name is taken by an empty file
  /// first: replacing that harms nobody.
  void rename_to_new(const std::string& target) {
    const auto exists = [&] { return Error(Errc::exists, quoted(target) + " exists already"); };
    if (renameat2(dirfd_, name_.c_str(), dirfd_, target.c_str(), RENAME_NOREPLACE) == 0) {
      return name_.clear();
    }
    if (errno == EEXIST) throw exists();
    if (errno != EINVAL && errno != ENOSYS)
      throw system_error(errno, "cannot name " + quoted(target));
    const UniqueFd taken(openat(dirfd_, target.c_str(),
                                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                S_IRUSR | S_IWUSR));
    if (!taken && errno == EEXIST) throw exists();
    if (!taken) throw system_error(errno, "cannot write " + quoted(target));
    try {
      rename_to(dirfd_, target);
    } catch (...) {
      unlinkat(dirfd_, target.c_str(), 0);
      throw;
    }
  }

  void rename_to(int dirfd, const std::string& target) {
    if (renameat(dirfd_, name_.c_str(), dirfd, target.c_str()) != 0) {
      throw system_error(errno, "cannot replace " + quoted(target));
    }
    name_.clear();
  }

 private:
  int dirfd_;
  std::string name_;
  UniqueFd fd_;
};

}  // namespace

UniqueFd open_beneath(int dirfd, const std::string& name, int flags) {
  if (name.empty() || name == ".." || name.find('/') != std::string::npos) {
    throw Error(Errc::internal, quoted(name) + " is not the name of a directory entry");
  }
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_NOFOLLOW | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  const long fd = syscall(SYS_openat2, dirfd, name.c_str(), &how, sizeof how);
  if (fd >= 0) return UniqueFd(static_cast<int>(fd));
  // Old container runtimes' seccomp filters answer EPERM to system calls that they do not know.
  if (errno != ENOSYS && errno != EPERM) return UniqueFd();
  return open_beneath_by_mount_id(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC);
}

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

FileInfo file_info(int fd) {
  struct statx status {};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &status) != 0) {
    throw system_error(errno, "cannot examine a file");
  }
  FileInfo info{};
  info.mode = status.stx_mode;
  info.uid = status.stx_uid;
  info.gid = status.stx_gid;
  info.links = status.stx_nlink;
  info.size = status.stx_size;
  info.inode = status.stx_ino;
  info.device = makedev(status.stx_dev_major, status.stx_dev_minor);
  info.mount_id = (status.stx_mask & STATX_MNT_ID) != 0 ? status.stx_mnt_id : 0;
  info.encrypted = (status.stx_attributes & STATX_ATTR_ENCRYPTED) != 0;
  return info;
}

NamedFile open_named(const std::string& path) {
  const auto failure = [&](int code) {
    Error error = system_error(code, printable(path));
    // Where something on the way is no directory, there is nothing of this name.
    if (code == ENOTDIR) error = Error(Errc::no_such_path, error.what(), code);
    error.with_path(path);
    return error;
  };
  NamedFile file;
  // The kernel refuses whatever is no directory before it opens it; and only so are automounts
  // made.
  file.fd.reset(open(path.c_str(), kReadFlags | O_DIRECTORY));
  if (!file.fd && errno != ENOTDIR) throw failure(errno);
  if (file.fd) {
    file.info = file_info(file.fd.get());
    return file;
  }
  file.fd.reset(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!file.fd) throw failure(errno);
  file.info = file_info(file.fd.get());
  file.path_only = true;
  if (!S_ISREG(file.info.mode)) return file;
  UniqueFd readable = reopen(file.fd.get());
  if (!readable && errno != ENOKEY) throw failure(errno);
  if (readable) {
    file.fd = std::move(readable);
    file.path_only = false;
  }
  return file;
}

std::optional<UniqueFd> open_directory_beneath(int dirfd, const std::string& name) {
  UniqueFd fd = open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY);
  if (fd) return fd;
  if (errno == ENOENT) return std::nullopt;
  throw cannot_open(name, errno);
}

std::optional<FileInfo> entry_info(int dirfd, const std::string& name) {
  const UniqueFd found = open_beneath(dirfd, name, O_PATH);
  if (found) return file_info(found.get());
  if (errno == ENOENT) return std::nullopt;
  throw cannot_open(name, errno);
}

std::optional<std::string> read_untrusted_file(int dirfd, const std::string& name, uid_t owner,
                                               std::size_t max_size) {
  const UniqueFd found = open_beneath(dirfd, name, O_PATH);
  if (!found && errno == ENOENT) return std::nullopt;
  if (!found) throw cannot_open(name, errno);
  const FileInfo info = file_info(found.get());
  require_trusted(info, name, owner);
  if (info.size > max_size) throw too_large(name, max_size);
  const UniqueFd fd = reopen(found.get());
  if (!fd && errno == EWOULDBLOCK) {
    throw Error(Errc::metadata_locked, "another program holds " + quoted(name), EWOULDBLOCK);
  }
  if (!fd) throw system_error(errno, "cannot read " + quoted(name));
  std::optional<std::string> text =
      read_to_end(fd.get(), name, static_cast<std::size_t>(info.size), max_size);
  if (!text) throw too_large(name, max_size);
  return text;
}

void write_file_durably(int dirfd, const std::string& name, std::string_view contents,
                        mode_t mode) {
  write_file_durably(dirfd, name, contents, mode, dirfd);
}

void write_file_durably(int dirfd, const std::string& name, std::string_view contents, mode_t mode,
                        int temporary_dirfd) {
  TemporaryFile file(temporary_dirfd, name);
  set_mode(file.fd(), name, mode);
  write_all(file.fd(), name, contents);
  sync_file(file.fd(), "cannot write " + quoted(name));
  require_contents(file.fd(), name, contents);
  file.rename_to(dirfd, name);
  sync_file(dirfd, "cannot write the directory of " + quoted(name));
}

void write_new_file_durably(int dirfd, const std::string& name, std::string_view contents) {
  TemporaryFile file(dirfd, name);
  write_all(file.fd(), name, contents);
  sync_file(file.fd(), "cannot write " + quoted(name));
  require_contents(file.fd(), name, contents);
  file.rename_to_new(name);
  // What is not durable is not done: repeating must not stumble over it.
  try {
    sync_file(dirfd, "cannot write the directory of " + quoted(name));
  } catch (...) {
    unlinkat(dirfd, name.c_str(), 0);
    throw;
  }
}

void sync_file(int fd, const std::string& what) {
  if (fsync(fd) != 0) throw system_error(errno, what);
}

bool make_directory_durably(int dirfd, const std::string& name, mode_t mode) {
  if (mkdirat(dirfd, name.c_str(), mode) != 0) {
    if (errno == EEXIST) return false;
    throw system_error(errno, "cannot make the directory " + quoted(name));
  }
  const std::optional<UniqueFd> made = open_directory_beneath(dirfd, name);
  if (!made) throw untrusted(name, "vanished while it was made");
  set_mode(made->get(), name, mode);
  sync_file(made->get(), "cannot write the directory " + quoted(name));
  sync_file(dirfd, "cannot write the directory of " + quoted(name));
  return true;
}

DirectoryNames directory_names(int dirfd, std::size_t limit) {
  // An open file description of its own, so that nobody's position in the directory matters.
  const UniqueFd directory(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) throw system_error(errno, "cannot open a directory");
  DirectoryNames result{{}, true};
  DirectoryListing listing;
  DirectoryEntry entry;
  while (listing.next(directory.get(), entry)) {
    if (result.names.size() == limit) return {std::move(result.names), false};
    result.names.push_back(entry.name);
  }
  return result;
}

}  // namespace fscryptctl
