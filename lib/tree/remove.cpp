#include "fscryptctl/tree/remove.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "changes.h"
#include "removal.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kFindingLimit = 1000;
constexpr std::uint32_t kLockingFlags = FS_IMMUTABLE_FL | FS_APPEND_FL;
/// How often a directory is looked through that is not empty when it should be.
constexpr int kRounds = 3;

bool is_refusal(int code) { return code == EPERM || code == EACCES; }

bool clear_locking_flags(int fd) {
  const std::uint32_t flags = inode_flags(fd);
  if ((flags & kLockingFlags) == 0) return false;
  set_inode_flags(fd, flags & ~kLockingFlags);
  return true;
}

class Removal {
 public:
  Removal(std::optional<FileTime> since, const Interruption& interruption)
      : since_(since), interruption_(interruption) {}

  std::vector<TreeFinding> run(int parent, const std::string& name) {
    const UniqueFd found = find_entry(parent, name);
    if (!found) return {};
    if (!entry_status(found.get()).is_directory()) {
      remove_file(parent, name);
      return std::move(findings_);
    }
    try {
      enter(parent, name);
      while (!levels_.empty()) step(parent);
    } catch (Error& error) {
      if (error.path().empty() && error.code() != Errc::interrupted)
        error.with_path(path_of(entry_));
      throw;
    }
    return std::move(findings_);
  }

 private:
  struct Level {
    std::string name;
    UniqueFd fd;
    DirectoryListing listing;
    bool stays = false;
    int rounds = 0;
  };

  void step(int parent) {
    interruption_.check();
    Level& level = levels_.back();
    DirectoryListing::Entry entry;
    entry_.clear();
    if (!level.listing.next(level.fd.get(), entry)) return leave(parent);
    entry_ = entry.name;
    if (is_directory_entry(level.fd.get(), entry)) {
      level.listing.shrink();
      enter(level.fd.get(), entry.name);
      entry_.clear();
    } else {
      remove_file(level.fd.get(), entry.name);
    }
  }

  void enter(int dirfd, const std::string& name) {
    const UniqueFd found = find_entry(dirfd, name);
    if (!found) return;
    levels_.push_back({name, open_directory(dirfd, name, found.get()), {}});
  }

  static UniqueFd open_directory(int dirfd, const std::string& name, int path_fd) {
    try {
      return open_tree_directory(dirfd, name);
    } catch (const Error& error) {
      if (error.code() != Errc::permission) throw;
    }
    make_readable(path_fd);
    return open_tree_directory(dirfd, name);
  }

  /// All its entries have been seen.
  void leave(int parent) {
    Level level = std::move(levels_.back());
    levels_.pop_back();
    entry_ = level.name;
    const int dirfd = levels_.empty() ? parent : levels_.back().fd.get();
    if (!level.stays && unlink_entry(dirfd, level.name, AT_REMOVEDIR)) return;
    if (!level.stays && ++level.rounds < kRounds) return look_again(std::move(level));
    if (!level.stays && !since_) throw system_error(ENOTEMPTY, "cannot remove the directory");
    if (!level.stays) add({path_of(level.name), "changed"});
    if (!levels_.empty()) levels_.back().stays = true;
  }

  void look_again(Level level) {
    if (lseek(level.fd.get(), 0, SEEK_SET) != 0) throw system_error(errno, "cannot list");
    level.listing = {};
    levels_.push_back(std::move(level));
  }

  void remove_file(int dirfd, const std::string& name) {
    const UniqueFd found = since_ ? find_entry(dirfd, name) : UniqueFd();
    if (since_ && !found) return;
    if (since_ && was_changed(found.get(), name)) {
      if (!levels_.empty()) levels_.back().stays = true;
      return;
    }
    if (!unlink_entry(dirfd, name, 0)) throw changed_meanwhile();
    if (found) note_own_change(found.get());
  }

