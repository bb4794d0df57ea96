#include <fcntl.h>
#include <sys/stat.h>

#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "login_password.h"
#include "signals.h"

namespace fscryptctl {

namespace {

std::optional<std::string> google_fscrypt_mount(const std::vector<Mount>& mounts,
                                                const std::string& path) {
  try {
    const NamedFile file = open_named(path);
    const Filesystem filesystem = Filesystem::of(file.fd.get(), mounts, path);
    struct stat info {};
    if (::fstatat(filesystem.root_fd(), ".fscrypt", &info, AT_SYMLINK_NOFOLLOW) != 0) {
      return std::nullopt;
    }
    return filesystem.mount().mount_point;
  } catch (const Error&) {
    return std::nullopt;  // it is advice for another error, which is being reported
  }
}

}  // namespace

Context Invocation::make_context() {
  const Identity caller = own_identity();
  std::optional<Identity> user;
  if (globals.user) {
    user = user_from_text(*globals.user);
    if (caller.uid != 0 && user->uid != caller.uid) {
      throw Error(Errc::permission, "only root may act for another user");
    }
  }
  std::vector<Mount> mounts = read_mount_table();
  out.hints.google_fscrypt_mount = [mounts](const std::string& path) {
    return google_fscrypt_mount(mounts, path);
  };
  return Context{kernel_,
                 std::move(mounts),
                 caller,
                 user,
                 globals.config_path,
                 globals.kdf_limit_mib,
                 throw_if_interrupted,
                 [this](const std::string& step) { out.verbose(step); },
                 verify_login_password};
}

}  // namespace fscryptctl
