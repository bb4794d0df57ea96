#pragma once

#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/new_file.h"
#include "fscryptctl/metadata/backup_codec.h"

namespace fscryptctl {

/// What goes into a backup, and what should and could not.
struct BackupContents {
  std::string mount_point;  ///< of the filesystem
  dev_t device{};           ///< of it
  Backup backup;
  std::vector<DamagedRecord> damaged;  ///< left out
  /// Protectors that policies name and that are not there, for one entry each: "policy … of alice".
  std::vector<std::string> missing_protectors;
  std::vector<std::string> not_managed;    ///< encrypted directories of which no record was found
  std::vector<std::string> not_looked_at;  ///< directories that could not be searched
};

/// All records that are needed to unlock what lies under `path`: of an encrypted file or directory
/// its policy and protectors, of a mount point everything on the filesystem, of another directory
/// those of the encrypted directories that a search finds below it or that records say lie there.
/// Of the users that the caller may list. Throws not_set_up, not_managed, no_such_policy (nothing
/// to back up), and what looking throws.
[[nodiscard]] BackupContents collect_backup(Context& context, const std::string& path);

/// Writes the backup into a new file that only its owner can read, durably.
struct WrittenBackup {
  bool private_file;     ///< false where the filesystem has no permissions to keep others out
  bool same_filesystem;  ///< it lies on the filesystem that it is for
  bool encrypted;        ///< it lies in an encrypted directory
};
/// Throws exists, no_space, io, permission.
[[nodiscard]] WrittenBackup write_backup(const Context& context, const BackupContents& contents,
                                         const NewFile& file);

/// Reads a backup that somebody named. `readable_by_others`: passphrases could have been guessed.
struct ReadBackup {
  Backup backup;
  bool readable_by_others;
};
/// Throws no_such_path, usage (not a regular file), and what parse_backup throws.
[[nodiscard]] ReadBackup read_backup(const std::string& file);

}  // namespace fscryptctl
