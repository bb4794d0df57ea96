#include "file_set.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <climits>

#include "fscryptctl/base/file.h"

namespace fscryptctl {

std::optional<struct statx> remembered_status(int dirfd, const std::string& name) {
  // An empty mask, too: FUSE refuses even root the attributes of another user's files, but not
  // their device.
  constexpr int kFlags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_EMPTY_PATH;
  struct statx status {};
  if (statx(dirfd, name.c_str(), kFlags, 0, &status) != 0) return std::nullopt;
  return status;
}

dev_t device_of(const struct statx& status) noexcept {
  return makedev(status.stx_dev_major, status.stx_dev_minor);
}

std::string link_text(int dirfd, const std::string& name) {
  std::array<char, PATH_MAX> text{};
  const ssize_t size = readlinkat(dirfd, name.c_str(), text.data(), text.size());
  return size < 0 ? std::string() : std::string(text.data(), static_cast<std::size_t>(size));
}

std::optional<std::string> place_on(const Mount& mount, std::string_view path) {
  const auto below = part_below(path, mount.mount_point);
  if (!below) return std::nullopt;
  if (mount.root == "/" && !below->empty()) return std::string(*below);
  return mount.root + std::string(*below);
}

std::optional<std::string_view> part_below(std::string_view path, std::string_view directory) {
  if (directory == "/") directory = "";
  if (!path.starts_with(directory)) return std::nullopt;
  path.remove_prefix(directory.size());
  if (!path.empty() && path.front() != '/') return std::nullopt;
  return path == "/" ? std::string_view() : path;
}

std::optional<std::string> place_in(const std::vector<Mount>& mounts, dev_t device,
                                    std::string_view path) {
  const Mount* covering = nullptr;
  for (const Mount& mount : mounts) {
    if (!part_below(path, mount.mount_point)) continue;
    if (covering == nullptr || mount.mount_point.size() >= covering->mount_point.size()) {
      covering = &mount;
    }
  }
  if (covering == nullptr || covering->device != device) return std::nullopt;
  return place_on(*covering, path);
}

FileSet::FileSet(int fs_fd) : fs_fd_(fs_fd), device_(file_info(fs_fd).device) {}

}  // namespace fscryptctl
