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
#include "contents.h"
#include "fscryptctl/tree/compare.h"
#include "links.h"
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

/// Takes files out of the tree before they are removed, to where nobody else gets at them: a name
/// may stand for something else than what was looked at by the time of unlinkat(2). There its name
/// is kRemoving with the inode that it has to be, so that whoever goes on knows it too.
class Exit {
 public:
  explicit Exit(int directory) : directory_(directory) {}

  enum class Outcome {
    removed,
    other,       ///< it is something else, which is back under its name
    stranded,    ///< it is something else, which cannot go back: it is at `name`
    impossible,  ///< it cannot leave its directory, `code` says why
  };
  struct Result {
    Outcome outcome;
    int code = 0;
    std::string name = {};
  };

  /// `inode` is held open meanwhile, so that no other file has its number.
  Result remove(int dirfd, const std::string& name, std::uint64_t inode) {
    std::string aside;
    do {
      aside = std::string(kRemoving) + std::to_string(inode) + '-' + std::to_string(next_++);
      if (renameat2(dirfd, name.c_str(), directory_, aside.c_str(), RENAME_NOREPLACE) == 0) {
        return settle(dirfd, name, inode, aside);
      }
    } while (errno == EEXIST);
    return {Outcome::impossible, errno};
  }

  /// Whether what stands under this name, left by an earlier run, is what was to be removed.
  static bool was_checked(const std::string& aside, std::uint64_t inode) {
    return aside.starts_with(std::string(kRemoving) + std::to_string(inode) + '-');
  }

  [[nodiscard]] int directory() const noexcept { return directory_; }

 private:
  Result settle(int dirfd, const std::string& name, std::uint64_t inode,
                const std::string& aside) const {
    struct stat found {};
    if (fstatat(directory_, aside.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
      throw system_error(errno, "cannot look at it");
    }
    if (found.st_ino == inode) {
      if (unlinkat(directory_, aside.c_str(), 0) == 0) return {Outcome::removed};
      throw system_error(errno, "cannot remove it");
    }
    if (renameat2(directory_, aside.c_str(), dirfd, name.c_str(), RENAME_NOREPLACE) == 0) {
      return {Outcome::other};
    }
    return {Outcome::stranded, 0, aside};
  }

  const int directory_;
  std::atomic<unsigned> next_{0};
};

/// What decides whether a file may go.
struct Guard {
  Guard(const Replaced& what, int directory) : replaced(what), exit(directory) {}

