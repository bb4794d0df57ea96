#pragma once

#include <functional>
#include <string>

#include "fscryptctl/base/file.h"

namespace fscryptctl::test {

/// Whether tests with real mounts can run in this process. The first call moves the process into a
/// mount namespace of its own, so that nothing mounted here outlives it or is seen by others.
/// Where that is not permitted it says so loudly and returns false, for the test to return; with
/// CI=true in the environment the test fails instead.
[[nodiscard]] bool can_mount();

/// A loop device on an open image; `device` becomes its name. It detaches itself with its last
/// user, of which the returned descriptor is one.
[[nodiscard]] UniqueFd attach_loop_device(int image_fd, std::string& device);

/// A scratch ext4 on a loop device, mounted while this lives. Call can_mount() before.
class Ext4 {
 public:
  /// `features` as for mkfs.ext4 -O.
  explicit Ext4(const std::string& features = "encrypt");
  ~Ext4();
  Ext4(const Ext4&) = delete;
  Ext4& operator=(const Ext4&) = delete;

  /// Unmounts, runs `meanwhile` on the device, and mounts again: nothing is cached, no key is left.
  /// Nothing on the filesystem may be open.
  void remount(const std::function<void()>& meanwhile = [] {});

  /// The mount point; its directory belongs to root, mode 0755.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// The block device, "/dev/loopN".
  [[nodiscard]] const std::string& device() const noexcept { return device_; }
  /// Descriptor of the mount point's directory.
  [[nodiscard]] int fd() const noexcept { return root_.get(); }

 private:
  void mount_device();

  std::string path_;
  std::string device_;
  UniqueFd root_;
};

}  // namespace fscryptctl::test
