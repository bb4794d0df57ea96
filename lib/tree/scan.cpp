#include "fscryptctl/tree/scan.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

#include "fscryptctl/base/proc_file.h"
#include "walk.h"

namespace fscryptctl {
namespace {

constexpr std::uint64_t kLongestEncryptedTarget = 4093;
/// Up to so much of a symlink's target stands in its inode, encrypted, and needs no block.
constexpr std::uint64_t kTargetInInode = 32;

/// Which files are in use as swap: device and inode.
std::set<std::pair<dev_t, std::uint64_t>> swap_files() {
  constexpr std::size_t kLimit = 1 << 20;
  std::set<std::pair<dev_t, std::uint64_t>> files;
  const std::string text = read_proc_file(AT_FDCWD, "/proc/swaps", kLimit).value_or("");
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (!line.starts_with('/')) continue;
    const std::string path = decode_octal_escapes(line.substr(0, line.find_first_of(" \t")));
    struct statx found {};
    // Nothing is asked of a server that may not answer.
    constexpr int kFlags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
    if (statx(AT_FDCWD, path.c_str(), kFlags, STATX_INO, &found) != 0) continue;
    files.emplace(makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino);
  }
  return files;
}

std::uint64_t round_up(std::uint64_t size, std::uint64_t unit) {
  return (size + unit - 1) / unit * unit;
}

/// Whose files the caller can make.
class Caller {
 public:
  Caller() : uid_(geteuid()) {
    const int count = getgroups(0, nullptr);
    groups_.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    const int found = getgroups(count > 0 ? count : 0, groups_.data());
    groups_.resize(found > 0 ? static_cast<std::size_t>(found) : 0);
    groups_.push_back(getegid());
  }

  [[nodiscard]] bool is_root() const noexcept { return uid_ == 0; }

  [[nodiscard]] bool can_give(const EntryStatus& status) const {
    if (is_root()) return true;
    constexpr std::uint64_t kLocking = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND;
    return status.uid == uid_ && std::ranges::find(groups_, status.gid) != groups_.end() &&
           (status.marks & kLocking) == 0 && !S_ISBLK(status.mode) && !S_ISCHR(status.mode);
  }

  [[nodiscard]] bool can_give(const Attributes& attributes) const {
    if (is_root()) return true;
    if ((attributes.flags & FS_JOURNAL_DATA_FL) != 0) return false;
    return std::ranges::none_of(attributes.xattrs, [](const auto& xattr) {
      return xattr.first.starts_with("security.") && xattr.first != "security.selinux";
    });
  }

 private:
  uid_t uid_;
  std::vector<gid_t> groups_;
};

/// What was found so far, by all threads.
class Tally {
 public:
  Tally(const ScanRules& rules, std::uint64_t block_size)
      : limit_(rules.obstacle_limit), block_size_(block_size) {}

  void add_obstacle(Obstacle::Kind kind, std::string path) {
    const std::lock_guard lock(mutex_);
    if (result_.obstacles.size() < limit_) {
      result_.obstacles.push_back({kind, std::move(path)});
    } else {
      result_.obstacles_complete = false;
    }
  }

  /// An entry. Encrypted names are padded, so that directories grow.
  void add_name(const std::string& name) {
    constexpr std::uint64_t kRecord = 16;  // inode, length, type, hash
    constexpr std::uint64_t kPadding = 32;
    const std::lock_guard lock(mutex_);
    ++result_.files;
    names_ += kRecord + round_up(name.size(), kPadding);
    if (names_ >= block_size_) {
      result_.bytes_on_disk += names_ / block_size_ * block_size_;
      names_ %= block_size_;
    }
  }
  /// An entry that has gone again.
  void forget_name() {
    const std::lock_guard lock(mutex_);
    --result_.files;
  }

  [[nodiscard]] bool is_first_name(const EntryStatus& status) {
    if (status.links <= 1) return true;
    const std::lock_guard lock(mutex_);
    const auto [found, is_new] = names_left_.try_emplace(status.inode, status.links);
    if (found->second > 0) --found->second;
    return is_new;
  }

