#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/kernel/holders.h"

namespace fscryptctl {

struct LockRequest {
  bool all_users = false;                ///< also other users' claims; only root may
  std::chrono::milliseconds wait{1000};  ///< how long busy files are tried again
};

struct LockResult {
  std::vector<std::string> paths;  ///< the path named, or the known paths of the key
  std::string mount_point;
  KeySpecifier specifier;
  KeyStatus key;
  bool changed = false;
  HolderScan scan{{}, true};  ///< when the key is incompletely removed
  bool interrupted = false;   ///< the person did not want to wait for files in use

  [[nodiscard]] bool locked() const noexcept { return key.state == KeyState::absent; }
};

/// Removes the user's claim to the directory's key, or everybody's. Whether it is locked
/// afterwards is in the result; files in use and other users' claims are not exceptions. The key of
/// a version 1 policy has no claims, and only root can remove it; one that is not the filesystem's
/// (that other tools have added to a user's keyring, say) cannot be told from none.
/// Throws not_encrypted, policy_version (version 1 with no key of the filesystem's), permission,
/// io.
[[nodiscard]] LockResult lock_directory(Context& context, const std::string& path,
                                        const LockRequest& request);

/// Who wants to know how it goes, key by key.
struct LockReport {
  std::function<void(const LockResult&)> done;
  std::function<void(const Error&)> failed;  ///< the rest goes on
};

/// Every key of the filesystem that the listed users' records know and that is not absent. A record
/// that is damaged is reported, and the key that its file is named after is locked all the same.
void lock_filesystem(Context& context, const Filesystem& filesystem, const LockRequest& request,
                     const LockReport& report);

}  // namespace fscryptctl
