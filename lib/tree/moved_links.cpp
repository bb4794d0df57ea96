#include "moved_links.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "fscryptctl/tree/move.h"
#include "stash.h"
#include "walk.h"

namespace fscryptctl {
namespace {

constexpr std::uint32_t kLockingFlags = FS_IMMUTABLE_FL | FS_APPEND_FL;

/// Symlinks cannot be asked for their generation.
std::string key_of(int fd) {
  const InodeIdentity identity = inode_identity(fd);
  return std::to_string(identity.inode) + '-' + std::to_string(identity.generation);
}

void remove_key(int directory, const std::string& key) {
  if (unlinkat(directory, key.c_str(), 0) != 0 && errno != ENOENT) {
    throw system_error(errno, "cannot forget a file with several names");
  }
}

void link_under(int fd, int directory, const std::string& key) {
  const UniqueFd there = find_entry(directory, key);
  if (there && entry_status(there.get()).inode == entry_status(fd).inode) return;
  if (there) remove_key(directory, key);
  link_entry(fd, directory, key);
}

/// Follows what is remembered with a regular file: flags that would have forbidden new names.
void add_remembered_flags(int source, int copy) {
  if (!entry_status(copy).is_regular()) return;
  std::uint32_t flags = 0;
  for (const int fd : {source, copy}) {
    const auto stash = find_stash(fd);
    if (stash) flags |= stash->flags & kLockingFlags;
  }
  remove_stash(copy);
  if (flags != 0) set_inode_flags(copy, inode_flags(copy) | flags);
}

}  // namespace

MovedLinks::MovedLinks(int work) {
  if (mkdirat(work, kLinks, S_IRWXU) != 0 && errno != EEXIST) {
    throw system_error(errno, "cannot make a directory for files with several names");
  }
  directory_ = open_tree_directory(work, kLinks);
}

UniqueFd MovedLinks::find_copy(int source, const EntryStatus& status) const {
  if (status.links <= 1) return UniqueFd();
  UniqueFd copy = find_entry(directory_.get(), key_of(source));
  // Both halves of the pair, or it is none: an inode number may have been given again.
  if (!copy) return copy;
  const EntryStatus found = entry_status(copy.get());
  const UniqueFd opened = found.is_regular() ? open_file(copy.get()) : UniqueFd();
  const UniqueFd back = find_entry(directory_.get(), key_of(opened ? opened.get() : copy.get()));
  const bool is_pair = back && entry_status(back.get()).inode == status.inode;
  return is_pair ? std::move(copy) : UniqueFd();
}

void MovedLinks::add(int source, int copy) const {
  link_under(copy, directory_.get(), key_of(source));
  link_under(source, directory_.get(), key_of(copy));
}

void MovedLinks::name_gone(int source, int copy) const {
  // The last one is that of the pair.
  if (entry_status(source).links > 1) return;
  add_remembered_flags(source, copy);
  remove_key(directory_.get(), key_of(source));
  remove_key(directory_.get(), key_of(copy));
}

void MovedLinks::finish() const {
  const UniqueFd listed = reopen_directory(directory_.get());
  DirectoryListing listing;
  DirectoryEntry entry;
  while (next_entry(listing, listed.get(), entry)) {
    const UniqueFd found = open_entry(directory_.get(), entry.name);
    if (entry_status(found.get()).is_regular()) {
      const UniqueFd file = open_file(found.get());
      remove_key(directory_.get(), entry.name);
      add_remembered_flags(file.get(), file.get());
    } else {
      remove_key(directory_.get(), entry.name);
    }
  }
}

}  // namespace fscryptctl
