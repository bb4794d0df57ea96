#include "fscryptctl/tree/move.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "changes.h"
#include "contents.h"
#include "directory_pair.h"
#include "fscryptctl/tree/copy.h"
#include "links.h"
#include "moved_links.h"
#include "part_move.h"
#include "removal.h"
#include "stash.h"

namespace fscryptctl {
namespace {

constexpr std::uint32_t kLockingFlags = FS_IMMUTABLE_FL | FS_APPEND_FL;
/// Where a source goes from its directory, to be removed if nobody has opened it until then.
constexpr const char* kLeaving = "leaving";
/// New directories and symlinks are made under this name in the root of the destination, so that
/// they come to their place with all that belongs to them.
constexpr const char* kNewEntry = ".fscryptctl-new-entry";
/// So many files wait for each other's durability.
constexpr std::size_t kBatchFiles = 128;
constexpr std::uint64_t kBatchBytes = std::uint64_t{64} << 20;
constexpr mode_t kPrivate = S_IRUSR | S_IWUSR;

Error conflict() {
  return {Errc::conflict, "something of this name has moved already: rename this one"};
}

/// What is on its way from one tree to the other.
struct Item {
  std::shared_ptr<TreeDirectory> directory;
  std::string name;
  UniqueFd source;
  UniqueFd copy;  ///< for regular files, and for what has several names
  EntryStatus status{};
  Attributes attributes;
  std::uint32_t late_flags = 0;  ///< that would forbid to name the copy
  bool in_place = false;         ///< the copy has its name
  bool leased = false;
  bool vanishes = true;  ///< nothing spoke against removing the source
};

class Move final : public TreeVisitor {
 public:
  Move(const MoveRequest& request, TreeProgress& progress, const Interruption& interruption)
      : request_(request),
        progress_(progress),
        interruption_(interruption),
        links_(request.work),
        parts_(request, progress, interruption) {}

  /// What an earlier run may have left.
  void prepare() {
    if (request_.resumed) {
      parts_.resume(*request_.resumed);
    } else {
      parts_.clear();
    }
    remove_name(request_.work, kLeaving);
    for (const int root : {request_.source, request_.destination}) remove_new_entry(root);
    prepare_destination(request_.source, request_.destination);
  }

  std::shared_ptr<TreeDirectory> enter(const std::shared_ptr<TreeDirectory>& parent,
                                       const std::string& name) override {
    auto directory = std::make_shared<TreeDirectory>();
    directory->source = open_tree_directory(parent->source.get(), name);
    const UniqueFd found = find_entry(parent->destination.get(), name);
    if (found && !entry_status(found.get()).is_directory()) throw conflict();
    if (found) {
      directory->destination = open_tree_directory(parent->destination.get(), name);
      prepare_destination(directory->source.get(), directory->destination.get());
    } else {
      directory->destination = make_directory(*parent, name, directory->source.get());
    }
    return directory;
  }

  void visit(TreeDirectory& parent, const DirectoryEntry& entry) override {
    Item item;
    item.directory = parent.shared_from_this();
    item.name = entry.name;
    OpenedEntry found = open_listed(parent.source.get(), entry.name, entry.type);
    item.status = found.status;
    if (item.status.is_regular()) return prepare_file(std::move(item), std::move(found));
    item.source = std::move(found.fd);
    item.status.is_symlink() ? prepare_symlink(item) : prepare_special(item);
    add(std::move(item));
  }

  void leave(TreeDirectory& directory) override {
    if (!directory.parent) return;
    Item item;
    item.directory = directory.parent;
    item.name = directory.name;
    item.source.reset(fcntl(directory.source.get(), F_DUPFD_CLOEXEC, 0));
    if (!item.source) throw system_error(errno, "cannot open");
    item.status = entry_status(directory.source.get());
    add(std::move(item));
  }

  /// All that is prepared gets to its end.
  void flush() {
    if (batch_.empty()) return;
    sync_tree(request_.work);
    for (Item& item : batch_) verify(item);
    for (Item& item : batch_) about(item, [&] { place(item); });
    sync_tree(request_.work);
    for (Item& item : batch_) about(item, [&] { retire(item); });
    batch_.clear();
    batch_bytes_ = 0;
  }

  /// Everything is in its new place: what was remembered is made true.
  void finish() {
    if (in_use_) throw Error(*in_use_);
    if (!is_empty(request_.source)) throw changed_meanwhile().with_path(".");
    links_.finish();
  }

 private:
  template <class Work>
  void about(const Item& item, const Work& work) const {
    interruption_.check();
    try {
      work();
    } catch (Error& error) {
      const bool has_path = !error.path().empty() || error.code() == Errc::interrupted;
      if (!has_path) error.with_path(item.directory->path_of(item.name));
      throw;
    }
  }

