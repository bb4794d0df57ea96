#pragma once

#include <sys/types.h>

#include <chrono>
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
  KeyIdentifier key_identifier;
  KeyStatus key;
  bool changed = false;
  HolderScan scan{{}, true};  ///< when the key is incompletely removed

  [[nodiscard]] bool locked() const noexcept { return key.state == KeyState::absent; }
};

/// Removes the user's claim to the directory's key, or everybody's. Whether it is locked
/// afterwards is in the result; files in use and other users' claims are not exceptions.
/// Throws not_encrypted, permission, io.
[[nodiscard]] LockResult lock_directory(Context& context, const std::string& path,
                                        const LockRequest& request);

/// Every key of the filesystem that the listed users' records know and that is not absent.
[[nodiscard]] std::vector<LockResult> lock_filesystem(Context& context,
                                                      const Filesystem& filesystem,
                                                      const LockRequest& request);

}  // namespace fscryptctl
