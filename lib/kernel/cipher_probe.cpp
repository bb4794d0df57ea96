#include "fscryptctl/kernel/cipher_probe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/crypto/random.h"

namespace fscryptctl {
namespace {

constexpr const char* kFileName = "file";
constexpr const char* kDirectoryName = "directory";

/// A directory for the experiment, removed with all that the experiment may have left in it.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(int parent_fd) : parent_fd_(parent_fd), name_(random_name()) {
    if (mkdirat(parent_fd_, name_.c_str(), 0700) != 0) {
      throw system_error(errno, "cannot make a directory to try the ciphers in");
    }
    fd_.reset(openat(parent_fd_, name_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd_) {
      const int sys_errno = errno;
      unlinkat(parent_fd_, name_.c_str(), AT_REMOVEDIR);
      throw system_error(sys_errno, "cannot open the directory to try the ciphers in");
    }
  }
  ~ScratchDirectory() {
    unlinkat(fd_.get(), kFileName, 0);
    unlinkat(fd_.get(), kDirectoryName, AT_REMOVEDIR);
    unlinkat(parent_fd_, name_.c_str(), AT_REMOVEDIR);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  static std::string random_name() {
    std::array<std::uint8_t, 8> random{};
    fill_random(random);
    return std::string(kTemporaryPrefix) + to_hex(random);
  }

  int parent_fd_;
  std::string name_;
  UniqueFd fd_;
};

/// Ciphers are looked up when a file's key is first used; what is missing shows only then.
void require(bool succeeded, const EncryptionOptions& options) {
  if (succeeded) return;
  const int sys_errno = errno;
  if (sys_errno != ENOPKG && sys_errno != EINVAL) {
    throw system_error(sys_errno, "cannot make an encrypted file to try the ciphers with");
  }
  throw Error(Errc::mode,
              std::string(mode_name(options.contents)) + " / " +
                  std::string(mode_name(options.filenames)) +
                  " does not work on this filesystem with this kernel",
              sys_errno);
}

/// Without a name if the filesystem can do that, so that even a crash leaves no file.
UniqueFd make_file(int directory_fd) {
  UniqueFd file(openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file || errno == ENOPKG) return file;
  constexpr int kFlags = O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC;
  return UniqueFd(openat(directory_fd, kFileName, kFlags, 0600));
}

void try_contents(int directory_fd, const EncryptionOptions& options) {
  const UniqueFd file = make_file(directory_fd);
  require(static_cast<bool>(file), options);
  constexpr std::array<std::uint8_t, 16> kSample{};
  errno = EFBIG;  // what is written only in part meets the limit on the size of files
  require(write(file.get(), kSample.data(), kSample.size()) == std::ssize(kSample), options);
}

void try_names(int directory_fd, const EncryptionOptions& options) {
  require(mkdirat(directory_fd, kDirectoryName, 0700) == 0, options);
}

}  // namespace

void require_working_ciphers(Kernel& kernel, int parent_fd, const KernelPolicy& policy) {
  const ScratchDirectory scratch(parent_fd);
  kernel.set_policy(scratch.fd(), policy);
  try_contents(scratch.fd(), policy.options);
  try_names(scratch.fd(), policy.options);
}

}  // namespace fscryptctl
