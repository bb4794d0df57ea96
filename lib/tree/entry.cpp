#include "entry.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

namespace fscryptctl {
namespace {

// Never waits, neither for a FIFO's other end nor for the holder of a lease.
constexpr int kQuietFlags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
constexpr int kDirectoryFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
constexpr std::uint64_t kSectorSize = 512;  // statx's unit of blocks

FileTime time_of(const statx_timestamp& time) noexcept { return {time.tv_sec, time.tv_nsec}; }

Error cannot_enter(int code) {
  if (code == EXDEV) return {Errc::files_in_use, "a filesystem is mounted there", EXDEV};
  if (code == ENOENT || code == ENOTDIR || code == ELOOP) return changed_meanwhile();
  if (code == EMFILE || code == ENFILE) {
    return {Errc::io, "too many levels of directories for the number of files that can be open",
            code};
  }
  return system_error(code, "cannot open");
}

/// O_NOATIME is for owners only.
template <class Open>
UniqueFd open_without_access_time(const Open& open_with) {
  UniqueFd fd = open_with(O_NOATIME);
  return fd || errno != EPERM ? std::move(fd) : open_with(0);
}

}  // namespace

timespec to_timespec(const FileTime& time) noexcept {
  timespec result{};
  result.tv_sec = time.seconds;
  result.tv_nsec = time.nanoseconds;
  return result;
}

EntryStatus entry_status(int fd) { return entry_status(fd, ""); }

EntryStatus entry_status(int dirfd, const std::string& name) {
  struct statx found {};
  constexpr unsigned kWanted = STATX_BASIC_STATS | STATX_BTIME;
  constexpr int kFlags = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW;
  if (statx(dirfd, name.c_str(), kFlags, kWanted, &found) != 0) {
    throw tree_error(errno, "cannot look at it");
  }
  return {.mode = found.stx_mode,
          .uid = found.stx_uid,
          .gid = found.stx_gid,
          .links = found.stx_nlink,
          .size = found.stx_size,
          .disk_bytes = found.stx_blocks * kSectorSize,
          .inode = found.stx_ino,
          .device = makedev(found.stx_dev_major, found.stx_dev_minor),
          .accessed = time_of(found.stx_atime),
          .modified = time_of(found.stx_mtime),
          .changed = time_of(found.stx_ctime),
          .made = (found.stx_mask & STATX_BTIME) != 0 ? time_of(found.stx_btime) : FileTime{},
          .marks = found.stx_attributes};
}

UniqueFd find_entry(int dirfd, const std::string& name) {
  UniqueFd found = open_beneath(dirfd, name, O_PATH);
  if (!found && errno != ENOENT) throw cannot_enter(errno);
  return found;
}

UniqueFd open_entry(int dirfd, const std::string& name) {
  UniqueFd found = find_entry(dirfd, name);
  if (!found) throw changed_meanwhile();
  return found;
}

UniqueFd open_tree_directory(int dirfd, const std::string& name) {
  UniqueFd fd = open_without_access_time(
      [&](int flag) { return open_beneath(dirfd, name, kDirectoryFlags | flag); });
  if (!fd) throw cannot_enter(errno);
  return fd;
}

UniqueFd reopen_directory(int fd) {
  UniqueFd again = open_without_access_time(
      [&](int flag) { return UniqueFd(openat(fd, ".", kDirectoryFlags | flag)); });
  if (!again) throw cannot_enter(errno);
  return again;
}

UniqueFd reopen_file(int path_fd, int access) {
  const std::string path = descriptor_path(path_fd);
  UniqueFd fd = open_without_access_time(
      [&](int flag) { return UniqueFd(open(path.c_str(), access | kQuietFlags | flag)); });
  // The link of an open descriptor always leads somewhere.
  if (!fd && errno == ENOENT) throw Error(Errc::io, "/proc is not mounted", ENOENT);
  return fd;
}

UniqueFd open_file(int path_fd) {
  UniqueFd fd = reopen_file(path_fd, O_RDONLY);
  if (fd) return fd;
  if (errno == EAGAIN || errno == ETXTBSY) {
    throw Error(Errc::files_in_use, "another program holds it", errno);
  }
  throw system_error(errno, "cannot read");
}

bool OpenedEntry::make_readable() {
  if (readable) return true;
  UniqueFd file = reopen_file(fd.get(), O_RDONLY);
  if (!file && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
    throw system_error(errno, "cannot read");
  }
  if (!file) return false;
  fd = std::move(file);
  readable = true;
  return true;
}

void OpenedEntry::require_readable() {
  if (!readable) fd = open_file(fd.get());
  readable = true;
}

std::optional<OpenedEntry> find_opened(int dirfd, const std::string& name, unsigned char type) {
  if (type == DT_REG) {
    UniqueFd file = open_without_access_time(
        [&](int flag) { return open_beneath(dirfd, name, O_RDONLY | kQuietFlags | flag); });
    if (file) {
      const EntryStatus status = entry_status(file.get());
      if (status.is_regular()) return OpenedEntry{std::move(file), status, true};
    }
  }
  UniqueFd found = find_entry(dirfd, name);
  if (!found) return std::nullopt;
  const EntryStatus status = entry_status(found.get());
  return OpenedEntry{std::move(found), status, false};
}

OpenedEntry open_listed(int dirfd, const std::string& name, unsigned char type) {
  std::optional<OpenedEntry> found = find_opened(dirfd, name, type);
  if (!found || found->status.is_directory()) throw changed_meanwhile();
  return std::move(*found);
}

std::string descriptor_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string read_link(int path_fd, const EntryStatus& status) {
  // An owner's change or an old kernel's size of an encrypted one: then what fits a path.
  std::string target(std::max<std::uint64_t>(status.size + 1, PATH_MAX), '\0');
  const ssize_t length = readlinkat(path_fd, "", target.data(), target.size());
  if (length < 0) throw system_error(errno, "cannot read the symbolic link");
  target.resize(static_cast<std::size_t>(length));
  return target;
}

std::string read_own_link(int path_fd, const EntryStatus& status) {
  std::string target = read_link(path_fd, status);
  if (entry_status(path_fd).accessed != status.accessed) {
    const std::array<timespec, 2> times = {to_timespec(status.accessed), timespec{0, UTIME_OMIT}};
    utimensat(AT_FDCWD, descriptor_path(path_fd).c_str(), times.data(), 0);
  }
  return target;
}

void link_entry(int path_fd, int dirfd, const std::string& name) {
  const std::string source = descriptor_path(path_fd);
  if (linkat(AT_FDCWD, source.c_str(), dirfd, name.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    throw tree_error(errno, "cannot give it a second name");
  }
}

Error changed_meanwhile() { return {Errc::files_in_use, "was changed meanwhile"}; }

Error tree_error(int sys_errno, const std::string& what) {
  return sys_errno == ENOENT ? changed_meanwhile() : system_error(sys_errno, what);
}

}  // namespace fscryptctl
