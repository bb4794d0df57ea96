#include "fscryptctl/tree/remove.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "changes.h"
#include "fscryptctl/tree/compare.h"
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

struct RemovedDirectory final : TreeDirectory {
  std::atomic<bool> stays{false};  ///< something in it does
};

RemovedDirectory& removed(TreeDirectory& directory) {
  return static_cast<RemovedDirectory&>(directory);
}

/// Where an entry is.
struct Place {
  TreeDirectory* inside;  ///< of what is removed; null: it is the root
  int dirfd;
  const std::string& name;
};

class Removal final : public TreeVisitor {
 public:
  /// `path`: that of the root in the findings; empty: they are relative to it.
  Removal(std::optional<FileTime> since, TreeProgress& progress, const Interruption& interruption,
          std::string path = {})
      : since_(since), progress_(progress), interruption_(interruption), path_(std::move(path)) {}

  std::shared_ptr<TreeDirectory> enter(const std::shared_ptr<TreeDirectory>& parent,
                                       const std::string& name) override {
    return open(parent->source.get(), name);
  }

  void visit(TreeDirectory& parent, const DirectoryEntry& entry) override {
    ++progress_.files;
    const Place place{&parent, parent.source.get(), entry.name};
    if (!remove_file(place, entry.type)) removed(parent).stays = true;
  }

  void leave(TreeDirectory& directory) override {
    TreeDirectory* const parent = directory.parent.get();
    if (parent == nullptr) return;  // for whoever knows where the root is
    ++progress_.files;
    remove_emptied(directory, {parent, parent->source.get(), directory.name});
    if (removed(directory).stays) removed(*parent).stays = true;
  }

  [[nodiscard]] static std::shared_ptr<TreeDirectory> open(int dirfd, const std::string& name) {
    const UniqueFd found = find_entry(dirfd, name);
    if (!found) return nullptr;
    auto directory = std::make_shared<RemovedDirectory>();
    directory->source = open_readable_directory(dirfd, name, found.get());
    return directory;
  }

  /// Everything in it has been seen.
  void remove_emptied(TreeDirectory& directory, const Place& place) {
    for (int round = 1; !removed(directory).stays; ++round) {
      if (unlink_entry(place, AT_REMOVEDIR)) return;
      if (round < kRounds) {
        look_again(directory);
      } else if (!since_) {
        throw system_error(ENOTEMPTY, "cannot remove the directory");
      } else {
        add({path_of(place), "changed"});
        removed(directory).stays = true;
      }
    }
  }

  /// False if it stays.
  bool remove_file(const Place& place, unsigned char type) {
    if (!since_) {
      unlink_file(place);
      return true;
    }
    std::optional<OpenedEntry> found = find_opened(place.dirfd, place.name, type);
    if (!found) return true;
    std::unique_lock lock(names_mutex_);
    const bool has_more_names =
        found->status.links > 1 || own_changes_.contains(found->status.inode);
    if (!has_more_names) lock.unlock();
    if (const auto change = change_of(*found, has_more_names)) {
      add({path_of(place), *change});
      return false;
    }
    unlink_file(place);
    if (has_more_names) note_own_change(found->fd.get());
    return true;
  }

  [[nodiscard]] std::vector<TreeFinding> take_findings() { return std::move(findings_); }

 private:
  /// For what came meanwhile, or what a listing that shrinks left out.
  void look_again(TreeDirectory& directory) {
    const Tick tick = [&] { interruption_.check(); };
    Interruption interruption(tick);
    auto root = std::make_shared<RemovedDirectory>();
    root->source = reopen_directory(directory.source.get());
    const std::string path = path_of({&directory, -1, {}});
    Removal rest(since_, progress_, interruption, path == "." ? std::string() : path);
    try {
      walk_tree(root, rest, 0, interruption);
    } catch (Error& error) {
      // It knows nothing of what is above.
      const std::string below = error.path() == "." ? std::string() : error.path();
      if (!error.path().empty()) error.with_path(directory.path_of(below));
      throw;
    }
    for (TreeFinding& finding : rest.take_findings()) add(std::move(finding));
    if (root->stays) removed(directory).stays = true;
  }

  std::optional<std::string> change_of(OpenedEntry& entry, bool has_more_names) {
    if (entry.status.is_regular() && !keep_writers_out(entry)) return kOpenForWriting;
    // As it stays until its name is gone.
    entry.status = entry_status(entry.fd.get());
    FileTime& changed = entry.status.changed;
    const bool is_own = has_more_names && is_own_change(entry.status);
    // Of a file with several names an earlier run may have removed some: the change time alone
    // tells of that, and nothing of the contents. What is new may have been given an old time of
    // modification.
    const FileTime written = std::max(entry.status.modified, entry.status.made);
    changed = is_own ? FileTime{} : std::min(changed, written);
    return change_by_time(entry.status, *since_);
  }

  [[nodiscard]] bool is_own_change(const EntryStatus& status) const {
    const auto own = own_changes_.find(status.inode);
    return own != own_changes_.end() && own->second == status.changed;
  }

