#include "changes.h"

#include <fcntl.h>

#include <cerrno>
#include <csignal>

#include "fscryptctl/tree/compare.h"

namespace fscryptctl {

Lease take_lease(int fd, int type) {
  // Whoever is kept waiting makes the kernel send SIGIO, which would end this process; this one is
  // ignored by default. Asking tells as well.
  fcntl(fd, F_SETSIG, SIGURG);
  if (fcntl(fd, F_SETLEASE, type) == 0) return Lease::held;
  return errno == EAGAIN ? Lease::in_use : Lease::impossible;
}

bool keep_writers_out(OpenedEntry& file) {
  if (file.make_readable()) return take_lease(file.fd.get(), F_RDLCK) != Lease::in_use;
  // Somebody's lease for writing is in the way.
  return errno != EAGAIN;
}

bool has_lease(int fd) { return fcntl(fd, F_GETLEASE) == F_WRLCK; }

std::optional<std::string> change_by_time(const EntryStatus& status, FileTime since) {
  // Special files have one inode in both trees: nothing about them can be missed, and their second
  // name changed them.
  const bool counts = status.is_regular() || status.is_symlink();
  return counts && status.changed >= since ? std::optional<std::string>("changed") : std::nullopt;
}

std::optional<std::string> change_since(OpenedEntry& entry, FileTime since) {
  auto change = change_by_time(entry.status, since);
  if (change || !entry.status.is_regular()) return change;
  return keep_writers_out(entry) ? std::nullopt : std::optional<std::string>(kOpenForWriting);
}

}  // namespace fscryptctl