  void add_inode(std::uint64_t space) {
    const std::lock_guard lock(mutex_);
    count_inode(space);
  }
  void add_directory(std::uint64_t space) {
    const std::lock_guard lock(mutex_);
    ++result_.directories;
    count_inode(space);
  }
  void add_file(const EntryStatus& status, std::uint64_t space) {
    const std::lock_guard lock(mutex_);
    result_.bytes += status.size;
    result_.largest_file = std::max(result_.largest_file, space);
    if (status.links > 1) {
      result_.largest_linked_file = std::max(result_.largest_linked_file, space);
    }
    count_inode(space);
  }

  [[nodiscard]] TreeScan finish() {
    for (const auto& [inode, names_left] : names_left_) {
      if (names_left > 0) ++result_.linked_outside;
    }
    std::ranges::sort(result_.obstacles, {}, &Obstacle::path);
    return std::move(result_);
  }

 private:
  void count_inode(std::uint64_t space) {
    ++result_.inodes;
    result_.bytes_on_disk += space;
  }

  const std::size_t limit_;
  const std::uint64_t block_size_;
  std::mutex mutex_;
  std::uint64_t names_ = 0;  ///< bytes of directory entries not yet counted as blocks
  std::map<std::uint64_t, std::uint64_t> names_left_;
  TreeScan result_;
};

class Scan final : public TreeVisitor {
 public:
  Scan(const ScanRules& rules, std::uint64_t block_size, TreeProgress& progress)
      : rules_(rules),
        progress_(progress),
        swap_files_(swap_files()),
        block_size_(block_size),
        tally_(rules, block_size) {}

  void add_root(const TreeDirectory& root) {
    const std::string name;
    const Place place{root, name};
    const int fd = root.source.get();
    const EntryStatus status = entry_status(fd);
    constexpr std::uint64_t kLocking = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND;
    if ((status.marks & kLocking) != 0) add(Obstacle::Kind::not_movable, place);
    tally_.add_directory(block_size_ + look_at_attributes(fd, status, place));
  }

  std::shared_ptr<TreeDirectory> enter(const std::shared_ptr<TreeDirectory>& parent,
                                       const std::string& name) override {
    tally_.add_name(name);
    ++progress_.files;
    try {
      return enter_directory({*parent, name});
    } catch (const Error& error) {
      note_refusal(error, {*parent, name});
      return nullptr;
    }
  }

  void visit(TreeDirectory& parent, const DirectoryEntry& entry) override {
    tally_.add_name(entry.name);
    ++progress_.files;
    try {
      look_at({parent, entry.name}, entry.type);
    } catch (const Error& error) {
      note_refusal(error, {parent, entry.name});
    }
  }

  [[nodiscard]] TreeScan finish() { return tally_.finish(); }

 private:
  struct Place {
    const TreeDirectory& parent;
    const std::string& name;
  };

  std::shared_ptr<TreeDirectory> enter_directory(const Place& place) {
    const int parent = place.parent.source.get();
    const EntryStatus status = entry_status(open_entry(parent, place.name).get());
    if (is_foreign_encryption(status)) {
      add(Obstacle::Kind::encrypted, place);
      return nullptr;
    }
    auto directory = std::make_shared<TreeDirectory>();
    directory->source = open_tree_directory(parent, place.name);
    tally_.add_directory(std::max(status.disk_bytes, block_size_) +
                         look_at_attributes(directory->source.get(), status, place));
    return directory;
  }

  void look_at(const Place& place, unsigned char type) {
    OpenedEntry entry = open_listed(place.parent.source.get(), place.name, type);
    const EntryStatus& status = entry.status;
    if (is_foreign_encryption(status)) return add(Obstacle::Kind::encrypted, place);
    if (!tally_.is_first_name(status)) return;
    if (status.is_regular()) return look_at_file(entry, place);
    if (status.is_special()) {
      look_at_owner(status, place);
      return tally_.add_inode(0);
    }
    if (rules_.destination_encrypted && status.size > kLongestEncryptedTarget) {
      add(Obstacle::Kind::symlink_target, place);
    }
    tally_.add_inode((status.size > kTargetInInode ? block_size_ : 0) +
                     look_at_attributes(entry.fd.get(), status, place));
  }

