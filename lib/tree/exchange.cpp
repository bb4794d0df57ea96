#include "fscryptctl/tree/exchange.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "entry.h"

namespace fscryptctl {
namespace {

/// Empty if it is not what stands there.
UniqueFd open_known(int parent, const std::string& name, const InodeIdentity& identity) {
  UniqueFd found = open_beneath(parent, name, O_RDONLY | O_DIRECTORY);
  return found && inode_identity(found.get()) == identity ? std::move(found) : UniqueFd();
}

bool stands_at(int parent, const std::string& name, const InodeIdentity& identity) {
  return static_cast<bool>(open_known(parent, name, identity));
}

int exchange_code(int parent_a, const std::string& name_a, int parent_b,
                  const std::string& name_b) {
  return renameat2(parent_a, name_a.c_str(), parent_b, name_b.c_str(), RENAME_EXCHANGE) == 0
             ? 0
             : errno;
}

/// For f2fs another directory above is a modification.
void keep_times(int fd, const EntryStatus& before) {
  if (entry_status(fd).modified == before.modified) return;
  const std::array<timespec, 2> times = {to_timespec(before.accessed),
                                         to_timespec(before.modified)};
  if (futimens(fd, times.data()) != 0) throw system_error(errno, "cannot set the times");
}

Error cannot_exchange(int code) {
  if (code == ENOSYS || code == EINVAL) {
    return {Errc::filesystem, "this filesystem cannot exchange two directories", code};
  }
  return tree_error(code, "cannot exchange the directories");
}

}  // namespace

InodeIdentity inode_identity(int fd) {
  InodeIdentity identity;
  identity.inode = entry_status(fd).inode;
  unsigned generation = 0;  // the kernel writes an int, whatever the number of the call says
  if (ioctl(fd, FS_IOC_GETVERSION, &generation) == 0) {
    identity.generation = generation;
  } else if (errno != ENOTTY && errno != EOPNOTSUPP) {
    throw system_error(errno, "cannot tell the generation of a file");
  }
  return identity;
}

void exchange_directories(int parent_a, const std::string& name_a, InodeIdentity a, int parent_b,
                          const std::string& name_b, InodeIdentity b) {
  const UniqueFd from_a = open_known(parent_a, name_a, a);
  const UniqueFd from_b = open_known(parent_b, name_b, b);
  if (!from_a || !from_b) throw changed_meanwhile();
  const EntryStatus before = entry_status(from_b.get());
  if (const int code = exchange_code(parent_a, name_a, parent_b, name_b); code != 0) {
    throw cannot_exchange(code);
  }
  // Something else may have been put there in between.
  if (!stands_at(parent_a, name_a, b) || !stands_at(parent_b, name_b, a)) {
    if (const int code = exchange_code(parent_a, name_a, parent_b, name_b); code != 0) {
      throw cannot_exchange(code);
    }
    throw changed_meanwhile();
  }
  // Before the syncs, so that the times are on the disk with the exchange.
  keep_times(from_b.get(), before);
  // With one of them only, a file without contents was found after a crash.
  sync_file(parent_a, "cannot write the directory above");
  sync_file(parent_b, "cannot write the directory above");
}

}  // namespace fscryptctl
