#pragma once

#include <optional>
#include <string>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/protector.h"

namespace fscryptctl {

struct HomedImportRequest {
  std::string path;  ///< the home directory: /home/USER.homedir
  std::string name;  ///< of the new protector
};

struct HomedImport {
  bool changed = false;
  KernelPolicy policy;
  int unusable_slots = 0;
  /// For a version 2 policy: whose record it is, and the protector made from the password.
  std::optional<Identity> user{};
  std::optional<ProtectorSummary> protector{};
  /// For version 1: the key is in the kernel, so that the files can be copied elsewhere.
  bool unlocked_for_copying = false;
  /// On the disk, as id-mapped mounts want it: without systemd-homed its user needs a chown.
  bool owned_by_nobody = false;
};

/// Opens a home directory of systemd-homed with one of its passwords or its recovery key. A version
/// 2 policy gets an ordinary record, opened by a new passphrase protector with the same password;
/// the attributes stay, so that systemd-homed can go on. A version 1 policy cannot be kept in
/// records: its directory is unlocked, for everybody whom permissions let in, until root locks it
/// (lock_directory) or the filesystem is unmounted. No owner is changed. Repeating it is success.
/// Only root can.
/// Throws permission, not_encrypted, not_managed (no such attributes), wrong_key, kdf_limit,
/// corrupt_metadata, usage, not_set_up, no_space, io.
[[nodiscard]] HomedImport import_homed(Context& context, const HomedImportRequest& request,
                                       SecretProvider& secrets);

}  // namespace fscryptctl
