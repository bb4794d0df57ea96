#include "fscryptctl/tree/copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "contents.h"
#include "directory_pair.h"
#include "links.h"
#include "removal.h"
#include "writeback.h"

namespace fscryptctl {
namespace {

/// Files from this size on are for several threads, in parts that the filesystem may well lay out
/// apart from each other.
constexpr std::uint64_t kLarge = std::uint64_t{32} << 20;
constexpr std::uint64_t kPart = std::uint64_t{8} << 20;
constexpr std::uint32_t kLockingFlags = FS_IMMUTABLE_FL | FS_APPEND_FL;

class Copy final : public TreeVisitor {
 public:
  Copy(int destination_root, const CopyOptions& options, TreeProgress& progress,
       const Interruption& interruption)
      : destination_root_(destination_root),
        options_(options),
        progress_(progress),
        interruption_(interruption),
        writeback_(destination_root) {}

  std::shared_ptr<TreeDirectory> enter(const std::shared_ptr<TreeDirectory>& parent,
                                       const std::string& name) override {
    auto directory = std::make_shared<TreeDirectory>();
    directory->source = open_tree_directory(parent->source.get(), name);
    directory->attributes = read_attributes(directory->source.get());
    directory->destination = destination_directory(*parent, name, directory->attributes);
    if (!options_.destination_empty) remove_surplus(*directory);
    return directory;
  }

  void visit(TreeDirectory& parent, const DirectoryEntry& entry) override {
    OpenedEntry source = open_listed(parent.source.get(), entry.name, entry.type);
    if (source.status.is_special()) {
      place_special(source, parent, entry.name);
    } else if (source.status.links > 1) {
      copy_linked(source, parent, entry.name);
    } else {
      copy_one(source, parent, entry.name, 0);
    }
    ++progress_.files;
  }

  void leave(TreeDirectory& directory) override {
    apply_attributes(directory.destination.get(), directory.attributes);
    if (directory.parent) ++progress_.files;
  }

  /// What is in the destination but not in the source.
  void remove_surplus(const TreeDirectory& directory) {
    const UniqueFd listed = reopen_directory(directory.destination.get());
    DirectoryListing listing;
    DirectoryEntry entry;
    while (next_entry(listing, listed.get(), entry)) {
      if (!find_entry(directory.source.get(), entry.name)) {
        clear(directory.destination.get(), entry.name);
      }
    }
  }

  /// Flags that would have forbidden further names.
  void apply_late_flags() {
    for (const auto& [path, flags] : links_.late_flags()) {
      const UniqueFd file = open_file(open_path(destination_root_, path).get());
      set_inode_flags(file.get(), inode_flags(file.get()) | flags);
    }
  }

 private:
  UniqueFd destination_directory(const TreeDirectory& parent, const std::string& name,
                                 const Attributes& attributes) {
    const int dirfd = parent.destination.get();
    if (!options_.destination_empty) {
      const UniqueFd found = find_entry(dirfd, name);
      if (found && entry_status(found.get()).is_directory()) {
        UniqueFd there = open_readable_directory(dirfd, name, found.get());
        if (prepare_directory(there.get(), attributes)) return there;
      }
      if (found) clear(dirfd, name);
    }
    if (mkdirat(dirfd, name.c_str(), S_IRWXU) != 0) {
      throw system_error(errno, "cannot make the directory");
    }
    UniqueFd made = open_tree_directory(dirfd, name);
    if (!prepare_directory(made.get(), attributes)) {
      throw Error(Errc::io, "cannot make the directory as it was");
    }
    return made;
  }

  void clear(int dirfd, const std::string& name) {
    try {
      remove_entry(dirfd, name, interruption_);
    } catch (Error& error) {
      throw std::move(error).with_path({});  // it is about what stands there
    }
  }

  void place_special(const OpenedEntry& source, const TreeDirectory& parent,
                     const std::string& name) {
    if (const UniqueFd there = existing(parent, name)) {
      if (entry_status(there.get()).inode == source.status.inode) return;
      clear(parent.destination.get(), name);
    }
    link_entry(source.fd.get(), parent.destination.get(), name);
  }

  void copy_linked(OpenedEntry& source, const TreeDirectory& parent, const std::string& name) {
    if (const auto first = links_.first_copy(source.status, interruption_)) {
      const UniqueFd copy = open_path(destination_root_, *first);
      if (const UniqueFd there = existing(parent, name)) {
        if (entry_status(there.get()).inode == entry_status(copy.get()).inode) return;
        clear(parent.destination.get(), name);
      }
      return link_entry(copy.get(), parent.destination.get(), name);
    }
    try {
      const std::uint32_t late = copy_one(source, parent, name, kLockingFlags);
      links_.done(source.status, parent.path_of(name), late);
    } catch (...) {
      links_.failed(source.status);
      throw;
    }
  }

  /// A regular file or symlink. Returns which of `later` it does not have yet.
  std::uint32_t copy_one(OpenedEntry& source, const TreeDirectory& parent, const std::string& name,
                         std::uint32_t later) {
    const EntryStatus& status = source.status;
    if (status.is_symlink()) {
      copy_symlink(source.fd.get(), status, parent, name);
      return 0;
    }
    source.require_readable();
    Attributes attributes = read_attributes(source.fd.get(), status);
    const std::uint32_t late = attributes.flags & later;
    attributes.flags &= ~late;
    if (!keeps_file(source.fd.get(), status, attributes, parent, name)) {
      copy_file(source.fd.get(), status, attributes, parent, name);
    }
    return late;
  }

