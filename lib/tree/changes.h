#pragma once

#include <optional>
#include <string>

#include "entry.h"

namespace fscryptctl {

/// "changed" if a file or symlink was changed at `since` or later, as its change time tells.
[[nodiscard]] std::optional<std::string> change_by_time(const EntryStatus& status, FileTime since);
/// "changed" or "open for writing" if a file, special file or symlink was changed at `since` or
/// later, or somebody may be about to change it; nullopt if not. Directories are no matter of this.
[[nodiscard]] std::optional<std::string> change_since(OpenedEntry& entry, FileTime since);

/// Whether somebody has the file open for writing. False where that cannot be found out: a file of
/// somebody else, or a filesystem without leases.
[[nodiscard]] bool is_open_for_writing(int fd);

enum class Lease {
  held,
  in_use,      ///< somebody has it open (F_WRLCK), or open for writing (F_RDLCK)
  impossible,  ///< not the caller's file, or no such thing on this filesystem
};
/// Until the descriptor is closed, whoever opens the file waits.
[[nodiscard]] Lease take_lease(int fd, int type);
/// Whether nobody has waited for the end of a lease for writing so far.
[[nodiscard]] bool has_lease(int fd);

}  // namespace fscryptctl
