#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
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
  Identity user;
  std::string mount_point;
  std::vector<KeyIdentifier> opens;
};

struct PathState {
  enum class State { ok, missing, other_policy };
  std::string path;
  State state;
};

struct PolicyStatus {
  PolicySummary summary;
  Identity user;
  KeyStatus key;
  std::vector<PathState> paths;
  bool has_recovery_key;
};

/// One directory: `status PATH`, and an element of `status` and `list`.
struct DirectoryStatus {
  std::string path;
  bool encrypted = false;
  bool missing = false;  ///< a record names it, but it is not there
  bool damaged = false;  ///< it is there, but its record cannot be used
  std::optional<KernelPolicy> policy;
  std::optional<KeyStatus> key;
  bool managed = false;
  bool has_recovery_key = false;
  bool foreign_metadata = false;  ///< google/fscrypt's `.fscrypt` is on the filesystem
  std::vector<ProtectorStatus> protectors;
};

struct MountStatus {
  FilesystemStatus filesystem;
  std::vector<ProtectorStatus> protectors;
  std::vector<PolicyStatus> policies;
  std::vector<DamagedRecord> damaged;
};

struct SystemStatus {
  std::vector<FilesystemStatus> filesystems;
  std::vector<DirectoryStatus> directories;
  std::vector<DamagedRecord> damaged;
};

/// `with_opens`: fill ProtectorStatus::opens, which reads every policy's first document.
[[nodiscard]] DirectoryStatus directory_status(Context& context, const std::string& path,
                                               bool with_opens, std::vector<DamagedRecord>& damaged);
/// Users: `--user`, else for root everybody, else the caller.
[[nodiscard]] MountStatus mount_status(Context& context, const Filesystem& filesystem);
[[nodiscard]] SystemStatus system_status(Context& context);

/// What `status PATH` is about: an encrypted directory wins over a mount point.
enum class PathKind { plain, encrypted, mount_point };
[[nodiscard]] PathKind path_kind(Context& context, const std::string& path);

}  // namespace fscryptctl
