#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/fs_identity.h"
#include "fscryptctl/base/mount_table.h"
#include "fscryptctl/metadata/store.h"

namespace fscryptctl {

/// A mounted filesystem as this program uses it: where its metadata lies, and a descriptor for the
/// kernel's key calls.
///
/// The metadata root is the mount of the device whose root is `/`; without one, the containing
/// mount if its root is unencrypted and either root's and not writable by others, or the calling
/// user's own. (Otherwise the metadata of a bind-mounted encrypted directory would land inside it.)
class Filesystem {
 public:
  /// The filesystem that an open file lies on. Throws filesystem, untrusted_metadata, io.
  [[nodiscard]] static Filesystem of(int fd, const std::vector<Mount>& mounts,
                                     const std::string& path);

  /// `mount` itself, if it is what its mount point shows (not covered by another mount) and fit to
  /// hold metadata; nullopt otherwise. For looking at all filesystems.
  [[nodiscard]] static std::optional<Filesystem> at(const Mount& mount);
  /// The same through none but `mounts` on the way: what a user mounted in the meantime over a
  /// directory of hers that leads there is not entered, for it may never answer.
  [[nodiscard]] static std::optional<Filesystem> at(const Mount& mount,
                                                    const std::vector<Mount>& mounts);

  /// The mount that holds the metadata.
  [[nodiscard]] const Mount& mount() const noexcept { return mount_; }
  /// Its root directory, or, where that cannot be read, its `.fscryptctl`: never encrypted, so fit
  /// for the kernel's key calls.
  [[nodiscard]] int fd() const noexcept { return key_fd_ ? key_fd_.get() : root_.get(); }
  /// The user to whom the mount's root directory belongs: root, or the owner of a removable disk.
  [[nodiscard]] Identity trusted_owner() const noexcept { return trusted_owner_; }
  [[nodiscard]] int root_fd() const noexcept { return root_.get(); }
  /// Its UUID, a hint; nullopt if it has none or does not tell.
  [[nodiscard]] std::optional<FilesystemUuid> uuid() const;
  /// False for another ordinary user's disk: its owner could put any metadata there.
  [[nodiscard]] bool trusted() const noexcept;

  /// Throw untrusted_metadata for another user's disk, and what MetadataRoot and UserStore throw.
  [[nodiscard]] std::optional<MetadataRoot> metadata() const;
  /// Throws not_set_up where there is none.
  [[nodiscard]] MetadataRoot require_metadata() const;
  [[nodiscard]] std::optional<UserStore> store(Identity user) const;
  /// Makes the user's directory where she or root may. Throws not_set_up.
  [[nodiscard]] UserStore store_for_writing(Identity user) const;
  /// Throws not_set_up where store_for_writing would, if the user has no directory yet.
  void require_store_possible(Identity user) const;

  /// Where an open directory lies, relative to the root of the filesystem: what records keep.
  /// nullopt if it has been deleted or cannot be told.
  [[nodiscard]] std::optional<std::string> hint_of(int fd, const std::vector<Mount>& mounts) const;
  /// The path of a hint in this mount; nullopt if it is not visible here.
  [[nodiscard]] std::optional<std::string> path_of_hint(const std::string& hint) const;
  /// Opens the directory that a hint names with O_PATH, as the calling thread's identity, never
  /// through symlinks or mounts; an empty descriptor if there is none.
  [[nodiscard]] UniqueFd open_hint(const std::string& hint) const;

 private:
  [[nodiscard]] static Filesystem adopt(const Mount& mount, UniqueFd root);
  [[nodiscard]] static std::optional<Filesystem> of_root(const Mount& mount, UniqueFd opened);
  [[nodiscard]] std::optional<std::string> below_root(const std::string& hint) const;

  Filesystem(Mount mount, UniqueFd root) : mount_(std::move(mount)), root_(std::move(root)) {}

  Mount mount_;
  UniqueFd root_;
  UniqueFd key_fd_;
  Identity trusted_owner_{0, 0};
};

/// "ext4 on /dev/sda3"
[[nodiscard]] std::string describe(const Mount& mount);

}  // namespace fscryptctl
