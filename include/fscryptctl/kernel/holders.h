#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "fscryptctl/kernel/kernel.h"

namespace fscryptctl {

/// Something that keeps files in use.
struct Holder {
  pid_t pid;  ///< 0 for the kernel's own (loop device, swap, mount of our own namespace);
              ///< for a mount of another namespace, a process that lives there
  uid_t uid;
  std::string command;  ///< the process's name, any bytes
  std::string kind;     ///< "open file", "working directory", "root directory", "executable",
                        ///< "mapped file", "inotify watch", "fanotify mark", "socket",
                        ///< "loop device", "swap file", "mount"
  std::string path;     ///< any bytes; as the process's link says, may end in " (deleted)";
                        ///< "inode N" for a watched file that nobody else uses by a name
};

struct HolderScan {
  std::vector<Holder> holders;  ///< one for each process, kind and path
  bool complete;                ///< false if some processes could not be looked at
};

/// Who keeps files encrypted with `key` on `fs_fd`'s filesystem in use. Looks through /proc, with
/// the real ids of the process (not to be called while acting as another user). Bounded, and never
/// blocks on other filesystems: only files whose device matches are opened, and closed at once,
/// since an open descriptor of ours would itself keep the key busy. Processes that vanish are
/// passed over.
[[nodiscard]] HolderScan find_holders(Kernel& kernel, int fs_fd, const KeySpecifier& key);

/// The same for a directory, encrypted or not, and what lies below it: `place` is where it is
/// within the filesystem, beginning with a slash. Files in use by a name elsewhere are not found.
[[nodiscard]] HolderScan find_holders_below(int fs_fd, const std::string& place);

}  // namespace fscryptctl
