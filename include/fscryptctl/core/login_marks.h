#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/fs_identity.h"

namespace fscryptctl {

/// Where the state of logins lies until the machine is started again.
inline constexpr const char* kLoginStateDirectory = "/run/fscryptctl";

/// Which keys a user's login added, so that the last logout takes away these and no others. Each is
/// a file in a directory of the user's own: `unlock` by hand, which runs as the user, takes the
/// mark away, and a user who writes marks herself only has her own keys taken away.
class LoginMarks {
 public:
  struct Mark {
    KeyIdentifier key;
    dev_t device;
  };

  /// nullopt if the user has none. Throws io, untrusted_metadata.
  [[nodiscard]] static std::optional<LoginMarks> open(Identity user);
  /// Makes the directory; only root can. Throws io, permission, untrusted_metadata.
  [[nodiscard]] static LoginMarks create(Identity user);

  void add(const Mark& mark) const;
  void remove(const Mark& mark) const noexcept;
  /// At most 1024.
  [[nodiscard]] std::vector<Mark> all() const;

 private:
  LoginMarks(UniqueFd directory, Identity user) : directory_(std::move(directory)), user_(user) {}

  UniqueFd directory_;
  Identity user_;
};

/// After an unlock by hand: no logout takes the key away. Whatever fails is of no consequence.
void forget_login_mark(Identity user, const LoginMarks::Mark& mark) noexcept;

/// A directory of root's below kLoginStateDirectory, made if it is missing. Only root can.
[[nodiscard]] UniqueFd login_state_directory(const std::string& name);

}  // namespace fscryptctl
