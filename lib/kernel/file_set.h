#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/base/mount_table.h"

namespace fscryptctl {

/// What the kernel remembers of a file, without asking the server of a network filesystem, which
/// may hang. Follows the links of /proc; `name` may be empty for `dirfd` itself.
[[nodiscard]] std::optional<struct statx> remembered_status(int dirfd, const std::string& name);
[[nodiscard]] dev_t device_of(const struct statx& status) noexcept;

/// The name in a link of /proc or in a text there; empty where there is none.
[[nodiscard]] std::string link_text(int dirfd, const std::string& name);

/// The place within its filesystem of what `mount` shows as `path`, if it does.
[[nodiscard]] std::optional<std::string> place_on(const Mount& mount, std::string_view path);
/// The place of `path` if it is on `device`. Among mounts whose names lead to it the deepest
/// counts, among equal ones the last, which covers the others.
[[nodiscard]] std::optional<std::string> place_in(const std::vector<Mount>& mounts, dev_t device,
                                                  std::string_view path);
/// The part of `path` below `directory`: empty or starting with a slash.
[[nodiscard]] std::optional<std::string_view> part_below(std::string_view path,
                                                         std::string_view directory);

/// Files of one filesystem whose users somebody wants to know.
class FileSet {
 public:
  /// `fs_fd` is for open_by_handle_at.
  explicit FileSet(int fs_fd);
  FileSet(const FileSet&) = delete;
  FileSet& operator=(const FileSet&) = delete;
  virtual ~FileSet() = default;

  [[nodiscard]] dev_t device() const noexcept { return device_; }
  [[nodiscard]] int fs_fd() const noexcept { return fs_fd_; }

  /// Mounts by which files are named, of any mount namespace.
  virtual void learn(const std::vector<Mount>& mounts) = 0;

  /// The file behind a link of /proc, whose status this is.
  [[nodiscard]] virtual bool contains_link(int dirfd, const std::string& name,
                                           const struct statx& status) = 0;
  /// A file that was opened with O_PATH.
  [[nodiscard]] virtual bool contains_descriptor(int path_fd) = 0;
  /// Whether the regular file or directory with this inode number is known not to be one of them.
  [[nodiscard]] virtual bool is_known_outside(std::uint64_t inode) const = 0;

  /// A file by its path as somebody with this mount table sees it. The path may end in
  /// " (deleted)".
  [[nodiscard]] virtual bool contains_path(const std::vector<Mount>& mounts,
                                           std::string_view path) = 0;
  /// The same for something of which only the directory tells: a socket, say.
  [[nodiscard]] virtual bool contains_directory_of_path(const std::vector<Mount>& mounts,
                                                        std::string_view path) = 0;
  /// A file by its path within the filesystem, under whatever may be mounted on it.
  [[nodiscard]] virtual bool contains_place(const std::string& place) = 0;

 private:
  int fs_fd_;
  dev_t device_;
};

}  // namespace fscryptctl
