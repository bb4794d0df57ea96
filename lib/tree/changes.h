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

enum class Lease {
  held,
  in_use,      ///< somebody has it open (F_WRLCK), or open for writing (F_RDLCK)
  impossible,  ///< not the caller's file, or no such thing on this filesystem
};
/// Until the descriptor is closed, whoever opens the file waits.
[[nodiscard]] Lease take_lease(int fd, int type);
/// False if somebody has the regular file open for writing. Otherwise whoever opens it for that
/// waits until it is closed here; but not where nothing can be found out: a file of somebody else
/// or one that may not be read, or a filesystem without leases. Throws io.
[[nodiscard]] bool keep_writers_out(OpenedEntry& file);
/// Whether nobody has waited for the end of a lease for writing so far.
[[nodiscard]] bool has_lease(int fd);

}  // namespace fscryptctl
