#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/google_metadata.h"

namespace fscryptctl {

struct GoogleImportRequest {
  bool dry_run = false;  ///< say what would be done, touch nothing
  bool update = false;   ///< take over what the other tool wrapped anew since
};

enum class ImportState {
  imported,   ///< written now (or would be, with dry_run)
  updated,    ///< taken over again: it was imported before and the other tool has changed it
  unchanged,  ///< imported before
  outdated,   ///< imported before, and the other tool has changed it; `update` would take it over
  kept,       ///< imported before and wrapped anew by this program: never overwritten
};

struct ImportedRecord {
  std::string file;  ///< the other tool's
  uid_t uid;
  std::string user;
  ImportState state;
  std::optional<ProtectorSummary> protector;  ///< one of the two
  std::optional<PolicySummary> policy;
};

/// A user of whom not everything could be written.
struct FailedUser {
  uid_t uid;
  std::string user;
  Error error;
};

struct GoogleImport {
  std::vector<ImportedRecord> records;
  std::vector<SkippedFile> skipped;
  std::vector<FailedUser> failed;
  bool changed = false;
};

/// Writes records for what google/fscrypt keeps on the filesystem, wrappings verbatim; its own
/// files stay as they are. No secret is needed. Whose they become: a protector's, of the user
/// inside a login protector, else of the file's owner; a policy's, of its file's owner, and where
/// that is root, also of the users whose protectors wrap it, with their own wrappings only. A
/// user's policy that a protector of root's wraps becomes root's only where `--user` names root, or
/// root has it already. `--user` and an ordinary caller restrict it to one user.
///
/// Root sets the filesystem up if that was not done. `result` is filled as far as it got. Each
/// record is done or not done; repeating it finishes. What keeps one user's records from being
/// written (untrusted_metadata, metadata_locked, no_space, io) is in the result, and stops nobody
/// else's. Throws no_such_path (no such metadata), not_set_up, not_enabled, untrusted_metadata,
/// no_space, io.
void import_google_fscrypt(Context& context, const Filesystem& filesystem,
                           const GoogleImportRequest& request, GoogleImport& result);

}  // namespace fscryptctl