  bool was_changed(int path_fd, const std::string& name) {
    const EntryStatus status = entry_status(path_fd);
    const auto own = own_changes_.find(status.inode);
    const bool is_own = own != own_changes_.end() && own->second == status.changed;
    // Of a file with several names an earlier run may have removed some: the change time alone
    // tells of that, and nothing of the contents.
    EntryStatus judged = status;
    judged.changed = std::min(status.changed, status.modified);
    const auto change = is_own ? std::nullopt : change_since(path_fd, judged, *since_);
    if (change) add({path_of(name), *change});
    return change.has_value();
  }

  /// Removing a name is a change of a file that has further ones.
  void note_own_change(int path_fd) {
    const EntryStatus status = entry_status(path_fd);
    if (status.links > 0) {
      own_changes_[status.inode] = status.changed;
    } else {
      own_changes_.erase(status.inode);
    }
  }

  /// False if it is not empty, or no directory when it should be one or the other way round.
  bool unlink_entry(int dirfd, const std::string& name, int flags) {
    int code = unlink_code(dirfd, name, flags);
    if (is_refusal(code) && free_entry(dirfd, name)) code = unlink_code(dirfd, name, flags);
    if (code == 0 || code == ENOENT) return true;
    if (code == ENOTEMPTY || code == EEXIST || code == EISDIR || code == ENOTDIR) return false;
    if (code == EBUSY) throw Error(Errc::files_in_use, "a filesystem is mounted there", EBUSY);
    throw system_error(code, "cannot remove it");
  }

  static int unlink_code(int dirfd, const std::string& name, int flags) {
    return unlinkat(dirfd, name.c_str(), flags) == 0 ? 0 : errno;
  }

  /// Takes away what may be in the way. False if nothing was.
  bool free_entry(int dirfd, const std::string& name) {
    const bool opened = !levels_.empty() && open_up(dirfd);
    const UniqueFd found = find_entry(dirfd, name);
    if (!found) return true;
    const EntryStatus status = entry_status(found.get());
    if (!status.is_regular() && !status.is_directory()) return opened;
    const UniqueFd file = status.is_regular() ? reopen_file(found.get(), O_RDONLY)
                                              : open_directory(dirfd, name, found.get());
    return (file && clear_locking_flags(file.get())) || opened;
  }

  void add(TreeFinding finding) {
    if (findings_.size() < kFindingLimit) findings_.push_back(std::move(finding));
  }

  /// Relative to the directory that is removed.
  [[nodiscard]] std::string path_of(const std::string& entry) const {
    std::string path;
    for (std::size_t i = 1; i < levels_.size(); ++i) path += levels_[i].name + '/';
    if (!levels_.empty()) path += entry;
    return path.empty() ? "." : path;
  }

  std::optional<FileTime> since_;
  const Interruption& interruption_;
  std::vector<Level> levels_;
  std::string entry_;
  std::vector<TreeFinding> findings_;
  std::map<std::uint64_t, FileTime> own_changes_;
};

}  // namespace

std::vector<TreeFinding> remove_entry(int parent, const std::string& name,
                                      std::optional<FileTime> unchanged_since,
                                      const Interruption& interruption) {
  return Removal(unchanged_since, interruption).run(parent, name);
}

bool open_up(int directory) {
  const bool cleared = clear_locking_flags(directory);
  const mode_t mode = entry_status(directory).mode;
  if ((mode & S_IRWXU) == S_IRWXU) return cleared;
  if (fchmod(directory, (mode & 07777) | S_IRWXU) != 0)
    throw system_error(errno, "cannot set the mode");
  return true;
}

void make_readable(int path_fd) {
  const mode_t mode = entry_status(path_fd).mode;
  if (chmod(descriptor_path(path_fd).c_str(), (mode & 07777) | S_IRWXU) != 0) {
    throw system_error(errno, "cannot set the mode");
  }
}

std::vector<TreeFinding> remove_tree(int parent, const std::string& name,
                                     std::optional<FileTime> unchanged_since, const Tick& tick) {
  allow_many_open_files();
  return remove_entry(parent, name, unchanged_since, Interruption(tick));
}

}  // namespace fscryptctl
