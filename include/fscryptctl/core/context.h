#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/fs_identity.h"
#include "fscryptctl/base/mount_table.h"
#include "fscryptctl/core/filesystem.h"
#include "fscryptctl/kernel/kernel.h"
#include "fscryptctl/metadata/config.h"

namespace fscryptctl {

/// What every operation needs to know about the run that it is part of.
struct Context {
  Kernel& kernel;
  std::vector<Mount> mounts;
  Identity caller;
  std::optional<Identity> user;  ///< `--user`; only root may name another
  std::string config_path;
  std::optional<std::uint64_t> kdf_limit_mib;  ///< `--kdf-limit`
  /// Throws interrupted if the person asked to stop. Called before work that cannot be undone, and
  /// while waiting.
  std::function<void()> throw_if_interrupted = [] {};
  /// Says what is done (`--verbose`): never a secret.
  std::function<void(const std::string&)> explain = [](const std::string&) {};

  /// True if this is the user's login password now. The core knows nothing of PAM: whoever runs it
  /// can ask. Throws interrupted, no_such_user, and io if nobody can tell.
  std::function<bool(const std::string& user, const SecretBytes& password)> verify_login =
      [](const std::string&, const SecretBytes&) -> bool {
    throw Error(Errc::io, "login passwords cannot be checked here");
  };

  std::optional<Config> config_read{};  ///< once somebody needed it

  /// The configuration, or its defaults if there is none. Read once.
  [[nodiscard]] const Config& config();
  /// What hashing a record may cost: machine, configuration, `--kdf-limit`.
  [[nodiscard]] KdfLimits kdf_limits();

  /// Whose records and key claims an operation on a file of `owner` is about: `--user`, else for
  /// root the owner, else the caller.
  [[nodiscard]] Identity user_for(uid_t owner) const;
  /// The same where no file is named: `--user`, else the caller.
  [[nodiscard]] Identity user_without_path() const { return user.value_or(caller); }
  /// Whose records are listed: `--user`, else for root everybody who has some, else the caller.
  [[nodiscard]] std::vector<Identity> users_to_list(const MetadataRoot& metadata) const;
};

/// The filesystem that a path lies on. Throws no_such_path and what Filesystem::of throws.
[[nodiscard]] Filesystem filesystem_of_path(const Context& context, const std::string& path);

/// All filesystems fit to hold metadata, each device once, except those of network types.
[[nodiscard]] std::vector<Filesystem> local_filesystems(const Context& context);

/// Throws not_enabled or filesystem (the path is the mount point) unless it can encrypt.
void require_encryption(const Context& context, const Filesystem& filesystem);

/// A path that a user named, as far as every command wants to know it.
struct Target {
  std::string path;
  Filesystem filesystem;
  Identity owner;  ///< of the file
  bool directory;
  std::optional<KernelPolicy> policy;
};

/// Looks and lets go: no descriptor inside the encrypted directory stays open, since it would keep
/// the key busy. A regular file of a locked directory is answered by its directory.
/// Throws no_such_path, permission, filesystem, policy_version, io.
[[nodiscard]] Target look_at(const Context& context, const std::string& path);

/// True for the root directory of a mount. Throws as look_at.
[[nodiscard]] bool is_mount_point(const Context& context, const std::string& path);

/// A policy's record with the store that holds it.
struct FoundPolicy {
  UserStore store;
  PolicyRecord record;
};

/// The record of a key: of `--user`, else of the caller, else, for root, of the file's owner before
/// its own. Without `owner` root finds it with anybody who alone has one.
/// nullopt if nobody has. Throws ambiguous, and what reading throws.
[[nodiscard]] std::optional<FoundPolicy> find_record(const Context& context,
                                                     const Filesystem& filesystem,
                                                     std::optional<uid_t> owner,
                                                     const KeyIdentifier& key);

/// Whose claim to a key of a file it is: of the user whose record find_record finds, or would be.
/// A record that cannot be used does not matter here.
[[nodiscard]] Identity user_of_key(const Context& context, const Filesystem& filesystem,
                                   uid_t owner, const KeyIdentifier& key);

/// The error for a directory that is encrypted, but of which no record is found here. Says if
/// google/fscrypt's metadata is there.
[[nodiscard]] Error not_managed(const Filesystem& filesystem, const std::string& path);

/// The v2 key identifier of the target. Throws not_encrypted, policy_version for v1.
[[nodiscard]] KeyIdentifier require_v2_key(const Target& target);

}  // namespace fscryptctl
