#include "support/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>

namespace fscryptctl::test {
namespace {

void mount_or_throw(const char* source, const std::string& path, const char* type,
                    unsigned long flags, const char* options) {
  if (mount(source, path.c_str(), type, flags, options) != 0) {
    throw std::system_error(errno, std::generic_category(), "mount");
  }
}

}  // namespace

ScopedMount ScopedMount::tmpfs(const std::string& path, const std::string& options) {
  mount_or_throw("tmpfs", path, "tmpfs", MS_NODEV | MS_NOSUID, options.c_str());
  return ScopedMount(path);
}

ScopedMount ScopedMount::bind(const std::string& path) {
  mount_or_throw(path.c_str(), path, nullptr, MS_BIND, nullptr);
  return ScopedMount(path);
}

ScopedMount ScopedMount::hanging(const std::string& path, uid_t uid) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    throw std::system_error(errno, std::generic_category(), "stat");
  }
  ScopedMount result(path);
  result.server_.reset(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  const std::string options = "fd=" + std::to_string(result.server_.get()) +
                              ",rootmode=" + (S_ISDIR(status.st_mode) ? "40000" : "100000") +
                              ",user_id=" + std::to_string(uid) +
                              ",group_id=" + std::to_string(uid) + ",allow_other";
  try {
    mount_or_throw("hanging", path, "fuse", MS_NODEV | MS_NOSUID, options.c_str());
  } catch (...) {
    result.path_.clear();
    throw;
  }
  return result;
}

ScopedMount::~ScopedMount() {
  server_.reset();  // whoever hangs in there gets ENOTCONN
  if (!path_.empty()) umount2(path_.c_str(), MNT_DETACH);
}

void ScopedMount::make_read_only() {
  mount_or_throw(nullptr, path_, nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
}

}  // namespace fscryptctl::test
