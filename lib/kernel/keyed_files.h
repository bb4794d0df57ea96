#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fscryptctl/base/file.h"
#include "fscryptctl/base/mount_table.h"
#include "fscryptctl/kernel/kernel.h"

namespace fscryptctl {

/// What the kernel remembers of a file, without asking the server of a network filesystem, which
/// may hang. Follows the links of /proc; `name` may be empty for `dirfd` itself.
[[nodiscard]] std::optional<struct statx> remembered_status(int dirfd, const std::string& name);
[[nodiscard]] dev_t device_of(const struct statx& status) noexcept;

/// The name in a link of /proc or in a text there; empty where there is none.
[[nodiscard]] std::string link_text(int dirfd, const std::string& name);

/// Tells which files of one filesystem are encrypted with one key. Opens nothing of any other
/// filesystem, of this one only regular files and directories, and keeps nothing open.
class KeyedFiles {
 public:
  KeyedFiles(Kernel& kernel, int fs_fd, const KeySpecifier& key);

  [[nodiscard]] dev_t device() const noexcept { return device_; }
  /// For open_by_handle_at.
  [[nodiscard]] int fs_fd() const noexcept { return fs_fd_; }

  /// Mounts by which files are named, of any mount namespace.
  void learn(const std::vector<Mount>& mounts);

  /// The file behind a link of /proc, whose status this is.
  [[nodiscard]] bool link_has_key(int dirfd, const std::string& name, const struct statx& status);
  /// A file that was opened with O_PATH.
  [[nodiscard]] bool descriptor_has_key(int path_fd);
  /// Whether the regular file or directory with this inode number is known not to have the key.
  [[nodiscard]] bool is_known_not_to_have_key(std::uint64_t inode) const;

  /// A file by its path as somebody with this mount table sees it. The path may end in
  /// " (deleted)" and is then judged by its directory.
  [[nodiscard]] bool path_has_key(const std::vector<Mount>& mounts, std::string_view path);
  /// The same for something of which only the directory tells: a socket, say.
  [[nodiscard]] bool directory_of_path_has_key(const std::vector<Mount>& mounts,
                                               std::string_view path);
  /// A file by its path within the filesystem, under whatever may be mounted on it.
  [[nodiscard]] bool place_has_key(const std::string& place);

 private:
  /// `locked`: encrypted, but it cannot be opened for want of its key, whichever that is.
  enum class Answer { no, yes, unknown, locked };
  [[nodiscard]] static bool is_definite(Answer answer) noexcept {
    return answer == Answer::no || answer == Answer::yes;
  }

  [[nodiscard]] Answer ask_status(const struct statx& status);
  [[nodiscard]] Answer ask_file(int path_fd, const struct statx& status);
  [[nodiscard]] Answer ask_directory_of_link(int path_fd, std::uint64_t mount_id);
  [[nodiscard]] Answer ask_place(const std::string& place);
  [[nodiscard]] Answer look_up_place(const std::string& place);
  [[nodiscard]] bool has_policy_of_key(int fd);

  Kernel& kernel_;
  int fs_fd_;
  KeySpecifier key_;
  dev_t device_;
  UniqueFd base_;                          ///< a mount root, from which places are looked up
  std::string base_place_;                 ///< its place within the filesystem
  std::map<std::uint64_t, Mount> mounts_;  ///< of this filesystem, by id
  std::unordered_map<std::uint64_t, Answer> inodes_;
  std::unordered_map<std::string, Answer> places_;
};

/// The place within its filesystem of what `mount` shows as `path`, if it does.
[[nodiscard]] std::optional<std::string> place_on(const Mount& mount, std::string_view path);

}  // namespace fscryptctl
