#include "changes.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>

#include "fscryptctl/tree/compare.h"

namespace fscryptctl {

bool is_open_for_writing(int fd) {
  // A lease for reading is granted only while nobody can write.
  const Lease lease = take_lease(fd, F_RDLCK);
  if (lease == Lease::held) fcntl(fd, F_SETLEASE, F_UNLCK);
  return lease == Lease::in_use;
}

Lease take_lease(int fd, int type) {
  // Whoever is kept waiting makes the kernel send SIGIO, which would end this process; this one is
  // ignored by default. Asking tells as well.
  fcntl(fd, F_SETSIG, SIGURG);
  if (fcntl(fd, F_SETLEASE, type) == 0) return Lease::held;
  return errno == EAGAIN ? Lease::in_use : Lease::impossible;
}

bool has_lease(int fd) { return fcntl(fd, F_GETLEASE) == F_WRLCK; }

std::optional<std::string> change_since(int path_fd, const EntryStatus& status, FileTime since) {
  // Special files have one inode in both trees: nothing about them can be missed, and their second
  // name changed them.
  if (!status.is_regular() && !S_ISLNK(status.mode)) return std::nullopt;
  if (status.changed >= since) return "changed";
  if (!status.is_regular()) return std::nullopt;
  const UniqueFd file = reopen_file(path_fd, O_RDONLY);
  // Somebody's lease for writing is in the way.
  if (!file) return errno == EAGAIN ? std::optional<std::string>("open for writing") : std::nullopt;
  return is_open_for_writing(file.get()) ? std::optional<std::string>("open for writing")
                                         : std::nullopt;
}

}  // namespace fscryptctl