  void note_in_use(const std::string& path) {
    if (!in_use_) in_use_ = Error(Errc::files_in_use, "is open in another program").with_path(path);
  }

  static void remove_name(int dirfd, const char* name) {
    if (unlinkat(dirfd, name, 0) != 0 && errno != ENOENT) {
      throw system_error(errno, "cannot remove what was left of an earlier move");
    }
  }

  static void remove_new_entry(int root) {
    const UniqueFd found = find_entry(root, kNewEntry);
    if (!found) return;
    const EntryStatus status = entry_status(found.get());
    if (status.is_directory()) unlinkat(root, kNewEntry, AT_REMOVEDIR);
    if (status.is_symlink()) unlinkat(root, kNewEntry, 0);
  }

  /// A directory that is there keeps what is remembered with it. Otherwise the source's counts:
  /// what is remembered there, or what it is; unless nothing is left in it, or nothing came to it
  /// yet, and the destination's contents tell that the destination is the older of the two.
  static void prepare_destination(int source, int destination) {
    std::optional<Attributes> wanted = find_stash(destination);
    const bool is_known = wanted.has_value();
    if (!wanted) wanted = find_stash(source);
    if (!wanted) {
      const bool is_older = is_empty(source) && !is_empty(destination);
      wanted = attributes_without_stash(is_older ? destination : source);
    }
    if (!prepare_directory(destination, *wanted)) throw conflict();
    if (!is_known) put_stash(destination, *wanted);
  }

  UniqueFd make_directory(const TreeDirectory& parent, const std::string& name, int source) {
    const int root = request_.destination;
    if (mkdirat(root, kNewEntry, S_IRWXU) != 0) {
      throw system_error(errno, "cannot make the directory");
    }
    UniqueFd made = open_tree_directory(root, kNewEntry);
    prepare_destination(source, made.get());
    rename_to_free(root, kNewEntry, parent.destination.get(), name);
    return made;
  }

  void prepare_special(Item& item) {
    if (const UniqueFd there = existing(item)) {
      if (entry_status(there.get()).inode != item.status.inode) throw conflict();
    } else {
      link_entry(item.source.get(), item.directory->destination.get(), item.name);
    }
    item.in_place = true;
  }

  void prepare_symlink(Item& item) {
    item.in_place = true;
    const std::string target = read_link(item.source.get(), item.status);
    UniqueFd copy = links_.find_copy(item.source.get(), item.status);
    if (UniqueFd there = existing(item)) {
      const EntryStatus found = entry_status(there.get());
      const bool same = found.is_symlink() && read_own_link(there.get(), found) == target &&
                        (!copy || entry_status(copy.get()).inode == found.inode);
      if (!same) throw conflict();
      item.copy = std::move(there);
    } else if (copy) {
      link_entry(copy.get(), item.directory->destination.get(), item.name);
      item.copy = std::move(copy);
    } else {
      make_symlink(item, target);
    }
  }

  void make_symlink(Item& item, const std::string& target) {
    const int root = request_.destination;
    if (symlinkat(target.c_str(), root, kNewEntry) != 0) {
      throw system_error(errno, "cannot make the symbolic link");
    }
    item.copy = open_entry(root, kNewEntry);
    apply_attributes(item.copy.get(), read_attributes(item.source.get(), item.status));
    if (item.status.links > 1) links_.add(item.source.get(), item.copy.get());
    rename_to_free(root, kNewEntry, item.directory->destination.get(), item.name);
  }

  void prepare_file(Item item, OpenedEntry found) {
    const std::string path = item.directory->path_of(item.name);
    if (!found.make_readable()) {
      if (errno == EAGAIN) return note_in_use(path);
      throw system_error(errno, "cannot read");
    }
    item.source = std::move(found.fd);
    const Lease lease = take_lease(item.source.get(), F_WRLCK);
    if (lease == Lease::in_use) return note_in_use(path);
    item.leased = lease == Lease::held;
    item.status = entry_status(item.source.get());
    item.attributes = attributes_without_stash(item.source.get());
    item.late_flags = item.attributes.flags & kLockingFlags;
    item.attributes.flags &= ~kLockingFlags;
    if (item.status.links > 1) flush();  // its other names have to know where it went
    const UniqueFd linked = links_.find_copy(item.source.get(), item.status);
    if (const UniqueFd there = existing(item)) {
      adopt(item, there.get(), linked.get());
    } else if (linked) {
      item.copy = open_file(linked.get());
    } else if (!make_copy(item)) {
      const std::shared_ptr<TreeDirectory> directory = item.directory;
      item.source.reset();  // and the lease, which would be in our own way
      return parts_.move(*directory, item.name);
    }
    const bool alone = item.status.links > 1;
    batch_bytes_ += item.status.size;
    add(std::move(item));
    if (alone) flush();
  }

