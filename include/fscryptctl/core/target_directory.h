#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "fscryptctl/base/file.h"
#include "fscryptctl/base/fs_identity.h"
#include "fscryptctl/core/context.h"

namespace fscryptctl {

/// The directory that `encrypt` is about: there already, or to be made.
class TargetDirectory {
 public:
  /// Throws no_such_path (also if it is missing and not to be made), not_a_directory.
  [[nodiscard]] static TargetDirectory find(const Context& context, const std::string& path,
                                            bool create);

  [[nodiscard]] bool exists() const noexcept { return static_cast<bool>(directory_); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// A descriptor on its filesystem: the directory's, or, before it is made, its parent's.
  [[nodiscard]] int any_fd() const noexcept { return exists() ? directory_.get() : parent_.get(); }
  [[nodiscard]] int fd() const noexcept { return directory_.get(); }
  [[nodiscard]] Identity user() const noexcept { return user_; }
  [[nodiscard]] bool empty() const;

  /// Root made it for the user in an earlier run that was cut off before giving it away: make()
  /// will.
  [[nodiscard]] bool to_be_given() const noexcept { return to_be_given_; }
  /// What lies above it, for reading; empty if that is not permitted.
  [[nodiscard]] UniqueFd open_parent() const;

  /// Makes it, 0700 and the user's, if it is missing. Root makes it in a directory of the user's as
  /// that user, and elsewhere only where nobody else could interfere. Throws permission, no_space.
  void make();
  /// Takes it away again if make() made it and it is not encrypted. Never throws.
  void unmake() noexcept;

  /// Sets the permissions: `mode`, or 0700 where that takes nothing from anybody but strangers (the
  /// owner runs the command, no setgid bit, ACL or group- or other-write). True if only the owner
  /// can enter now.
  bool set_permissions(const Context& context, std::optional<mode_t> mode, bool keep);
  /// Takes back what set_permissions() did.
  void restore_permissions() noexcept;
  /// Makes the directory and, if make() made it, its name durable.
  void sync() const;
  /// Lets go of the directory: an open descriptor would keep its key busy.
  void close() noexcept { directory_.reset(); }

 private:
  TargetDirectory(std::string path, Identity user) : path_(std::move(path)), user_(user) {}
  void open_made();
  [[nodiscard]] bool was_left_to_root() const;
  void give_to(Identity owner);

  std::string path_;
  std::string name_;
  UniqueFd parent_;
  UniqueFd directory_;
  Identity user_;
  bool made_ = false;
  bool to_be_given_ = false;
  bool given_ = false;
  std::optional<mode_t> previous_mode_;
};

}  // namespace fscryptctl
