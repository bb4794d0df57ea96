#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace fscryptctl {

/// Which directory it is, as long as it lives: an inode number is given again, its generation is
/// not.
struct InodeIdentity {
  std::uint64_t inode = 0;
  std::uint32_t generation = 0;  ///< FS_IOC_GETVERSION; 0 where the filesystem does not tell
  bool operator==(const InodeIdentity&) const = default;
};
[[nodiscard]] InodeIdentity inode_identity(int fd);

/// Two directories change places, atomically (RENAME_EXCHANGE), and durably: both parents are
/// synced. What was `b` keeps its times. `a` must be what stands at `name_a`, and the same for `b`:
/// otherwise nothing is changed, or changed back, and files_in_use is thrown. Throws io,
/// permission, filesystem (no such call).
void exchange_directories(int parent_a, const std::string& name_a, InodeIdentity a, int parent_b,
                          const std::string& name_b, InodeIdentity b);

}  // namespace fscryptctl