  void copy_file(int source, const EntryStatus& status, const Attributes& attributes,
                 const TreeDirectory& parent, const std::string& name) {
    constexpr int kFlags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    constexpr mode_t kSafe = S_IRWXU | S_IRWXG | S_IRWXO;
    // Nobody else comes here, so that it need not be private first.
    const UniqueFd made(openat(parent.destination.get(), name.c_str(), kFlags,
                               (status.mode & kSafe) | S_IRUSR | S_IWUSR));
    if (!made) throw system_error(errno, "cannot make the copy");
    if (status.size < kLarge) {
      copy_contents(source, made.get(), {0, status.size}, progress_, interruption_);
      if (status.size < kWrittenAtOnce) writeback_.add(made.get(), status.size);
    } else {
      copy_large_file(source, made.get(), status.size);
    }
    apply_attributes(made.get(), attributes);
  }

  void copy_large_file(int source, int destination, std::uint64_t size) {
    // No part may make it shorter than another has.
    if (ftruncate(destination, static_cast<off_t>(size)) != 0) {
      throw system_error(errno, "cannot write the copy");
    }
    const auto parts = static_cast<std::size_t>((size + kPart - 1) / kPart);
    sharing().share(parts, [&](std::size_t part) {
      const std::uint64_t begin = part * kPart;
      const ByteRange range{begin, std::min(begin + kPart, size)};
      copy_contents(source, destination, range, progress_, interruption_);
    });
  }

  /// Whether the right file is there already; then it has the right attributes as well. Otherwise
  /// nothing is there.
  bool keeps_file(int source, const EntryStatus& status, const Attributes& attributes,
                  const TreeDirectory& parent, const std::string& name) {
    const UniqueFd there = existing(parent, name);
    if (!there) return false;
    const EntryStatus found = entry_status(there.get());
    const bool alike =
        found.is_regular() && found.size == status.size && may_be_copy(found, status);
    const UniqueFd file = alike ? reopen_file(there.get(), O_RDONLY) : UniqueFd();
    // What an earlier run failed to write may be right in the cache alone, and nobody is told
    // again.
    if (file) drop_cached(file.get());
    if (file && same_contents(source, file.get(), {0, status.size}, interruption_)) {
      change_attributes(file.get(), read_attributes(file.get(), found), attributes);
      progress_.bytes += status.size;
      return true;
    }
    clear(parent.destination.get(), name);
    return false;
  }

  void copy_symlink(int source, const EntryStatus& status, const TreeDirectory& parent,
                    const std::string& name) {
    const std::string target = read_link(source, status);
    const Attributes attributes = read_attributes(source, status);
    UniqueFd there = existing(parent, name);
    if (there) {
      const EntryStatus found = entry_status(there.get());
      const bool same = found.is_symlink() && may_be_copy(found, status) &&
                        read_own_link(there.get(), found) == target;
      if (same) return apply_attributes(there.get(), attributes);
      clear(parent.destination.get(), name);
    }
    if (symlinkat(target.c_str(), parent.destination.get(), name.c_str()) != 0) {
      throw system_error(errno, "cannot make the symbolic link");
    }
    there = open_entry(parent.destination.get(), name);
    apply_attributes(there.get(), attributes);
  }

  /// The names of one file must not be those of two in the copy, nor the other way round.
  bool may_be_copy(const EntryStatus& found, const EntryStatus& source) {
    return source.links > 1 ? links_.claim(found.inode, source) : found.links == 1;
  }

  [[nodiscard]] UniqueFd existing(const TreeDirectory& parent, const std::string& name) const {
    return options_.destination_empty ? UniqueFd() : find_entry(parent.destination.get(), name);
  }

  int destination_root_;
  const CopyOptions& options_;
  TreeProgress& progress_;
  const Interruption& interruption_;
  CopiedLinks links_;
  Writeback writeback_;
};

}  // namespace

bool prepare_directory(int directory, const Attributes& attributes) {
  open_up(directory);
  // What is inherited from here would only have to be taken away again; names are compared as they
  // will be from the first on.
  const std::uint32_t flags = inode_flags(directory);
  const std::uint32_t wanted = (flags & ~kKeptFlags) | (attributes.flags & FS_CASEFOLD_FL);
  if (flags == wanted) return true;
  const bool changes_names = ((flags ^ wanted) & FS_CASEFOLD_FL) != 0;
  if (changes_names && !is_empty(directory)) return false;
  set_inode_flags(directory, wanted);
  return true;
}

void copy_tree(int source, int destination, const CopyOptions& options, TreeProgress& progress,
               const Tick& tick) {
  Interruption interruption(tick);
  auto root = std::make_shared<TreeDirectory>();
  root->source = reopen_directory(source);
  root->destination = reopen_directory(destination);
  root->attributes = read_attributes(source);
  if (!prepare_directory(destination, root->attributes)) {
    throw Error(Errc::io, "the new directory has files and other rules for names").with_path(".");
  }
  Copy copy(destination, options, progress, interruption);
  if (!options.destination_empty) copy.remove_surplus(*root);
  walk_tree(root, copy, options.writers != 0 ? options.writers : default_threads(), interruption);
  copy.apply_late_flags();
}

void sync_tree(int fd) {
  if (syncfs(fd) != 0) throw system_error(errno, "cannot write everything to the disk");
}

}  // namespace fscryptctl
