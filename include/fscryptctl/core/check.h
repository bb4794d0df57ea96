#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/context.h"

namespace fscryptctl {

/// What a check can find.
enum class FindingCode {
  // a file or directory of the metadata
  damaged,    ///< breaks a rule of the format
  untrusted,  ///< wrong owner, mode, type or number of links
  newer_format,
  unreadable,     ///< any other failure
  squatted,       ///< something of somebody else's in the place of a user's directory
  foreign,        ///< no record
  leftover,       ///< of an interrupted writer
  not_canonical,  ///< a record in another spelling than this program's
  // records against each other
  no_way_in,           ///< a policy without any usable protector
  protector_missing,   ///< that a policy names
  protector_unusable,  ///< likewise, there but damaged
  unused_protector,    ///< opens nothing
  duplicate_name,      ///< two protectors of one name
  kdf_limit,           ///< hashing would cost more than this machine permits
  conversion,          ///< in progress
  // records against the directories
  modes_differ,       ///< the directory has other modes than the record says
  no_record,          ///< a directory is encrypted with a key of which nobody has a record
  directory_missing,  ///< no hint of a policy leads to its directory
  stale_hint,         ///< one does not, another one does
};

enum class Severity { info, warning, error };
[[nodiscard]] Severity severity_of(FindingCode code) noexcept;

struct Finding {
  FindingCode code;
  std::string path;          ///< the file or directory that it is about, absolute
  std::optional<uid_t> uid;  ///< whose it is
  std::string message;
  std::string id;           ///< of the policy or protector, or empty
  std::string mount_point;  ///< of the filesystem
  bool repaired = false;
};

struct CheckResult {
  std::vector<Finding> findings;  ///< of one user after the other
  std::vector<Error> failures;    ///< what kept a user's metadata from being repaired
  bool changed = false;
};

/// Looks through the metadata of a filesystem, of the users that the context lists: all files,
/// records against each other, and records against the directories that they name. With `repair`
/// does what cannot lose anything: removes leftovers of writers, drops stale hints of policies that
/// have a good one, and writes records in the canonical spelling; as the user concerned, and never
/// changes what is damaged or not hers. One user's disorder hides nothing of another's.
/// Throws not_set_up, interrupted.
[[nodiscard]] CheckResult check_filesystem(Context& context, const Filesystem& filesystem,
                                           bool repair);

}  // namespace fscryptctl