  /// A copy that an earlier run made is there.
  void adopt(Item& item, int there, int linked) {
    const EntryStatus found = entry_status(there);
    const bool possible = found.is_regular() && found.size == item.status.size &&
                          (linked < 0 || entry_status(linked).inode == found.inode);
    if (!possible) throw conflict();
    item.copy = open_file(there);
    const bool same =
        same_contents(item.source.get(), item.copy.get(), {0, found.size}, interruption_);
    if (!same) throw conflict();
    item.in_place = true;
    // Whichever was changed later is right. The flags that one of them had to lose are neither's
    // change.
    const Attributes copied = attributes_without_stash(item.copy.get());
    item.late_flags |= copied.flags & kLockingFlags;
    if (item.status.changed > found.changed) {
      apply_attributes(item.copy.get(), with_stash_of(item.copy.get(), item.attributes));
    }
    progress_.bytes += item.status.size;
  }

  static Attributes with_stash_of(int fd, Attributes attributes) {
    for (const auto& kept : read_attributes(fd).xattrs) {
      if (kept.first == kStash || kept.first == kTrustedStash) attributes.xattrs.push_back(kept);
    }
    std::ranges::sort(attributes.xattrs);
    return attributes;
  }

  /// False if there is no space for it at once.
  bool make_copy(Item& item) {
    if (!has_space_for(item)) {
      flush();
      if (!has_space_for(item)) return refuse_or_part(item);
    }
    const std::uint64_t done = progress_.bytes;
    try {
      copy_file(item);
      return true;
    } catch (const Error& error) {
      if (error.code() != Errc::no_space) throw;
    }
    progress_.bytes = done;
    item.copy.reset();
    flush();
    return refuse_or_part(item);
  }

  static bool refuse_or_part(const Item& item) {
    if (item.status.links <= 1) return false;
    throw Error(Errc::no_space, "there is too little space for a file with several names", ENOSPC);
  }

  [[nodiscard]] bool has_space_for(const Item& item) const {
    constexpr std::uint64_t kOverhead = std::uint64_t{64} << 10;
    // A source that is compressed or partly in its inode needs more than it has.
    const std::uint64_t contents = (item.status.marks & STATX_ATTR_COMPRESSED) != 0
                                       ? item.status.size
                                       : std::min(item.status.size, item.status.disk_bytes);
    return free_space(request_.work) >= contents + kOverhead;
  }

  void copy_file(Item& item) {
    // It is read again, which is no access that counts.
    constexpr int kFlags = O_TMPFILE | O_RDWR | O_NOATIME | O_CLOEXEC;
    item.copy.reset(openat(item.directory->destination.get(), ".", kFlags, kPrivate));
    if (!item.copy) throw system_error(errno, "cannot make the copy");
    copy_contents(item.source.get(), item.copy.get(), {0, item.status.size}, progress_,
                  interruption_);
    apply_attributes(item.copy.get(), item.attributes);
  }

  void add(Item item) {
    batch_.push_back(std::move(item));
    if (batch_.size() >= kBatchFiles || batch_bytes_ >= kBatchBytes) flush();
  }

  [[nodiscard]] static UniqueFd existing(const Item& item) {
    return find_entry(item.directory->destination.get(), item.name);
  }

  /// The copy, as the disk has it, is what the source is, and the source is still what it was.
  void verify(Item& item) {
    if (!item.status.is_regular()) return;
    about(item, [&] {
      drop_cached(item.copy.get());
      const ByteRange all{0, item.status.size};
      const bool same = entry_status(item.copy.get()).size == item.status.size &&
                        same_contents(item.source.get(), item.copy.get(), all, interruption_);
      const EntryStatus now = entry_status(item.source.get());
      const bool unchanged = now.changed == item.status.changed && now.size == item.status.size;
      if (!unchanged || (item.leased && !has_lease(item.source.get()))) {
        item.vanishes = false;
        return note_in_use(item.directory->path_of(item.name));
      }
      if (!same && !item.in_place && item.status.links > 1) throw conflict();
      if (!same) throw Error(Errc::io, "the copy reads back other than written");
    });
  }

  void place(Item& item) {
    if (!item.status.is_regular() || !item.vanishes) return;
    if (item.status.links > 1) {
      if (item.late_flags != 0 && !find_stash(item.copy.get())) {
        Attributes whole = item.attributes;
        whole.flags |= item.late_flags;
        put_stash(item.copy.get(), whole);
      }
      links_.add(item.source.get(), item.copy.get());
    }
    if (!item.in_place) {
      link_entry(item.copy.get(), item.directory->destination.get(), item.name);
      item.in_place = true;
    }
    if (item.status.links == 1) add_flags(item.copy.get(), item.late_flags);
  }

