#include "fscryptctl/tree/attributes.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "entry.h"

namespace fscryptctl {

// Not among them: what the filesystem sets itself (extents, encryption, verity), DAX, which an
// encrypted file cannot have, copy on write, which no filesystem with encryption knows, and
// compression, which f2fs changes for empty files only.
const std::uint32_t kKeptFlags = FS_SECRM_FL | FS_UNRM_FL | FS_SYNC_FL | FS_IMMUTABLE_FL |
                                 FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_JOURNAL_DATA_FL |
                                 FS_NOTAIL_FL | FS_DIRSYNC_FL | FS_TOPDIR_FL | FS_PROJINHERIT_FL |
                                 FS_CASEFOLD_FL;

namespace {

constexpr mode_t kPermissions = 07777;
constexpr std::uint32_t kLockingFlags = FS_IMMUTABLE_FL | FS_APPEND_FL;

bool has_no_such_call(int code) { return code == ENOTTY || code == EOPNOTSUPP || code == EINVAL; }

bool can_be_opened(mode_t mode) { return S_ISREG(mode) || S_ISDIR(mode); }

/// Extended attributes of whatever a descriptor is: those with O_PATH only through their link.
class Xattrs {
 public:
  Xattrs(int fd, bool opened) : fd_(fd), path_(opened ? std::string() : descriptor_path(fd)) {}

  ssize_t list(char* buffer, std::size_t size) const {
    return path_.empty() ? flistxattr(fd_, buffer, size) : listxattr(path_.c_str(), buffer, size);
  }
  ssize_t get(const char* name, char* buffer, std::size_t size) const {
    return path_.empty() ? fgetxattr(fd_, name, buffer, size)
                         : getxattr(path_.c_str(), name, buffer, size);
  }
  void set(const std::string& name, const std::string& value) const {
    const int result = path_.empty()
                           ? fsetxattr(fd_, name.c_str(), value.data(), value.size(), 0)
                           : setxattr(path_.c_str(), name.c_str(), value.data(), value.size(), 0);
    if (result != 0) throw system_error(errno, "cannot set the attribute " + printable(name));
  }
  void remove(const std::string& name) const {
    const int result =
        path_.empty() ? fremovexattr(fd_, name.c_str()) : removexattr(path_.c_str(), name.c_str());
    // An ACL that says no more than the mode is gone when the mode was set.
    if (result != 0 && errno != ENODATA) {
      throw system_error(errno, "cannot remove the attribute " + printable(name));
    }
  }

 private:
  int fd_;
  std::string path_;
};

/// Calls with larger and larger buffers until the answer fits; nothing if there is none any more.
template <class Call>
std::optional<std::string> growing(const Call& call, const char* what) {
  std::array<char, 1024> small{};
  ssize_t size = call(small.data(), small.size());
  if (size >= 0) return std::string(small.data(), static_cast<std::size_t>(size));
  std::string large;
  while (size < 0 && errno == ERANGE) {
    // The largest that Linux has, lists and values alike.
    large.resize(large.empty() ? std::size_t{64} << 10 : large.size() * 2);
    if (large.size() > (std::size_t{1} << 20)) break;
    size = call(large.data(), large.size());
  }
  if (size < 0 && (errno == ENODATA || errno == EOPNOTSUPP)) return std::nullopt;
  if (size < 0) throw system_error(errno, what);
  large.resize(static_cast<std::size_t>(size));
  return large;
}

using XattrList = std::vector<std::pair<std::string, std::string>>;

XattrList read_xattrs(const Xattrs& xattrs) {
  const auto names =
      growing([&](char* buffer, std::size_t size) { return xattrs.list(buffer, size); },
              "cannot list the extended attributes");
  XattrList list;
  for (std::size_t at = 0; names && at < names->size();) {
    const std::string name = names->c_str() + at;
    at += name.size() + 1;
    auto value = growing(
        [&](char* buffer, std::size_t size) { return xattrs.get(name.c_str(), buffer, size); },
        "cannot read the extended attributes");
    if (value) list.emplace_back(name, std::move(*value));
  }
  std::ranges::sort(list);
  return list;
}

const std::string* find(const XattrList& list, const std::string& name) {
  const auto found =
      std::ranges::find_if(list, [&](const auto& xattr) { return xattr.first == name; });
  return found == list.end() ? nullptr : &found->second;
}

fsxattr extended_flags(int fd) {
  fsxattr found{};
  if (ioctl(fd, FS_IOC_FSGETXATTR, &found) != 0) {
    if (!has_no_such_call(errno)) throw system_error(errno, "cannot read the project");
    found = {};
  }
  return found;
}

void set_project(int fd, std::uint32_t project) {
  fsxattr wanted = extended_flags(fd);
  wanted.fsx_projid = project;
  if (ioctl(fd, FS_IOC_FSSETXATTR, &wanted) != 0) {
    throw system_error(errno, "cannot set the project");
  }
}

void set_mode(int fd, mode_t mode) {
  if (fchmod(fd, mode & kPermissions) != 0) throw system_error(errno, "cannot set the mode");
}

void set_owner(int fd, uid_t uid, gid_t gid) {
  if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0) {
    throw system_error(errno, "cannot set the owner");
  }
}

void set_times(int fd, bool opened, const Attributes& wanted) {
  const std::array<timespec, 2> times = {to_timespec(wanted.accessed),
                                         to_timespec(wanted.modified)};
  const int result = opened ? futimens(fd, times.data())
                            : utimensat(AT_FDCWD, descriptor_path(fd).c_str(), times.data(), 0);
  if (result != 0) throw system_error(errno, "cannot set the times");
}

/// Whether anything was to be done.
bool set_xattrs(const Xattrs& xattrs, const XattrList& current, const XattrList& wanted) {
  if (current == wanted) return false;
  for (const auto& [name, value] : current) {
    if (find(wanted, name) == nullptr) xattrs.remove(name);
  }
  // From the last to the first, so that "user." comes before the ACL in "system.", which may take
  // the permission for it.
  for (auto next = wanted.rbegin(); next != wanted.rend(); ++next) {
    const auto& [name, value] = *next;
    const std::string* const old = find(current, name);
    if (old == nullptr || *old != value) xattrs.set(name, value);
  }
  return true;
}

void set_kept_flags(int fd, std::uint32_t flags) {
  set_inode_flags(fd, (inode_flags(fd) & ~kKeptFlags) | (flags & kKeptFlags));
}

}  // namespace

