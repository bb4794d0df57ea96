#include "part_move.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "changes.h"
#include "contents.h"
#include "fscryptctl/tree/copy.h"
#include "links.h"
#include "removal.h"
#include "stash.h"

namespace fscryptctl {
namespace {

constexpr std::uint32_t kLockingFlags = FS_IMMUTABLE_FL | FS_APPEND_FL;
/// For directories, names and the filesystem's own records.
constexpr std::uint64_t kReserve = std::uint64_t{1} << 20;
constexpr std::uint64_t kSmallestPiece = std::uint64_t{64} << 10;
constexpr mode_t kPrivate = S_IRUSR | S_IWUSR;

std::string last_name(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

Error not_as_journaled() {
  return {Errc::conflict, "a file that is moved in parts is not what it was left as"};
}

Error in_use() { return {Errc::files_in_use, "is open in another program"}; }

/// For reading and writing, if it is the one that is meant.
UniqueFd find_file(int dirfd, const std::string& name, InodeIdentity identity) {
  const UniqueFd found = find_entry(dirfd, name);
  if (!found || !entry_status(found.get()).is_regular()) return UniqueFd();
  UniqueFd file = reopen_file(found.get(), O_RDWR);
  if (!file && (errno == EACCES || errno == EPERM)) {
    // Its attributes are known from elsewhere, so that they need not stay.
    const UniqueFd readable = open_file(found.get());
    if (inode_identity(readable.get()) != identity) return UniqueFd();
    open_up(readable.get());
    file = reopen_file(found.get(), O_RDWR);
  }
  if (!file && errno == EAGAIN) throw in_use();
  if (!file) throw system_error(errno, "cannot open a file that is moved in parts");
  return inode_identity(file.get()) == identity ? std::move(file) : UniqueFd();
}

/// False where there are no leases.
bool require_lease(int fd) {
  const Lease lease = take_lease(fd, F_WRLCK);
  if (lease == Lease::in_use) throw in_use();
  return lease == Lease::held;
}

bool make_hole(int fd, ByteRange range) {
  constexpr int kHole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return fallocate(fd, kHole, static_cast<off_t>(range.begin),
                   static_cast<off_t>(range.end - range.begin)) == 0;
}

}  // namespace

std::uint64_t free_space(int fd) {
  struct statvfs space {};
  if (fstatvfs(fd, &space) != 0) throw system_error(errno, "cannot see how much space is free");
  const std::uint64_t free = std::uint64_t{space.f_bavail} * space.f_frsize;
  return free > kReserve ? free - kReserve : 0;
}

void rename_to_free(int from, const std::string& name, int to, const std::string& new_name) {
  if (renameat2(from, name.c_str(), to, new_name.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno == EEXIST) throw Error(Errc::conflict, "something else is in its place", EEXIST);
  throw tree_error(errno, "cannot move it");
}

UniqueFd open_directory_of(int root, const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return reopen_directory(root);
  return open_path(root, path.substr(0, slash));
}

void PartMover::move(const TreeDirectory& parent, const std::string& name) {
  if (piece_size() == 0) {
    throw Error(Errc::no_space, "there is too little space to move it even in parts", ENOSPC);
  }
  UniqueFd source = open_file(open_entry(parent.source.get(), name).get());
  const bool leased = require_lease(source.get());
  const EntryStatus status = entry_status(source.get());
  const Attributes attributes = attributes_without_stash(source.get());
  clear();
  make_destination(parent, attributes, status.size);
  const UniqueFd made = open_file(open_entry(request_.work, kPartDestination).get());
  const PartMove part = {.source = inode_identity(source.get()),
                         .destination = inode_identity(made.get()),
                         .path = parent.path_of(name),
                         .size = status.size,
                         .accessed = status.accessed,
                         .modified = status.modified,
                         .source_modified = status.modified,
                         .source_size = status.size};
  request_.journal(part);
  if ((attributes.flags & kLockingFlags) != 0) {
    set_inode_flags(source.get(), inode_flags(source.get()) & ~kLockingFlags);
  }
  take_source(parent.source.get(), name);
  if (leased && !has_lease(source.get())) {
    // Whoever waits for it found it under its name: there it has to be.
    rename_to_free(request_.work, kPartSource, parent.source.get(), name);
    request_.journal(std::nullopt);
    clear();
    apply_attributes(source.get(), attributes);
    throw in_use();
  }
  sync_tree(request_.work);
  source.reset();  // its lease would be in our own way; nobody else finds the file any more
  const Files files = find_files(part);
  move_pieces(part, files);
  finish(part, files);
}

void PartMover::resume(const PartMove& part) {
  const Files files = find_files(part);
  progress_.bytes += part.size - std::min(part.size, entry_status(files.source.get()).size);
  if (!files.placed) move_pieces(part, files);
  finish(part, files);
}

/// Everything about it but its contents, durably.
void PartMover::make_destination(const TreeDirectory& parent, const Attributes& attributes,
                                 std::uint64_t size) {
  constexpr int kFlags = O_TMPFILE | O_RDWR | O_CLOEXEC;
  const UniqueFd made(openat(parent.destination.get(), ".", kFlags, kPrivate));
  if (!made) throw system_error(errno, "cannot make the copy");
  // Writing would take capabilities away again.
  put_stash(made.get(), attributes);
  if (ftruncate(made.get(), static_cast<off_t>(size)) != 0) {
    throw system_error(errno, "cannot make the copy");
  }
  link_entry(made.get(), request_.work, kPartDestination);
  sync_tree(request_.work);
}

void PartMover::take_source(int dirfd, const std::string& name) {
  const auto take = [&] {
    return renameat2(dirfd, name.c_str(), request_.work, kPartSource, RENAME_NOREPLACE) == 0;
  };
  if (take()) return;
  const bool refused = errno == EPERM || errno == EACCES;
  if (refused && open_up(dirfd) && take()) return;
  rename_to_free(dirfd, name, request_.work, kPartSource);
}

PartMover::Files PartMover::find_files(const PartMove& part) {
  Files files;
  files.source = find_file(request_.work, kPartSource, part.source);
  if (!files.source) {
    const UniqueFd directory = open_directory_of(request_.source, part.path);
    if (find_file(directory.get(), last_name(part.path), part.source)) {
      take_source(directory.get(), last_name(part.path));
      sync_tree(request_.work);
      files.source = find_file(request_.work, kPartSource, part.source);
    }
  }
  files.destination = find_file(request_.work, kPartDestination, part.destination);
  if (!files.destination) {
    const UniqueFd directory = open_directory_of(request_.destination, part.path);
    files.destination = find_file(directory.get(), last_name(part.path), part.destination);
    files.placed = static_cast<bool>(files.destination);
  }
  if (!files.source || !files.destination) throw not_as_journaled();
  static_cast<void>(require_lease(files.source.get()));
  return files;
}

void PartMover::move_pieces(PartMove part, const Files& files) {
  std::uint64_t largest = request_.piece;
  while (true) {
    const EntryStatus status = entry_status(files.source.get());
    // A piece may have gone that the journal does not know yet; never more, and never is one added.
    const bool as_known =
        status.size == part.source_size && status.modified == part.source_modified;
    const bool one_further = status.size < part.source_size && status.size % kSmallestPiece == 0 &&
                             part.source_size - status.size <= request_.piece;
    if (!as_known && !one_further) throw not_as_journaled();
    if (status.size == 0) return;
    interruption_.check();
    const std::uint64_t piece = std::min(largest, piece_size());
    if (piece == 0) throw Error(Errc::no_space, "no space is left", ENOSPC);
    const std::uint64_t begin = status.size > piece ? (status.size - piece + kSmallestPiece - 1) /
                                                          kSmallestPiece * kSmallestPiece
                                                    : 0;
    if (!move_piece(files, {begin, status.size}, status)) {
      // A quota may leave less than the filesystem has.
      largest = (status.size - begin) / 2 / kSmallestPiece * kSmallestPiece;
      continue;
    }
    const EntryStatus cut = entry_status(files.source.get());
    part.source_size = cut.size;
    part.source_modified = cut.modified;
    request_.journal(part);
  }
}

/// Copied, durable, read back and compared before the source loses it. False if there is no space
/// for it.
bool PartMover::move_piece(const Files& files, ByteRange range, const EntryStatus& status) {
  const int source = files.source.get();
  const int destination = files.destination.get();
  if (!copy_piece(source, destination, range)) return false;
  drop_cached(destination);
  if (!same_contents(source, destination, range, interruption_)) {
    throw Error(Errc::io, "the copy reads back other than written");
  }
  const EntryStatus now = entry_status(source);
  if (now.size != status.size || now.modified != status.modified) throw in_use();
  if (ftruncate(source, static_cast<off_t>(range.begin)) != 0) {
    throw system_error(errno, "cannot shorten what was copied");
  }
  if (fsync(source) != 0) throw system_error(errno, "cannot shorten what was copied");
  return true;
}

bool PartMover::copy_piece(int source, int destination, ByteRange range) {
  const std::uint64_t done = progress_.bytes;
  try {
    copy_contents(source, destination, range, progress_, interruption_);
    if (fdatasync(destination) != 0) throw system_error(errno, "cannot write the copy");
    return true;
  } catch (const Error& error) {
    progress_.bytes = done;
    // What there was no space for must not take any.
    if (error.code() != Errc::no_space || !make_hole(destination, range)) throw;
    return false;
  }
}

void PartMover::finish(const PartMove& part, const Files& files) {
  if (!files.placed) {
    const UniqueFd directory = open_directory_of(request_.destination, part.path);
    rename_to_free(request_.work, kPartDestination, directory.get(), last_name(part.path));
  }
  follow_stash(files.destination.get());
  sync_tree(request_.work);
  request_.journal(std::nullopt);
  clear();
  ++progress_.files;
}

void PartMover::clear() {
  const UniqueFd source = find_entry(request_.work, kPartSource);
  if (source && entry_status(source.get()).size != 0) throw not_as_journaled();
  for (const char* const name : {kPartSource, kPartDestination}) {
    if (unlinkat(request_.work, name, 0) != 0 && errno != ENOENT) {
      throw system_error(errno, "cannot remove what was left of an earlier move");
    }
  }
}

/// The largest one for which there is space, in whole units; 0 if there is none for any.
std::uint64_t PartMover::piece_size() const {
  const std::uint64_t most = std::min(request_.piece, free_space(request_.work) / 2);
  return most / kSmallestPiece * kSmallestPiece;
}

}  // namespace fscryptctl
