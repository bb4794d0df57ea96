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

#include "file_set.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/mount_table.h"
#include "fscryptctl/kernel/kernel.h"

namespace fscryptctl {

/// Tells which files of one filesystem are encrypted with one key. Opens nothing of any other
/// filesystem, of this one only regular files and directories, and keeps nothing open.
class KeyedFiles final : public FileSet {
 public:
  KeyedFiles(Kernel& kernel, int fs_fd, const KeySpecifier& key);

  void learn(const std::vector<Mount>& mounts) override;
  [[nodiscard]] bool contains_link(int dirfd, const std::string& name,
                                   const struct statx& status) override;
  [[nodiscard]] bool contains_descriptor(int path_fd) override;
  [[nodiscard]] bool is_known_outside(std::uint64_t inode) const override;
  [[nodiscard]] bool contains_path(const std::vector<Mount>& mounts,
                                   std::string_view path) override;
  [[nodiscard]] bool contains_directory_of_path(const std::vector<Mount>& mounts,
                                                std::string_view path) override;
  [[nodiscard]] bool contains_place(const std::string& place) override;

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
  KeySpecifier key_;
  UniqueFd base_;                          ///< a mount root, from which places are looked up
  std::string base_place_;                 ///< its place within the filesystem
  std::map<std::uint64_t, Mount> mounts_;  ///< of this filesystem, by id
  std::unordered_map<std::uint64_t, Answer> inodes_;
  std::unordered_map<std::string, Answer> places_;
};

}  // namespace fscryptctl