  /// Removing a name is a change of a file that has further ones.
  void note_own_change(int fd) {
    const EntryStatus status = entry_status(fd);
    if (status.links > 0) {
      own_changes_[status.inode] = status.changed;
    } else {
      own_changes_.erase(status.inode);
    }
  }

  static void unlink_file(const Place& place) {
    if (!unlink_entry(place, 0)) throw changed_meanwhile();
  }

  /// False if it is not empty, or no directory when it should be one or the other way round.
  static bool unlink_entry(const Place& place, int flags) {
    int code = unlink_code(place, flags);
    if (is_refusal(code)) {
      free_entry(place);
      // Once more even if nothing was in the way: another thread may just have taken it away.
      code = unlink_code(place, flags);
    }
    if (code == 0 || code == ENOENT) return true;
    if (code == ENOTEMPTY || code == EEXIST || code == EISDIR || code == ENOTDIR) return false;
    if (code == EBUSY) throw Error(Errc::files_in_use, "a filesystem is mounted there", EBUSY);
    throw system_error(code, "cannot remove it");
  }

  static int unlink_code(const Place& place, int flags) {
    return unlinkat(place.dirfd, place.name.c_str(), flags) == 0 ? 0 : errno;
  }

  /// Takes away what may be in the way.
  static void free_entry(const Place& place) {
    if (place.inside != nullptr) open_up(place.dirfd);
    const UniqueFd found = find_entry(place.dirfd, place.name);
    if (!found) return;
    const EntryStatus status = entry_status(found.get());
    if (!status.is_regular() && !status.is_directory()) return;
    const UniqueFd file = status.is_regular()
                              ? reopen_file(found.get(), O_RDONLY)
                              : open_readable_directory(place.dirfd, place.name, found.get());
    if (file) clear_locking_flags(file.get());
  }

  void add(TreeFinding finding) {
    const std::lock_guard lock(findings_mutex_);
    if (findings_.size() < kFindingLimit) findings_.push_back(std::move(finding));
  }

  [[nodiscard]] std::string path_of(const Place& place) const {
    std::string path = place.inside != nullptr ? place.inside->path_of(place.name) : ".";
    if (path_.empty()) return path;
    return path == "." ? path_ : path_ + '/' + path;
  }

  const std::optional<FileTime> since_;
  TreeProgress& progress_;
  const Interruption& interruption_;
  const std::string path_;
  std::mutex names_mutex_;  ///< held while one of several names of a file is removed
  std::map<std::uint64_t, FileTime> own_changes_;
  std::mutex findings_mutex_;
  std::vector<TreeFinding> findings_;
};

std::vector<TreeFinding> remove_all(int parent, const std::string& name,
                                    std::optional<FileTime> since, unsigned threads,
                                    TreeProgress& progress, Interruption& interruption) {
  Removal removal(since, progress, interruption);
  const Place place{nullptr, parent, name};
  try {
    const UniqueFd found = find_entry(parent, name);
    if (found && !entry_status(found.get()).is_directory()) {
      removal.remove_file(place, DT_UNKNOWN);
    } else if (const auto root = found ? Removal::open(parent, name) : nullptr) {
      walk_tree(root, removal, threads, interruption);
      removal.remove_emptied(*root, place);
    }
  } catch (Error& error) {
    if (error.path().empty() && error.code() != Errc::interrupted) error.with_path(".");
    throw;
  }
  return removal.take_findings();
}

}  // namespace

void remove_entry(int parent, const std::string& name, const Interruption& interruption) {
  const Tick tick = [&] { interruption.check(); };
  Interruption own(tick);
  TreeProgress progress;
  static_cast<void>(remove_all(parent, name, std::nullopt, 0, progress, own));
}

std::vector<TreeFinding> remove_tree(int parent, const std::string& name,
                                     std::optional<FileTime> unchanged_since,
                                     TreeProgress& progress, const Tick& tick) {
  Interruption interruption(tick);
  std::vector<TreeFinding> findings =
      remove_all(parent, name, unchanged_since, default_threads(), progress, interruption);
  std::ranges::sort(findings, {}, &TreeFinding::path);
  return findings;
}

bool open_up(int directory) {
  const bool cleared = clear_locking_flags(directory);
  const mode_t mode = entry_status(directory).mode;
  if ((mode & S_IRWXU) == S_IRWXU) return cleared;
  if (fchmod(directory, (mode & 07777) | S_IRWXU) != 0)
    throw system_error(errno, "cannot set the mode");
  return true;
}

UniqueFd open_readable_directory(int dirfd, const std::string& name, int path_fd) {
  try {
    return open_tree_directory(dirfd, name);
  } catch (const Error& error) {
    if (error.code() != Errc::permission) throw;
  }
  const mode_t mode = entry_status(path_fd).mode;
  if (chmod(descriptor_path(path_fd).c_str(), (mode & 07777) | S_IRWXU) != 0) {
    throw system_error(errno, "cannot set the mode");
  }
  return open_tree_directory(dirfd, name);
}

}  // namespace fscryptctl