  const Replaced replaced;
  Exit exit;
};

/// Whether no key is there for what is in it.
bool is_locked(int directory) {
  const auto refused = [&] {
    const UniqueFd file(openat(directory, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, S_IRUSR));
    return file ? 0 : errno;
  };
  int code = refused();
  if (is_refusal(code) && open_up(directory)) code = refused();
  return code == ENOKEY;
}

class Removal final : public TreeVisitor {
 public:
  /// `guard`: null if everything goes. `path`: that of the root in the findings; empty: they are
  /// relative to it.
  Removal(Guard* guard, TreeProgress& progress, const Interruption& interruption,
          std::string path = {})
      : guard_(guard), progress_(progress), interruption_(interruption), path_(std::move(path)) {}

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
      } else if (guard_ == nullptr) {
        throw system_error(ENOTEMPTY, "cannot remove the directory");
      } else {
        add({path_of(place), "changed"});
        removed(directory).stays = true;
      }
    }
  }

  /// False if it stays.
  bool remove_file(const Place& place, unsigned char type) {
    if (guard_ == nullptr) {
      unlink_file(place);
      return true;
    }
    std::optional<OpenedEntry> found = find_opened(place.dirfd, place.name, type);
    if (!found) return true;
    if (found->status.is_directory()) throw changed_meanwhile();
    std::unique_lock lock(names_mutex_);
    const bool has_more_names =
        found->status.links > 1 || own_changes_.contains(found->status.inode);
    if (!has_more_names) lock.unlock();
    if (const auto change = change_of(place, *found, has_more_names)) {
      add({path_of(place), *change});
      return false;
    }
    if (!send_out(place, found->status.inode)) return false;
    if (has_more_names) note_own_change(found->fd.get());
    return true;
  }

  /// What an earlier run was just about to remove. What it was about to put back stays, since its
  /// name does not tell where it was.
  void remove_leftovers() {
    for (const std::string& name : names_of_leftovers()) {
      std::optional<OpenedEntry> found = find_opened(guard_->exit.directory(), name, DT_UNKNOWN);
      if (!found) continue;
      if (!Exit::was_checked(name, found->status.inode) || found->status.is_directory()) {
        add({"../" + name, "changed"});
      } else if (found->status.is_regular() && !keep_writers_out(*found)) {
        add({"../" + name, kOpenForWriting});
      } else {
        unlink_file({nullptr, guard_->exit.directory(), name});
      }
    }
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
    Removal rest(guard_, progress_, interruption, path == "." ? std::string() : path);
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

  [[nodiscard]] std::vector<std::string> names_of_leftovers() const {
    std::vector<std::string> names;
    const UniqueFd directory = reopen_directory(guard_->exit.directory());
    DirectoryListing listing;
    DirectoryEntry entry;
    while (next_entry(listing, directory.get(), entry)) {
      if (entry.name.starts_with(kRemoving)) names.push_back(entry.name);
    }
    return names;
  }

  std::optional<std::string> change_of(const Place& place, OpenedEntry& entry,
                                       bool has_more_names) {
    if (entry.status.is_regular() && !keep_writers_out(entry)) return kOpenForWriting;
    // As it stays until its name is gone.
    entry.status = entry_status(entry.fd.get());
    const auto change = change_by_time(entry.status, guard_->replaced.since);
    if (!change || (has_more_names && is_own_change(entry.status))) return std::nullopt;
    // An earlier run may have removed another name of it; but it may also have come here just now.
    if (is_locked(place.dirfd)) return written_since(entry.status);
    return difference_of_copy(place, entry);
  }

  /// By the times of its contents; what is new may have been given an old time of modification.
  [[nodiscard]] std::optional<std::string> written_since(EntryStatus status) const {
    status.changed = std::max(status.modified, status.made);
    return change_by_time(status, guard_->replaced.since);
  }

  /// "changed" unless the copy has it, or has what somebody has made of it since.
  [[nodiscard]] std::optional<std::string> difference_of_copy(const Place& place,
                                                              OpenedEntry& entry) const {
    constexpr const char* kChanged = "changed";
    try {
      const UniqueFd found = open_path(guard_->replaced.copy, path_of(place));
      const EntryStatus status = entry_status(found.get());
      if ((status.mode & S_IFMT) != (entry.status.mode & S_IFMT)) return kChanged;
      const bool is_edited =
          status.modified >= guard_->replaced.since && status.modified != entry.status.modified;
      if (is_edited) return written_since(entry.status);
      return is_same(found.get(), status, entry) ? std::nullopt
                                                 : std::optional<std::string>(kChanged);
    } catch (const Error& error) {
      if (error.code() != Errc::files_in_use && error.code() != Errc::permission) throw;
      return kChanged;
    }
  }

  [[nodiscard]] bool is_same(int copied, const EntryStatus& status, OpenedEntry& entry) const {
    if (status.is_symlink()) {
      return read_link(copied, status) == read_link(entry.fd.get(), entry.status);
    }
    if (status.size != entry.status.size) return false;
    entry.require_readable();
    const UniqueFd copy = open_file(copied);
    return same_contents(entry.fd.get(), copy.get(), {0, status.size}, interruption_);
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

  /// False if something else stands there by now.
  bool send_out(const Place& place, std::uint64_t inode) {
    Exit::Result result = guard_->exit.remove(place.dirfd, place.name, inode);
    if (is_refusal(result.code)) {
      free_entry(place, inode);
      result = guard_->exit.remove(place.dirfd, place.name, inode);
    }
    switch (result.outcome) {
      case Exit::Outcome::removed:
        return true;
      case Exit::Outcome::other:
        add({path_of(place), "changed"});
        return false;
      case Exit::Outcome::stranded:
        add({"../" + result.name, "changed"});
        return false;
      case Exit::Outcome::impossible:
        break;
    }
    // What comes under the name now is found when the directory should be empty.
    if (result.code == ENOENT) return true;
    // In a locked directory nobody can give names. Between quota projects (EXDEV) nothing can be
    // renamed: there something else may have taken its place.
    if (result.code == ENOKEY || result.code == EXDEV) {
      unlink_file(place);
      return true;
    }
    throw system_error(result.code, "cannot remove it");
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

  /// Takes away what may be in the way; of the file only if it has this inode.
  static void free_entry(const Place& place, std::optional<std::uint64_t> inode = std::nullopt) {
    if (place.inside != nullptr) open_up(place.dirfd);
    const UniqueFd found = find_entry(place.dirfd, place.name);
    if (!found) return;
    const EntryStatus status = entry_status(found.get());
    if (inode && status.inode != *inode) return;
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

  Guard* const guard_;
  TreeProgress& progress_;
  const Interruption& interruption_;
  const std::string path_;
  std::mutex names_mutex_;  ///< held while one of several names of a file is removed
  std::map<std::uint64_t, FileTime> own_changes_;
  std::mutex findings_mutex_;
  std::vector<TreeFinding> findings_;
};

std::vector<TreeFinding> remove_all(int parent, const std::string& name, Guard* guard,
                                    unsigned threads, TreeProgress& progress,
                                    Interruption& interruption) {
  Removal removal(guard, progress, interruption);
  const Place place{nullptr, parent, name};
  try {
    if (guard != nullptr) removal.remove_leftovers();
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
  static_cast<void>(remove_all(parent, name, nullptr, 0, progress, own));
}

std::vector<TreeFinding> remove_tree(int parent, const std::string& name,
                                     const std::optional<Replaced>& replaced,
                                     TreeProgress& progress, const Tick& tick) {
  Interruption interruption(tick);
  std::optional<Guard> guard;
  if (replaced) guard.emplace(*replaced, parent);
  std::vector<TreeFinding> findings = remove_all(parent, name, guard ? &*guard : nullptr,
                                                 default_threads(), progress, interruption);
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