  void look_at_file(OpenedEntry& entry, const Place& place) {
    const EntryStatus& status = entry.status;
    if ((status.marks & STATX_ATTR_VERITY) != 0) add(Obstacle::Kind::verity, place);
    if (swap_files_.contains({status.device, status.inode})) add(Obstacle::Kind::swap_file, place);
    std::uint64_t space = contents_space(status);
    if (entry.make_readable()) {
      space += look_at_attributes(entry.fd.get(), status, place);
    } else {
      // A lease is in the way only for a moment.
      if (errno != EAGAIN) add(Obstacle::Kind::unreadable, place);
      look_at_owner(status, place);
    }
    tally_.add_file(status, space);
  }

  void look_at_owner(const EntryStatus& status, const Place& place) {
    if (!caller_.can_give(status)) add(Obstacle::Kind::foreign_owner, place);
  }

  /// Returns the space that they need: what stands beside the inode's own fields may have no room
  /// there beside the encryption's.
  std::uint64_t look_at_attributes(int fd, const EntryStatus& status, const Place& place) {
    const Attributes attributes = read_attributes(fd, status);
    const bool possible = caller_.can_give(status) && caller_.can_give(attributes);
    if (!possible) add(Obstacle::Kind::foreign_owner, place);
    return attributes.xattrs.empty() ? 0 : block_size_;
  }

  /// Holes stay holes; what the filesystem compresses or keeps in the inode needs blocks.
  [[nodiscard]] std::uint64_t contents_space(const EntryStatus& status) const {
    const std::uint64_t full = round_up(status.size, block_size_);
    if ((status.marks & STATX_ATTR_COMPRESSED) != 0 || status.size <= block_size_) return full;
    return std::min(full, round_up(status.disk_bytes, block_size_));
  }

  [[nodiscard]] bool is_foreign_encryption(const EntryStatus& status) const {
    return !rules_.root_encrypted && (status.marks & STATX_ATTR_ENCRYPTED) != 0;
  }

  void note_refusal(const Error& error, const Place& place) {
    if (error.sys_errno() == EXDEV) return add(Obstacle::Kind::mount_point, place);
    const bool locked = error.sys_errno() == ENOKEY;
    if (locked || error.code() == Errc::permission) return add(Obstacle::Kind::unreadable, place);
    // What has gone while it was looked at is no part of it any more.
    if (error.code() != Errc::files_in_use) {
      throw Error(error).with_path(place.parent.path_of(place.name));
    }
    tally_.forget_name();
  }

  void add(Obstacle::Kind kind, const Place& place) {
    tally_.add_obstacle(kind, place.parent.path_of(place.name));
  }

  const ScanRules& rules_;
  TreeProgress& progress_;
  const std::set<std::pair<dev_t, std::uint64_t>> swap_files_;
  const Caller caller_;
  const std::uint64_t block_size_;
  Tally tally_;
};

std::uint64_t block_size_of(int fd) {
  struct statfs filesystem {};
  if (fstatfs(fd, &filesystem) != 0) throw system_error(errno, "cannot look at the filesystem");
  return std::max<std::uint64_t>(static_cast<std::uint64_t>(filesystem.f_bsize), 512);
}

}  // namespace

TreeScan scan_tree(int root, const ScanRules& rules, TreeProgress& progress, const Tick& tick) {
  Interruption interruption(tick);
  auto directory = std::make_shared<TreeDirectory>();
  directory->source = reopen_directory(root);
  Scan scan(rules, block_size_of(root), progress);
  scan.add_root(*directory);
  walk_tree(directory, scan, default_threads(), interruption);
  return scan.finish();
}

}  // namespace fscryptctl
