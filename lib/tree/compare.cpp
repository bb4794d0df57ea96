#include "fscryptctl/tree/compare.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "changes.h"
#include "contents.h"
#include "walk.h"

namespace fscryptctl {
namespace {

/// Waiting for the disk is most of it, so more than there are processors.
constexpr unsigned kReadersPerProcessor = 4;

/// At most so many, of all threads.
class Findings {
 public:
  explicit Findings(std::size_t limit) : limit_(limit) {}

  void add(std::string path, std::string what) {
    const std::lock_guard lock(mutex_);
    if (findings_.size() < limit_) findings_.push_back({std::move(path), std::move(what)});
  }
  std::vector<TreeFinding> take() {
    std::ranges::sort(findings_, {}, &TreeFinding::path);
    return std::move(findings_);
  }

 private:
  const std::size_t limit_;
  std::mutex mutex_;
  std::vector<TreeFinding> findings_;
};

/// Which file of one tree is which of the other, for those with several names.
class SameFiles {
 public:
  enum class Answer { first, known, mismatch };

  Answer add(const EntryStatus& source, const EntryStatus& destination) {
    // A file of the source may have further names outside of the tree.
    if (source.links == 1) return destination.links == 1 ? Answer::first : Answer::mismatch;
    const std::lock_guard lock(mutex_);
    const auto [there, is_new] = copies_.try_emplace(source.inode, destination.inode);
    const auto [back, is_back_new] = sources_.try_emplace(destination.inode, source.inode);
    if (there->second != destination.inode || back->second != source.inode) {
      return Answer::mismatch;
    }
    return is_new ? Answer::first : Answer::known;
  }

 private:
  std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> copies_;
  std::map<std::uint64_t, std::uint64_t> sources_;
};

std::set<std::string> names_in(int directory) {
  const UniqueFd listed = reopen_directory(directory);
  std::set<std::string> names;
  DirectoryListing listing;
  DirectoryEntry entry;
  while (next_entry(listing, listed.get(), entry)) names.insert(entry.name);
  return names;
}

std::size_t count_entries(int directory) {
  const UniqueFd listed = reopen_directory(directory);
  std::size_t count = 0;
  DirectoryListing listing;
  DirectoryEntry entry;
  while (next_entry(listing, listed.get(), entry)) ++count;
  return count;
}

struct ComparedDirectory final : TreeDirectory {
  std::atomic<std::size_t> found{0};  ///< entries of the source that the destination has
};

class Comparison final : public TreeVisitor {
 public:
  Comparison(Findings& findings, TreeProgress& progress, const Interruption& interruption)
      : findings_(findings), progress_(progress), interruption_(interruption) {}

  std::shared_ptr<TreeDirectory> enter(const std::shared_ptr<TreeDirectory>& parent,
                                       const std::string& name) override {
    const UniqueFd there = find_entry(parent->destination.get(), name);
    note_found(*parent, name, static_cast<bool>(there));
    if (!there) return nullptr;
    if (!entry_status(there.get()).is_directory()) {
      findings_.add(parent->path_of(name), "kind");
      return nullptr;
    }
    auto directory = std::make_shared<ComparedDirectory>();
    directory->source = open_tree_directory(parent->source.get(), name);
    directory->destination = open_tree_directory(parent->destination.get(), name);
    compare_attributes(directory->source.get(), directory->destination.get(),
                       parent->path_of(name));
    ++progress_.files;
    return directory;
  }

  void visit(TreeDirectory& parent, const DirectoryEntry& entry) override {
    OpenedEntry source = open_listed(parent.source.get(), entry.name, entry.type);
    auto there = find_opened(parent.destination.get(), entry.name, entry.type);
    note_found(parent, entry.name, there.has_value());
    if (!there) return;
    const auto what = compare(source, *there);
    if (what) findings_.add(parent.path_of(entry.name), *what);
    ++progress_.files;
  }

  void leave(TreeDirectory& directory) override {
    const std::size_t found = static_cast<ComparedDirectory&>(directory).found;
    const bool casefolded = (inode_flags(directory.source.get()) & FS_CASEFOLD_FL) != 0;
    // Every name of the source is there, so that with as many there is no other.
    if (!casefolded && count_entries(directory.destination.get()) == found) return;
    // Names that differ in case only find each other in such a directory, but are not the same.
    const std::set<std::string> expected = names_in(directory.source.get());
    const std::set<std::string> names = names_in(directory.destination.get());
    for (const std::string& name : names) {
      if (!expected.contains(name)) findings_.add(directory.path_of(name), "surplus");
    }
  }

  void compare_attributes(int source, int destination, const std::string& path) {
    const auto what = difference(read_attributes(source), read_attributes(destination), false);
    if (what) findings_.add(path, *what);
  }

 private:
  void note_found(TreeDirectory& parent, const std::string& name, bool is_there) {
    if (is_there) {
      ++static_cast<ComparedDirectory&>(parent).found;
    } else {
      findings_.add(parent.path_of(name), "missing");
    }
  }

