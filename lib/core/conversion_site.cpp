#include "fscryptctl/core/conversion_site.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>

#include "fscryptctl/base/error.h"
#include "fscryptctl/tree/remove.h"

namespace fscryptctl {
namespace {

constexpr mode_t kWorkMode = 0700;
constexpr std::size_t kMaxWorkEntries = 4096;
constexpr std::size_t kMaxNames = 65536;
constexpr std::string_view kWorkPrefix = ".fscryptctl-";

Error not_the_directory(const std::string& path) {
  return Error(Errc::files_in_use, printable(path) + " was renamed or replaced just now")
      .with_path(path);
}

/// The name under which it stands in its parent, whatever symlinks and dots the path has.
std::string last_component(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (!real) throw system_error(errno, "opening " + printable(path)).with_path(path);
  const std::string absolute = real.get();
  return absolute.substr(absolute.find_last_of('/') + 1);
}

bool same_inode(const FileInfo& a, const FileInfo& b) {
  return a.inode == b.inode && a.device == b.device && a.mount_id == b.mount_id;
}

void lock_or_throw(int fd, const std::string& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return;
  if (errno != EWOULDBLOCK) throw system_error(errno, "locking " + printable(path));
  throw Error(Errc::metadata_locked, "another fscryptctl is working on " + printable(path))
      .with_path(path);
}

UniqueFd open_parent(int directory, const std::string& path) {
  UniqueFd parent(::openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) {
    throw Error(Errc::permission,
                "the directory above " + printable(path) +
                    " cannot be read: " + system_error(errno, "opening it").what(),
                errno)
        .with_path(path);
  }
  if (::faccessat(parent.get(), ".", W_OK | X_OK, AT_EACCESS) != 0) {
    throw Error(Errc::permission, "the directory above " + printable(path) +
                                      " cannot be written to, and a copy has to stand in it")
        .with_path(path);
  }
  return parent;
}

}  // namespace

Journal::Inode journal_inode(const InodeIdentity& identity) {
  return {identity.inode, identity.generation};
}

InodeIdentity inode_of(const Journal::Inode& inode) { return {inode.number, inode.generation}; }

ConversionSite ConversionSite::find(const Context& context, const std::string& path) {
  NamedFile file = open_named(path);
  if (!S_ISDIR(file.info.mode)) {
    throw Error(Errc::not_a_directory, printable(path) + " is not a directory").with_path(path);
  }
  if (is_mount_point(context, path)) {
    throw Error(Errc::filesystem_root, printable(path) + " is a mount point").with_path(path);
  }
  ConversionSite site(path, Filesystem::of(file.fd.get(), context.mounts, path));
  site.directory_ = std::move(file.fd);
  site.info_ = file.info;
  site.parent_ = open_parent(site.directory_.get(), path);
  site.name_ = last_component(path);
  const std::optional<FileInfo> entry = entry_info(site.parent_.get(), site.name_);
  if (!entry || !same_inode(*entry, site.info_)) throw not_the_directory(path);
  if (context.kernel.get_policy(site.parent_.get())) {
    throw Error(Errc::already_encrypted,
                printable(path) + " lies in an encrypted directory: name that one")
        .with_path(path);
  }
  return site;
}

Journal::Inode ConversionSite::identity() const {
  return journal_inode(inode_identity(directory_.get()));
}

std::optional<KernelPolicy> ConversionSite::policy(const Context& context) const {
  return context.kernel.get_policy(directory_.get());
}

std::string ConversionSite::hint(const Context& context) const {
  std::optional<std::string> hint = filesystem_.hint_of(directory_.get(), context.mounts);
  if (hint) return *hint;
  throw Error(Errc::filesystem, "the place of " + printable(path_) + " cannot be told")
      .with_path(path_);
}

void ConversionSite::lock() {
  locked_.reset(::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!locked_) throw system_error(errno, "opening " + printable(path_)).with_path(path_);
  lock_or_throw(locked_.get(), path_);
}

std::optional<UniqueFd> ConversionSite::find_work(const std::string& began_at) {
  moved_from_.reset();
  std::optional<UniqueFd> found = open_directory_beneath(parent_.get(), work_name_);
  if (found || began_at.empty()) return found;
  const std::size_t slash = began_at.rfind('/');
  const std::string above = slash == std::string::npos ? "" : began_at.substr(0, slash);
  const std::optional<std::string> path =
      above.empty() ? filesystem_.mount().mount_point : filesystem_.path_of_hint(above);
  const UniqueFd hinted = above.empty() ? UniqueFd() : filesystem_.open_hint(above);
  const int place = above.empty() ? filesystem_.root_fd() : hinted.get();
  if (!path || place < 0) return std::nullopt;
  UniqueFd directory(::openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory) found = open_directory_beneath(directory.get(), work_name_);
  if (!found) return std::nullopt;
  moved_from_ = std::move(directory);
  moved_from_path_ = *path == "/" ? "" : *path;
  return found;
}

bool ConversionSite::open_work(const OperationId& operation, const std::string& began_at) {
  // A second look would find its own lock in the way.
  if (work_) return true;
  work_name_ = std::string(kWorkPrefix) + operation.hex();
  std::optional<UniqueFd> found = find_work(began_at);
  if (!found) return false;
  const FileInfo info = file_info(found->get());
  const auto untrusted = [&](const std::string& fault) {
    return Error(Errc::untrusted_metadata, printable(work_path()) + " " + fault)
        .with_path(work_path());
  };
  // Root takes nothing over either: its owner may hold what is in it open, and write or read there
  // what becomes somebody else's.
  if (info.uid != ::geteuid()) {
    throw Error(Errc::permission, printable(work_path()) + " belongs to user " +
                                      std::to_string(info.uid) +
                                      ", who began it and has to go on with it")
        .with_path(work_path());
  }
  if ((info.mode & 077) != 0) throw untrusted("is open to other users");
  if (info.encrypted) throw untrusted("is encrypted itself");
  lock_or_throw(found->get(), path_);
  work_ = std::move(*found);
  return true;
}

void ConversionSite::make_work(const OperationId& operation) {
  if (open_work(operation, {})) return;
  if (!make_directory_durably(parent_.get(), work_name_, kWorkMode) || !open_work(operation, {})) {
    throw not_the_directory(work_path());
  }
  // What the directory above hands down is not for what is made in here.
  ::fremovexattr(work_.get(), "system.posix_acl_default");
  ::fremovexattr(work_.get(), "system.posix_acl_access");
  if (::fchmod(work_.get(), kWorkMode) != 0) {
    throw system_error(errno, "setting the permissions of " + printable(work_path()));
  }
}

std::string ConversionSite::work_path() const {
  if (moved_from_) return moved_from_path_ + "/" + work_name_;
  const std::size_t end = path_.find_last_not_of('/');
  const std::size_t slash = path_.find_last_of('/', end);
  const std::string above = slash == std::string::npos ? "" : path_.substr(0, slash + 1);
  // A path such as "." says nothing of where it stands.
  if (path_.substr(above.size(), end + 1 - above.size()) != name_) return work_name_;
  return above + work_name_;
}

void ConversionSite::remove_work() {
  if (!work_) return;
  const std::vector<std::string> entries = directory_names(work_.get(), kMaxWorkEntries).names;
  // Somebody has put it into the original while that was removed, and it is nowhere else.
  const auto stranded = std::ranges::find_if(
      entries, [](const std::string& entry) { return entry.starts_with(kRemoving); });
  if (stranded != entries.end()) {
    throw Error(Errc::files_in_use,
                printable(work_path() + "/" + *stranded) +
                    " came into the original while that was removed: move it away")
        .with_path(path_);
  }
  for (const std::string& entry : entries) {
    if (::unlinkat(work_.get(), entry.c_str(), 0) == 0 || errno == ENOENT) continue;
    if (::unlinkat(work_.get(), entry.c_str(), AT_REMOVEDIR) != 0) {
      throw system_error(errno, "removing " + printable(work_path() + "/" + entry));
    }
  }
  if (::unlinkat(work_parent(), work_name_.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    throw system_error(errno, "removing " + printable(work_path()));
  }
  sync_file(work_parent(), "cannot write the directory above " + printable(work_path()));
  work_.reset();
}

void ConversionSite::remove_strays(const std::function<bool(const OperationId&)>& is_known) const {
  for (const std::string& name : directory_names(parent_.get(), kMaxNames).names) {
    if (!name.starts_with(kWorkPrefix)) continue;
    const auto id = OperationId::from_hex(std::string_view(name).substr(kWorkPrefix.size()));
    const std::optional<FileInfo> entry = id ? entry_info(parent_.get(), name) : std::nullopt;
    if (!entry || !S_ISDIR(entry->mode) || entry->uid != ::geteuid() || is_known(*id)) continue;
    const std::optional<UniqueFd> work = open_directory_beneath(parent_.get(), name);
    if (!work || ::flock(work->get(), LOCK_EX | LOCK_NB) != 0) continue;
    const std::vector<std::string> found = directory_names(work->get(), 2).names;
    if (found.size() > 1 || (found.size() == 1 && found.front() != kJournalKey)) continue;
    if (!found.empty()) ::unlinkat(work->get(), kJournalKey, 0);
    ::unlinkat(parent_.get(), name.c_str(), AT_REMOVEDIR);
  }
}

UniqueFd ConversionSite::open_tree() const {
  std::optional<UniqueFd> tree = open_directory_beneath(work_.get(), kTree);
  return tree ? std::move(*tree) : UniqueFd();
}

UniqueFd ConversionSite::make_tree() const {
  UniqueFd tree = open_tree();
  if (tree) return tree;
  if (!make_directory_durably(work_.get(), kTree, kWorkMode) || !(tree = open_tree())) {
    throw not_the_directory(work_path());
  }
  return tree;
}

void ConversionSite::look_again() {
  std::optional<UniqueFd> found = open_directory_beneath(parent_.get(), name_);
  if (!found) throw not_the_directory(path_);
  directory_ = std::move(*found);
  info_ = file_info(directory_.get());
}

}  // namespace fscryptctl
