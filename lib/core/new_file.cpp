#include "fscryptctl/core/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

constexpr mode_t kOthers = S_IRWXG | S_IRWXO;

/// Runs `action`; an Error that leaves it is about the file as the person named it.
template <class Action>
void about(const std::string& path, Action action) {
  try {
    action();
  } catch (Error& error) {
    error.with_path(path);
    throw;
  }
}

void write_secret(int fd, const SecretBytes& secret, const std::string& path) {
  ByteView rest = secret.view();
  while (!rest.empty()) {
    const ssize_t count = ::write(fd, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error(errno, "cannot write " + printable(path));
    rest = rest.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace

NewFile::NewFile(std::string path) : path_(std::move(path)) {
  const std::size_t slash = path_.find_last_of('/');
  name_ = slash == std::string::npos ? path_ : path_.substr(slash + 1);
  if (name_.empty() || name_ == "." || name_ == "..") {
    throw Error(Errc::usage, printable(path_) + " is not the name of a file").with_path(path_);
  }
  const std::string parent = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  directory_.reset(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory_) throw system_error(errno, printable(parent)).with_path(parent);
}

void NewFile::require_free() const {
  struct stat info {};
  if (::fstatat(directory_.get(), name_.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
    throw Error(Errc::exists, printable(path_) + " exists already").with_path(path_);
  }
}

void NewFile::write(std::string_view contents) const {
  about(path_, [&] { write_new_file_durably(directory_.get(), name_, contents); });
}

void NewFile::write(const SecretBytes& secret) const {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  about(path_, [&] {
    const UniqueFd file(::openat(directory_.get(), name_.c_str(), kFlags, S_IRUSR | S_IWUSR));
    if (!file && errno == EEXIST) require_free();
    if (!file) throw system_error(errno, "cannot write " + printable(path_));
    try {
      write_secret(file.get(), secret, path_);
      sync_file(file.get(), "cannot write " + printable(path_));
      sync_file(directory_.get(), "cannot write the directory of " + printable(path_));
    } catch (...) {
      remove();
      throw;
    }
  });
}

void NewFile::remove() const noexcept {
  if (::unlinkat(directory_.get(), name_.c_str(), 0) == 0) ::fsync(directory_.get());
}

bool NewFile::is_private() const {
  struct stat info {};
  return ::fstatat(directory_.get(), name_.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
         (info.st_mode & kOthers) == 0;
}

NamedText read_named_text(const std::string& path, std::size_t max_size) {
  const NamedFile opened = open_named(path);
  if (!S_ISREG(opened.info.mode)) {
    throw Error(Errc::usage, printable(path) + " is not a regular file").with_path(path);
  }
  if (opened.path_only) {
    throw Error(Errc::permission, printable(path) + " lies in a locked directory").with_path(path);
  }
  if (opened.info.size > max_size) {
    throw Error(Errc::corrupt_metadata, printable(path) + " is too long").with_path(path);
  }
  NamedText read{std::string(static_cast<std::size_t>(opened.info.size), '\0'),
                 (opened.info.mode & kOthers) != 0};
  std::size_t used = 0;
  while (used < read.text.size()) {
    const ssize_t count = ::pread(opened.fd.get(), read.text.data() + used, read.text.size() - used,
                                  static_cast<off_t>(used));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error(errno, printable(path)).with_path(path);
    if (count == 0) break;  // it has become shorter: what is missing will be noticed
    used += static_cast<std::size_t>(count);
  }
  read.text.resize(used);
  return read;
}

}  // namespace fscryptctl