  std::optional<std::string> compare(OpenedEntry& source, OpenedEntry& there) {
    const EntryStatus& status = source.status;
    const EntryStatus& found = there.status;
    if ((status.mode & S_IFMT) != (found.mode & S_IFMT)) return "kind";
    if (status.is_special()) {
      return status.inode == found.inode ? std::nullopt : std::optional<std::string>("inode");
    }
    switch (same_files_.add(status, found)) {
      case SameFiles::Answer::mismatch:
        return "hard links";
      case SameFiles::Answer::known:
        return std::nullopt;
      case SameFiles::Answer::first:
        break;
    }
    return status.is_symlink() ? compare_symlinks(source.fd.get(), status, there.fd.get(), found)
                               : compare_files(source, there);
  }

  static std::optional<std::string> compare_symlinks(int source, const EntryStatus& status,
                                                     int there, const EntryStatus& found) {
    const Attributes attributes = read_attributes(source, status);
    const Attributes copied = read_attributes(there, found);
    if (read_link(source, status) != read_own_link(there, found)) return "target";
    return difference(attributes, copied, false);
  }

  std::optional<std::string> compare_files(OpenedEntry& source, OpenedEntry& there) {
    const std::uint64_t size = source.status.size;
    if (size != there.status.size) return "size";
    source.require_readable();
    there.require_readable();
    const int original = source.fd.get();
    const int copy = there.fd.get();
    auto what = difference(read_attributes(original, source.status),
                           read_attributes(copy, there.status), false);
    if (what) return what;
    // What was written is asked of the disk.
    drop_cached(copy);
    const bool same = same_contents(original, copy, {0, size}, interruption_);
    progress_.bytes += size;
    return same ? std::nullopt : std::optional<std::string>("contents");
  }

  Findings& findings_;
  TreeProgress& progress_;
  const Interruption& interruption_;
  SameFiles same_files_;
};

class Changes final : public TreeVisitor {
 public:
  Changes(FileTime since, ChangeSigns signs, Findings& findings, TreeProgress& progress)
      : since_(since), signs_(signs), findings_(findings), progress_(progress) {}

  std::shared_ptr<TreeDirectory> enter(const std::shared_ptr<TreeDirectory>& parent,
                                       const std::string& name) override {
    ++progress_.files;
    auto directory = std::make_shared<TreeDirectory>();
    try {
      directory->source = open_tree_directory(parent->source.get(), name);
    } catch (const Error& error) {
      note_vanished(error, parent->path_of(name));
      return nullptr;
    }
    look_at_directory(directory->source.get(), parent->path_of(name));
    return directory;
  }

  void visit(TreeDirectory& parent, const DirectoryEntry& entry) override {
    ++progress_.files;
    try {
      const auto what = change_of(parent.source.get(), entry);
      if (what) findings_.add(parent.path_of(entry.name), *what);
    } catch (const Error& error) {
      note_vanished(error, parent.path_of(entry.name));
    }
  }

  void look_at_directory(int fd, const std::string& path) {
    if (entry_status(fd).changed >= since_) findings_.add(path, "changed");
  }

 private:
  [[nodiscard]] std::optional<std::string> change_of(int dirfd, const DirectoryEntry& entry) const {
    if (signs_ == ChangeSigns::times) {
      return change_by_time(entry_status(dirfd, entry.name), since_);
    }
    OpenedEntry found = open_listed(dirfd, entry.name, entry.type);
    return change_since(found, since_);
  }

  /// What goes while it is looked at was changed just now.
  void note_vanished(const Error& error, const std::string& path) {
    if (error.code() != Errc::files_in_use) throw Error(error).with_path(path);
    findings_.add(path, "changed");
  }

  const FileTime since_;
  const ChangeSigns signs_;
  Findings& findings_;
  TreeProgress& progress_;
};

}  // namespace

std::vector<TreeFinding> compare_trees(int source, int destination, std::size_t limit,
                                       TreeProgress& progress, const Tick& tick) {
  Interruption interruption(tick);
  Findings findings(limit);
  Comparison comparison(findings, progress, interruption);
  auto root = std::make_shared<ComparedDirectory>();
  root->source = reopen_directory(source);
  root->destination = reopen_directory(destination);
  comparison.compare_attributes(source, destination, ".");
  walk_tree(root, comparison, kReadersPerProcessor * default_threads(), interruption);
  return findings.take();
}

FileTime filesystem_now(int directory) {
  const UniqueFd file(openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!file) throw system_error(errno, "cannot make a temporary file");
  return entry_status(file.get()).changed;
}

std::vector<TreeFinding> changes_since(int root, FileTime since, ChangeSigns signs,
                                       std::size_t limit, TreeProgress& progress,
                                       const Tick& tick) {
  Interruption interruption(tick);
  Findings findings(limit);
  Changes changes(since, signs, findings, progress);
  auto directory = std::make_shared<TreeDirectory>();
  directory->source = reopen_directory(root);
  changes.look_at_directory(root, ".");
  walk_tree(directory, changes, default_threads(), interruption);
  return findings.take();
}

}  // namespace fscryptctl
