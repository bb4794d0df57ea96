#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/context.h"
#include "fscryptctl/metadata/google_fscrypt.h"

namespace fscryptctl {

/// Something of another tool's that is not taken over, and why. The rest goes on.
struct SkippedFile {
  std::string file;
  Errc code;  ///< policy_version for a version 1 policy; else damaged, foreign or missing
  std::string reason;
};

struct FoundGoogleProtector {
  GoogleProtector protector;
  uid_t owner;  ///< whose it is: the user inside a login protector, else the file's owner
  std::string file;
  bool on_running_root;  ///< found on this machine's root filesystem
};

struct FoundGooglePolicy {
  GooglePolicy policy;
  uid_t owner;  ///< the file's
  std::string file;
};

/// All that MOUNTPOINT/.fscrypt says, with the protectors that it links to or that lie on the root
/// filesystem, where that tool keeps those of login passwords.
struct GoogleMetadata {
  std::map<ProtectorId, FoundGoogleProtector> protectors;
  std::vector<FoundGooglePolicy> policies;
  std::vector<SkippedFile> skipped;
  bool open_to_all = false;  ///< every user may make policies
};

/// Reads with nothing changed. An ordinary user sees what she may read and what is hers or root's;
/// other users' files are passed over in silence. Links are followed to mounted filesystems only,
/// never to those of network types. nullopt if there is no `.fscrypt`.
/// Throws untrusted_metadata (the directories themselves), io.
[[nodiscard]] std::optional<GoogleMetadata> read_google_metadata(const Context& context,
                                                                 const Filesystem& filesystem);

}  // namespace fscryptctl
