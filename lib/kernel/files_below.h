#pragma once

#include <map>
#include <string>
#include <vector>

#include "file_set.h"

namespace fscryptctl {

/// A directory and what lies below it, told by names. Opens nothing. A file that is in use by a
/// name elsewhere, or of which only a descriptor is known, is not found.
class FilesBelow final : public FileSet {
 public:
  /// `place`: of the directory within the filesystem of `fs_fd`, beginning with a slash.
  FilesBelow(int fs_fd, std::string place) : FileSet(fs_fd), place_(std::move(place)) {}

  void learn(const std::vector<Mount>& mounts) override;
  [[nodiscard]] bool contains_link(int dirfd, const std::string& name,
                                   const struct statx& status) override;
  [[nodiscard]] bool contains_descriptor(int path_fd) override;
  [[nodiscard]] bool is_known_outside(std::uint64_t /*inode*/) const override { return false; }
  [[nodiscard]] bool contains_path(const std::vector<Mount>& mounts,
                                   std::string_view path) override;
  [[nodiscard]] bool contains_directory_of_path(const std::vector<Mount>& mounts,
                                                std::string_view path) override;
  [[nodiscard]] bool contains_place(const std::string& place) override;

 private:
  std::string place_;
  std::map<std::uint64_t, Mount> mounts_;  ///< of this filesystem, by id
};

}  // namespace fscryptctl
