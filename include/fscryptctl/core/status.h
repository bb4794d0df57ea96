#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/metadata/journal.h"
#include "fscryptctl/metadata/store.h"

namespace fscryptctl {

struct FilesystemStatus {
  std::string mount_point;
  std::string device;
  std::string type;
  Support encryption;
  bool metadata;
};

struct ProtectorStatus {
  ProtectorSummary summary;
  uid_t uid;
  std::string user;  ///< the name of `uid`
  std::string mount_point;
  std::vector<KeyIdentifier> opens;

  [[nodiscard]] bool has_recovery_key() const;
};

/// Shared by everything that shows the protector: what it opens may be a long list.
using Protectors = std::vector<std::shared_ptr<const ProtectorStatus>>;

struct PathState {
  enum class State { ok, missing, other_policy };
  std::string path;
  State state;
};

struct PolicyStatus {
  PolicySummary summary;
  uid_t uid;
  std::string user;  ///< the name of `uid`
  KeyStatus key;
  std::vector<PathState> paths;
  bool has_recovery_key;
};

/// A directory: `status PATH`, and an element of `status` and `list`.
struct DirectoryStatus {
  std::string path;
  bool missing = false;  ///< a record names it, but it is not there or has another policy
  bool damaged = false;  ///< it is encrypted, but its record cannot be used
  std::optional<KernelPolicy> policy;  ///< nullopt: not encrypted, or missing
  KeyStatus key;                       ///< as `user` sees it
  uid_t user = 0;
  bool managed = false;
  Protectors protectors;  ///< that open it
  /// What somebody began with it and did not finish, as a journal says that is not proven.
  std::optional<Journal::Command> unfinished{};

  [[nodiscard]] bool has_recovery_key() const;
};

struct MountStatus {
  FilesystemStatus filesystem;
  Protectors protectors;
  std::vector<PolicyStatus> policies;
  std::vector<DirectoryStatus> directories;
  std::vector<DamagedRecord> damaged;
};

/// All filesystems that can encrypt or lie on a device, those of network types excepted.
[[nodiscard]] std::vector<MountStatus> system_status(Context& context);

/// What the listed users (Context::users_to_list) have on a filesystem. One user's bad records stop
/// nothing of another's: they are in `damaged`.
[[nodiscard]] MountStatus mount_status(Context& context, const Filesystem& filesystem);

/// What `status PATH` shows: an encrypted file or directory before a mount point.
struct PathStatus {
  enum class Kind { plain, encrypted, mount_point };
  Kind kind;
  std::optional<DirectoryStatus> directory;  ///< unless mount_point
  std::optional<MountStatus> mount;          ///< for mount_point
  std::vector<DamagedRecord> damaged;        ///< for encrypted: records of this policy
};

/// `with_opens` fills ProtectorStatus::opens, for which every policy record is looked at; without,
/// the cost does not depend on how many there are.
[[nodiscard]] PathStatus path_status(Context& context, const std::string& path, bool with_opens);

}  // namespace fscryptctl