  static void add_flags(int fd, std::uint32_t flags) {
    const std::uint32_t current = inode_flags(fd);
    if ((current & flags) != flags) set_inode_flags(fd, current | flags);
  }

  /// The copy is durable under its name: the source goes.
  void retire(Item& item) {
    if (!item.vanishes) return;
    if (item.status.is_directory()) return remove_directory(item);
    if (item.status.is_regular()) clear_locking_flags(item.source.get());
    take_away(item);
    const UniqueFd leaving = open_entry(request_.work, kLeaving);
    const bool same = entry_status(leaving.get()).inode == item.status.inode;
    if (!same || (item.leased && !has_lease(item.source.get()))) return bring_back(item);
    remove_name(request_.work, kLeaving);
    if (item.status.links > 1 && item.copy) links_.name_gone(item.source.get(), item.copy.get());
    ++progress_.files;
  }

  static void clear_locking_flags(int fd) {
    const std::uint32_t flags = inode_flags(fd);
    if ((flags & kLockingFlags) != 0) set_inode_flags(fd, flags & ~kLockingFlags);
  }

  void take_away(const Item& item) {
    const int dirfd = item.directory->source.get();
    const auto take = [&] {
      return renameat2(dirfd, item.name.c_str(), request_.work, kLeaving, RENAME_NOREPLACE) == 0;
    };
    if (take()) return;
    const bool refused = errno == EPERM || errno == EACCES;
    // What the directory was is remembered with its counterpart, durably by now.
    if (refused && open_up(dirfd) && take()) return;
    rename_to_free(dirfd, item.name, request_.work, kLeaving);
  }

  /// Somebody opened it, and has to find it where it was.
  void bring_back(const Item& item) {
    rename_to_free(request_.work, kLeaving, item.directory->source.get(), item.name);
    if (item.status.is_regular()) {
      // Only flags that are the source's own again.
      add_flags(item.source.get(), item.late_flags);
      clear_locking_flags(item.copy.get());
    }
    remove_name(item.directory->destination.get(), item.name.c_str());
    note_in_use(item.directory->path_of(item.name));
  }

  void remove_directory(const Item& item) {
    const int dirfd = item.directory->source.get();
    const auto remove = [&] { return unlinkat(dirfd, item.name.c_str(), AT_REMOVEDIR) == 0; };
    bool removed = remove();
    if (!removed && (errno == EPERM || errno == EACCES)) {
      open_up(dirfd);
      open_up(item.source.get());
      removed = remove();
    }
    const bool in_use = !removed && (errno == ENOTEMPTY || errno == EBUSY);
    if (!removed && !in_use) throw tree_error(errno, "cannot remove the directory");
    if (in_use) return note_in_use(item.directory->path_of(item.name));
    ++progress_.files;
  }

  const MoveRequest& request_;
  TreeProgress& progress_;
  const Interruption& interruption_;
  MovedLinks links_;
  PartMover parts_;
  std::vector<Item> batch_;
  std::uint64_t batch_bytes_ = 0;
  std::optional<Error> in_use_;
};

/// Makes every directory what is remembered with it, those below first.
class FollowStashes final : public TreeVisitor {
 public:
  std::shared_ptr<TreeDirectory> enter(const std::shared_ptr<TreeDirectory>& parent,
                                       const std::string& name) override {
    auto directory = std::make_shared<TreeDirectory>();
    try {
      directory->source = open_tree_directory(parent->source.get(), name);
    } catch (const Error& error) {
      // One that its owner may not read has its own mode already.
      if (error.code() != Errc::permission) throw;
      return nullptr;
    }
    return directory;
  }
  void visit(TreeDirectory& /*parent*/, const DirectoryEntry& /*entry*/) override {}
  void leave(TreeDirectory& directory) override { follow_stash(directory.source.get()); }
};

}  // namespace

void move_tree(const MoveRequest& request, TreeProgress& progress, const Tick& tick) {
  Interruption interruption(tick);
  Move move(request, progress, interruption);
  move.prepare();
  auto root = std::make_shared<TreeDirectory>();
  root->source = reopen_directory(request.source);
  root->destination = reopen_directory(request.destination);
  walk_tree(root, move, 0, interruption);
  move.flush();
  move.finish();
  auto moved = std::make_shared<TreeDirectory>();
  moved->source = reopen_directory(request.destination);
  FollowStashes follow;
  walk_tree(moved, follow, 0, interruption);
  sync_tree(request.work);
}

void finish_part(const MoveRequest& request, TreeProgress& progress, const Tick& tick) {
  if (!request.resumed) return;
  const Interruption interruption(tick);
  PartMover(request, progress, interruption).resume(*request.resumed);
}

}  // namespace fscryptctl
