#include "files_below.h"

#include <fcntl.h>

#include "fscryptctl/base/file.h"

namespace fscryptctl {

void FilesBelow::learn(const std::vector<Mount>& mounts) {
  for (const Mount& mount : mounts) {
    if (mount.device == device()) mounts_.try_emplace(mount.id, mount);
  }
}

bool FilesBelow::contains_place(const std::string& place) {
  return part_below(place, place_).has_value();
}

bool FilesBelow::contains_path(const std::vector<Mount>& mounts, std::string_view path) {
  const std::optional<std::string> place = place_in(mounts, device(), path);
  return place && contains_place(*place);
}

bool FilesBelow::contains_directory_of_path(const std::vector<Mount>& mounts,
                                            std::string_view path) {
  return contains_path(mounts, path);
}

bool FilesBelow::contains_descriptor(int path_fd) {
  const auto status = remembered_status(path_fd, "");
  if (!status || device_of(*status) != device()) return false;
  const auto mount = mounts_.find(status->stx_mnt_id);
  if (mount == mounts_.end()) return false;
  const std::string path = link_text(AT_FDCWD, "/proc/self/fd/" + std::to_string(path_fd));
  const std::optional<std::string> place = place_on(mount->second, path);
  return place && contains_place(*place);
}

bool FilesBelow::contains_link(int dirfd, const std::string& name, const struct statx& status) {
  if (device_of(status) != device()) return false;
  const UniqueFd path_fd(openat(dirfd, name.c_str(), O_PATH | O_CLOEXEC));
  return path_fd && contains_descriptor(path_fd.get());
}

}  // namespace fscryptctl
