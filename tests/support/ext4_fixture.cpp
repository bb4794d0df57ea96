#include "support/ext4_fixture.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <vector>

namespace fscryptctl::test {
namespace {

constexpr off_t kImageSize = off_t{32} << 20;

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

bool enter_private_mount_namespace() {
  return unshare(CLONE_NEWNS) == 0 &&
         mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

void run(std::vector<std::string> arguments) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::array<char*, 1> environment = {nullptr};
  pid_t pid = 0;
  errno = posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environment.data());
  if (errno != 0) fail(arguments[0]);
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) fail("waitpid");
  if (status != 0) throw std::runtime_error(arguments[0] + " failed");
}

/// An image in memory with a filesystem: gone with its last user, and never waits for a disk.
UniqueFd make_image(const std::string& features) {
  UniqueFd image(memfd_create("fscryptctl-test-image", MFD_CLOEXEC));
  if (!image || ftruncate(image.get(), kImageSize) != 0) fail("image");
  const std::string name =
      "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(image.get());
  run({"/sbin/mkfs.ext4", "-q", "-b", "4096", "-O", features, name});
  return image;
}

}  // namespace

UniqueFd attach_loop_device(int image_fd, std::string& device) {
  const UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) fail("/dev/loop-control");
  constexpr int kAttempts = 50;  // another process may take the free device first
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) fail("LOOP_CTL_GET_FREE");
    device = "/dev/loop" + std::to_string(number);
    UniqueFd loop(open(device.c_str(), O_RDWR | O_CLOEXEC));
    if (!loop) fail(device);
    loop_config config{};
    config.fd = static_cast<__u32>(image_fd);
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) return loop;
    if (errno != EBUSY) fail("LOOP_CONFIGURE");
  }
  throw std::runtime_error("no free loop device");
}

bool can_mount() {
  static const bool possible = enter_private_mount_namespace();
  if (possible) return true;
  const char* const ci = std::getenv("CI");  // NOLINT(concurrency-mt-unsafe): nobody sets any
  if (ci != nullptr && std::string_view(ci) == "true") {
    FAIL("tests with a real filesystem need root, and under CI they must not be skipped");
  }
  WARN("SKIPPED: tests with a real filesystem need root");
  return false;
}

Ext4::Ext4(const std::string& features) {
  const UniqueFd image = make_image(features);
  const UniqueFd loop = attach_loop_device(image.get(), device_);
  path_ = "/tmp/fscryptctl-test-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) fail("mkdtemp");
  try {
    mount_device();
  } catch (...) {
    rmdir(path_.c_str());
    throw;
  }
}

void Ext4::mount_device() {
  if (mount(device_.c_str(), path_.c_str(), "ext4", MS_NODEV | MS_NOSUID, nullptr) != 0) {
    fail("mount");
  }
  root_.reset(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

void Ext4::remount(const std::function<void()>& meanwhile) {
  // Without this descriptor the loop device would detach itself in between.
  const UniqueFd device(open(device_.c_str(), O_RDONLY | O_CLOEXEC));
  root_.reset();
  if (!device || umount2(path_.c_str(), 0) != 0) fail("unmount");
  meanwhile();
  mount_device();
}

Ext4::~Ext4() {
  root_.reset();
  // Lazily if something is still open: it goes with the process at the latest.
  if (umount2(path_.c_str(), 0) != 0) umount2(path_.c_str(), MNT_DETACH);
  rmdir(path_.c_str());
}

}  // namespace fscryptctl::test
