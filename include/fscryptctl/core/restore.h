#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/context.h"
#include "fscryptctl/metadata/backup_codec.h"

namespace fscryptctl {

/// What becomes of a record of a backup.
enum class RestoreState {
  // restored
  written,
  replaced,  ///< another one was there; only with `replace`
  // skipped
  identical,
  equivalent,  ///< opens the same with the same; name or hints are others
  other_user,  ///< not the caller's own
  // conflicts: what is there stays
  different,
  damaged,       ///< what is there cannot be read
  newer_format,  ///< what is there is of a later version: stays in any case
  duplicate,     ///< another user's record of the backup has taken its place
  changed,       ///< what is there was changed since it was confirmed
  failed,        ///< see RestoreResult::failures
};

struct RestoreItem {
  std::string kind;  ///< "policy" or "protector"
  std::string id;
  uid_t uid;         ///< whose it becomes
  std::string user;  ///< the name of `uid`
  std::string name;  ///< a protector's, as it becomes; empty for policies
  RestoreState state;
  bool renamed = false;  ///< the name in the backup is another protector's there
};

struct RestoreResult {
  std::vector<RestoreItem> items;  ///< for each record, in the order of the backup
  std::vector<Error> failures;     ///< of one user each; the others go on
  /// Restored policies that name protectors which are neither there nor in the backup.
  std::vector<std::string> missing_protectors;

  [[nodiscard]] std::size_t count(RestoreState state) const;
};

struct RestoreRequest {
  bool replace = false;  ///< records that are different or damaged
  bool dry_run = false;  ///< only tell what would happen
  bool set_up = false;   ///< make the filesystem's metadata directory if there is none
};

/// Writes the records of a backup where the user of the context keeps hers: root each to its own
/// user's, or all to `--user`; others only those of their own uid, or all with `--user`. One that
/// is there already and different is kept, unless `request.replace`; with `confirmed`, what a run
/// before has told, only those are replaced of which it said so. A protector whose name is taken
/// there gets another. Interrupted, it can be run again.
/// Throws not_set_up (also where only root could make the directory), untrusted_metadata,
/// permission (nothing in it is the caller's), interrupted.
[[nodiscard]] RestoreResult restore(Context& context, const Filesystem& filesystem,
                                    const Backup& backup, const RestoreRequest& request,
                                    const RestoreResult* confirmed = nullptr);

}  // namespace fscryptctl