std::uint32_t inode_flags(int fd) {
  unsigned flags = 0;  // the kernel writes an int, whatever the number of the call says
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) return flags;
  if (!has_no_such_call(errno)) throw system_error(errno, "cannot read the flags");
  return 0;
}

void set_inode_flags(int fd, std::uint32_t flags) {
  if (ioctl(fd, FS_IOC_SETFLAGS, &flags) != 0) throw system_error(errno, "cannot set the flags");
}

Attributes read_attributes(int fd) { return read_attributes(fd, entry_status(fd)); }

Attributes read_attributes(int fd, const EntryStatus& status) {
  Attributes result;
  result.mode = status.mode;
  result.uid = status.uid;
  result.gid = status.gid;
  result.accessed = status.accessed;
  result.modified = status.modified;
  const bool opened = can_be_opened(status.mode);
  if (opened) {
    result.flags = inode_flags(fd) & kKeptFlags;
    result.project = extended_flags(fd).fsx_projid;
  }
  result.xattrs = read_xattrs(Xattrs(fd, opened));
  return result;
}

void apply_attributes(int fd, const Attributes& attributes) {
  change_attributes(fd, read_attributes(fd), attributes);
}

void change_attributes(int fd, Attributes current, const Attributes& wanted) {
  const bool opened = can_be_opened(current.mode);
  if ((current.flags & kLockingFlags) != 0) {
    current.flags &= ~kLockingFlags;
    set_kept_flags(fd, current.flags);
  }
  bool mode_is_certain = true;
  if (current.uid != wanted.uid || current.gid != wanted.gid) {
    set_owner(fd, wanted.uid, wanted.gid);
    mode_is_certain = false;  // set-user-id bits and capabilities go with a changed owner
    std::erase_if(current.xattrs,
                  [](const auto& xattr) { return xattr.first == "security.capability"; });
  }
  // An owner without write permission may not set attributes.
  if (opened && current.xattrs != wanted.xattrs && (current.mode & S_IWUSR) == 0) {
    set_mode(fd, current.mode | S_IWUSR);
    mode_is_certain = false;
  }
  // An ACL changes the mode, and says the same as the mode at the end.
  if (set_xattrs(Xattrs(fd, opened), current.xattrs, wanted.xattrs)) mode_is_certain = false;
  if (!S_ISLNK(current.mode) && (!mode_is_certain || current.mode != wanted.mode)) {
    if (!opened) throw Error(Errc::internal, "attributes of special files are not set");
    set_mode(fd, wanted.mode);
  }
  if (opened && current.project != wanted.project) set_project(fd, wanted.project);
  if (current.accessed != wanted.accessed || current.modified != wanted.modified) {
    set_times(fd, opened, wanted);
  }
  if (opened && current.flags != (wanted.flags & kKeptFlags)) set_kept_flags(fd, wanted.flags);
}

std::optional<std::string> difference(const Attributes& a, const Attributes& b,
                                      bool with_access_time) {
  if (a.mode != b.mode) return "mode";
  if (a.uid != b.uid) return "owner";
  if (a.gid != b.gid) return "group";
  if (a.modified != b.modified) return "time of modification";
  if (with_access_time && a.accessed != b.accessed) return "time of access";
  if (a.flags != b.flags) return "flags";
  if (a.project != b.project) return "project";
  for (const auto& [name, value] : a.xattrs) {
    const std::string* const other = find(b.xattrs, name);
    if (other == nullptr || *other != value) return "xattr " + name;
  }
  for (const auto& [name, value] : b.xattrs) {
    if (find(a.xattrs, name) == nullptr) return "xattr " + name;
  }
  return std::nullopt;
}

}  // namespace fscryptctl
