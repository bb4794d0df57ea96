#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "login_password.h"
#include "signals.h"

namespace fscryptctl {

Context Invocation::make_context() {
  const Identity caller = own_identity();
  std::optional<Identity> user;
  if (globals.user) {
    user = user_from_text(*globals.user);
    if (caller.uid != 0 && user->uid != caller.uid) {
      throw Error(Errc::permission, "only root may act for another user");
    }
  }
  return Context{kernel_,
                 read_mount_table(),
                 caller,
                 user,
                 globals.config_path,
                 globals.kdf_limit_mib,
                 throw_if_interrupted,
                 [this](const std::string& step) { out.verbose(step); },
                 verify_login_password};
}

}  // namespace fscryptctl
