#include "fscryptctl/core/target_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/users.h"

namespace fscryptctl {
namespace {

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
constexpr mode_t kPermissionBits = 07777;

struct SplitPath {
  std::string parent;
  std::string name;
};

SplitPath split(const std::string& path) {
  const std::size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return {"/", ""};
  const std::size_t slash = path.find_last_of('/', end);
  if (slash == std::string::npos) return {".", path.substr(0, end + 1)};
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1, end - slash)};
}

bool has_acl(int fd) {
  for (const char* name : {"system.posix_acl_access", "system.posix_acl_default"}) {
    if (::fgetxattr(fd, name, nullptr, 0) >= 0) return true;
  }
  return false;
}

/// Nobody but root can put something else in the place of what root makes here.
bool only_root_changes(const FileInfo& directory) {
  return directory.uid == 0 && (directory.mode & 022) == 0;
}

}  // namespace

TargetDirectory TargetDirectory::find(const Context& context, const std::string& path,
                                      bool create) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT || !create) {
      throw system_error(errno, "opening " + printable(path)).with_path(path);
    }
    TargetDirectory target(path, context.user_without_path());
    const SplitPath parts = split(path);
    if (parts.name.empty() || parts.name == "." || parts.name == "..") {
      throw Error(Errc::no_such_path, "opening " + printable(path) + ": no such directory")
          .with_path(path);
    }
    target.name_ = parts.name;
    // O_PATH: a directory that may be written to need not be readable.
    target.parent_.reset(::open(parts.parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!target.parent_) {
      throw system_error(errno, "opening " + printable(parts.parent)).with_path(parts.parent);
    }
    return target;
  }
  NamedFile file = open_named(path);
  if (!S_ISDIR(file.info.mode)) {
    throw Error(Errc::not_a_directory, printable(path) + " is not a directory").with_path(path);
  }
  TargetDirectory target(path, context.user_for(file.info.uid));
  target.directory_ = std::move(file.fd);
  if (create && file.info.uid == 0 && target.user_.uid != 0) {
    target.to_be_given_ = target.was_left_to_root();
  }
  return target;
}

/// An earlier run as root was interrupted between making the directory and giving it away.
bool TargetDirectory::was_left_to_root() const {
  const UniqueFd parent(::openat(directory_.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return parent && only_root_changes(file_info(parent.get())) && empty() &&
         (file_info(directory_.get()).mode & kPermissionBits) == 0700;
}

void TargetDirectory::give_to(Identity owner) {
  if (::fchown(directory_.get(), owner.uid, owner.gid) != 0) {
    throw system_error(errno, "giving away " + printable(path_)).with_path(path_);
  }
}

UniqueFd TargetDirectory::open_parent() const {
  return UniqueFd(::openat(any_fd(), exists() ? ".." : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

bool TargetDirectory::empty() const { return directory_names(directory_.get(), 1).names.empty(); }

void TargetDirectory::open_made() {
  directory_.reset(::openat(parent_.get(), name_.c_str(), kOpenDirectory));
  if (!directory_) throw system_error(errno, "opening " + printable(path_)).with_path(path_);
}

void TargetDirectory::make() {
  if (to_be_given_) {
    give_to(user_);
    given_ = true;
  }
  if (exists()) return;
  {
    const ActAs acting(user_);
    made_ = ::mkdirat(parent_.get(), name_.c_str(), 0700) == 0;
    if (made_) return open_made();
    if (errno != EACCES || ::geteuid() != 0) {
      throw system_error(errno, "making " + printable(path_)).with_path(path_);
    }
  }
  if (!only_root_changes(file_info(parent_.get()))) {
    throw Error(Errc::permission, user_name(user_.uid) + " cannot make " + printable(path_) +
                                      ", and root does not where others could interfere")
        .with_path(path_);
  }
  made_ = ::mkdirat(parent_.get(), name_.c_str(), 0700) == 0;
  if (!made_) throw system_error(errno, "making " + printable(path_)).with_path(path_);
  open_made();
  give_to(user_);
}

void TargetDirectory::unmake() noexcept {
  if (made_) ::unlinkat(parent_.get(), name_.c_str(), AT_REMOVEDIR);
  if (given_) static_cast<void>(::fchown(directory_.get(), 0, 0));
  made_ = false;
  given_ = false;
}

bool TargetDirectory::set_permissions(const Context& context, std::optional<mode_t> mode,
                                      bool keep) {
  const FileInfo info = file_info(directory_.get());
  const mode_t now = info.mode & kPermissionBits;
  const bool plain = (now & (S_ISGID | S_IWGRP | S_IWOTH)) == 0 && !has_acl(directory_.get());
  const bool may_close = context.caller.uid == info.uid && plain;
  const mode_t wanted = mode ? *mode : (!keep && may_close ? (now & ~mode_t{077}) : now);
  if (wanted != now && ::fchmod(directory_.get(), wanted) != 0) {
    throw system_error(errno, "setting the permissions of " + printable(path_)).with_path(path_);
  }
  if (wanted != now) previous_mode_ = now;
  return (wanted & 077) == 0 && !has_acl(directory_.get());
}

void TargetDirectory::restore_permissions() noexcept {
  if (previous_mode_) static_cast<void>(::fchmod(directory_.get(), *previous_mode_));
  previous_mode_.reset();
}

void TargetDirectory::sync() const {
  // The records stay, and repeating the command finishes it.
  const std::string what = printable(path_) + " is encrypted, but perhaps not yet on the disk";
  sync_file(directory_.get(), what);
  if (!made_) return;
  // The parent was opened with O_PATH, which cannot be synced. Where it cannot be read at all, the
  // filesystem's own order has to do: the new directory's fsync carries its name on ext4 and f2fs.
  const UniqueFd parent(::openat(directory_.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent) sync_file(parent.get(), what);
}

}  // namespace fscryptctl
