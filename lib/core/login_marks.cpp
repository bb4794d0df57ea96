#include "fscryptctl/core/login_marks.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

constexpr const char* kMarks = "marks";
constexpr std::size_t kMaxMarks = 1024;
constexpr mode_t kPublic = 0755;
constexpr mode_t kPrivate = 0700;
constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

std::string file_name(const LoginMarks::Mark& mark) {
  return mark.key.hex() + "-" + std::to_string(mark.device);
}

std::optional<LoginMarks::Mark> from_file_name(const std::string& name) {
  const std::size_t dash = name.find('-');
  if (dash == std::string::npos) return std::nullopt;
  const std::optional<KeyIdentifier> key = KeyIdentifier::from_hex(name.substr(0, dash));
  dev_t device = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + dash + 1, end, device);
  if (!key || error != std::errc() || stop != end) return std::nullopt;
  return LoginMarks::Mark{*key, device};
}

UniqueFd open_root_directory(int parent, const char* name, const std::string& path) {
  UniqueFd directory(::openat(parent, name, kDirectory));
  if (!directory) throw system_error(errno, "cannot open " + path).with_path(path);
  const FileInfo info = file_info(directory.get());
  if (info.uid != 0 || (info.mode & (S_IWGRP | S_IWOTH)) != 0) {
    throw Error(Errc::untrusted_metadata, path + " does not belong to root alone").with_path(path);
  }
  return directory;
}

UniqueFd provide(int parent, const char* name, const std::string& path) {
  if (::mkdirat(parent, name, kPublic) != 0 && errno != EEXIST) {
    throw system_error(errno, "cannot make " + path).with_path(path);
  }
  return open_root_directory(parent, name, path);
}

/// The user's directory among the marks; an empty descriptor if there is none. She may have mounted
/// something over it: that is refused before it is asked anything.
UniqueFd open_own(int marks, Identity user) {
  std::optional<UniqueFd> directory = open_directory_beneath(marks, std::to_string(user.uid));
  if (!directory || file_info(directory->get()).uid != user.uid) return UniqueFd();
  return std::move(*directory);
}

}  // namespace

UniqueFd login_state_directory(const std::string& name) {
  const std::string state = kLoginStateDirectory;
  // The umask is the host program's; these are public, what is in them is not.
  const mode_t umask_before = ::umask(022);
  try {
    const UniqueFd top = provide(AT_FDCWD, state.c_str(), state);
    UniqueFd directory = provide(top.get(), name.c_str(), state + "/" + name);
    ::umask(umask_before);
    return directory;
  } catch (...) {
    ::umask(umask_before);
    throw;
  }
}

std::optional<LoginMarks> LoginMarks::open(Identity user) {
  const std::string path = std::string(kLoginStateDirectory) + "/" + kMarks;
  const UniqueFd marks(::open(path.c_str(), kDirectory));
  if (!marks) return std::nullopt;
  const ActAs acting(user);
  UniqueFd own = open_own(marks.get(), user);
  if (!own) return std::nullopt;
  return LoginMarks(std::move(own), user);
}

LoginMarks LoginMarks::create(Identity user) {
  const UniqueFd marks = login_state_directory(kMarks);
  const std::string name = std::to_string(user.uid);
  // Made under another name, so that it is never anybody's but the user's.
  if (!entry_info(marks.get(), name)) {
    const std::string fresh = ".new-" + name + "-" + std::to_string(::getpid());
    if (::mkdirat(marks.get(), fresh.c_str(), kPrivate) != 0 && errno != EEXIST) {
      throw system_error(errno, "cannot make a directory for the marks of a login");
    }
    if (::fchownat(marks.get(), fresh.c_str(), user.uid, user.gid, AT_SYMLINK_NOFOLLOW) != 0 ||
        ::renameat(marks.get(), fresh.c_str(), marks.get(), name.c_str()) != 0) {
      ::unlinkat(marks.get(), fresh.c_str(), AT_REMOVEDIR);
    }
  }
  std::optional<LoginMarks> made = open(user);
  if (!made) throw Error(Errc::io, "there is no directory for the marks of a login");
  return std::move(*made);
}

void LoginMarks::add(const Mark& mark) const {
  const ActAs acting(user_);
  const UniqueFd file(::openat(directory_.get(), file_name(mark).c_str(),
                               O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  if (!file) throw system_error(errno, "cannot mark a key as added by a login");
}

void LoginMarks::remove(const Mark& mark) const noexcept {
  try {
    const ActAs acting(user_);
    ::unlinkat(directory_.get(), file_name(mark).c_str(), 0);
  } catch (const Error&) {
    return;
  }
}

std::vector<LoginMarks::Mark> LoginMarks::all() const {
  std::vector<Mark> marks;
  const ActAs acting(user_);
  for (const std::string& name : directory_names(directory_.get(), kMaxMarks).names) {
    if (const std::optional<Mark> mark = from_file_name(name)) marks.push_back(*mark);
  }
  return marks;
}

void forget_login_mark(Identity user, const LoginMarks::Mark& mark) noexcept {
  try {
    const std::optional<LoginMarks> marks = LoginMarks::open(user);
    if (marks) marks->remove(mark);
  } catch (const std::exception&) {
    return;
  }
}

}  // namespace fscryptctl
