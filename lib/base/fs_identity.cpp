#include "fscryptctl/base/fs_identity.h"

#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

// An impossible id changes nothing, and both calls return the id from before: the only way to read.
Identity filesystem_identity() noexcept {
  return {static_cast<uid_t>(setfsuid(static_cast<uid_t>(-1))),
          static_cast<gid_t>(setfsgid(static_cast<gid_t>(-1)))};
}

bool may_override_permissions() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (syscall(SYS_capget, &header, data.data()) != 0) {
    throw system_error(errno, "cannot read this process's capabilities");
  }
  static_assert(CAP_DAC_OVERRIDE < 32);
  return (data[0].effective & (std::uint32_t{1} << unsigned{CAP_DAC_OVERRIDE})) != 0;
}

/// The group while the user still permits it on the way in, and after her on the way out.
bool become(Identity identity) noexcept {
  setfsgid(identity.gid);
  setfsuid(identity.uid);
  const Identity now = filesystem_identity();
  return now.uid == identity.uid && now.gid == identity.gid;
}

}  // namespace

Identity own_identity() noexcept { return {geteuid(), getegid()}; }

ActAs::ActAs(Identity identity) : previous_(filesystem_identity()) {
  if (previous_.uid == identity.uid) return;
  if (previous_.uid != geteuid()) {
    throw Error(Errc::internal, "already acting as another user");
  }
  const std::string user = "user " + std::to_string(identity.uid);
  const bool became = become(identity);
  if (!became || may_override_permissions()) {
    become(previous_);
    throw Error(Errc::permission, became ? "cannot act as " + user + ": root's rights would stay"
                                         : "cannot act as " + user);
  }
  switched_ = true;
}

ActAs::~ActAs() {
  // Going back to the effective ids is always permitted. If it failed all the same, everything that
  // follows would happen as the wrong user.
  if (switched_ && !become(previous_)) std::abort();
}

}  // namespace fscryptctl
