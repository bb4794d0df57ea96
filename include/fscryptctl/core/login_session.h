#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fscryptctl/core/login.h"
#include "fscryptctl/core/login_budget.h"
#include "fscryptctl/core/login_marks.h"

namespace fscryptctl {

/// One session among those of its user: a file that is locked as long as the session lives. A
/// session whose process was killed stops to count by itself.
class LoginSession {
 public:
  /// Throws io, permission.
  [[nodiscard]] static LoginSession begin(Identity user);

  LoginSession(LoginSession&& other) noexcept = default;
  LoginSession& operator=(LoginSession&&) = delete;
  ~LoginSession();

  /// Takes this session off the list. Host programs may have closed or reused our descriptor
  /// meanwhile: it is touched only if it still is what it was.
  void end() noexcept;

  /// True if the user has no session that still lives.
  [[nodiscard]] static bool none_left(Identity user);

 private:
  LoginSession(UniqueFd file, Identity user, std::string name);

  UniqueFd file_;
  Identity user_;
  std::string name_;
  dev_t device_ = 0;
  std::uint64_t inode_ = 0;
};

/// Only one login or logout of a user at a time changes what is unlocked. Released when it goes.
class LoginTurn {
 public:
  /// nullopt if it is not to be had within `patience`.
  [[nodiscard]] static std::optional<LoginTurn> take(Identity user,
                                                     std::chrono::milliseconds patience);

 private:
  explicit LoginTurn(UniqueFd file) : file_(std::move(file)) {}
  UniqueFd file_;
};

struct LoginUnlock {
  int added = 0;    ///< keys that this login added
  int present = 0;  ///< the user had them already
  int failed = 0;
  std::string first_path;    ///< of a directory that stays locked
  std::string first_reason;  ///< of those that failed
  bool complete = true;      ///< false if there was no time for more
};

/// Adds the keys of all policies that these protectors open, as the user, and marks those that she
/// had no claim to before. Of what only other protectors among `logins` open it tells that it stays
/// locked. Records that cannot be used, and those that the budget leaves no time for, are told
/// to `context.explain`. Where marking fails, keys are added all the same.
[[nodiscard]] LoginUnlock unlock_for_login(
    Context& context, const std::vector<std::shared_ptr<const LoginPlace>>& places,
    const std::map<ProtectorId, ProtectorKey>& keys, const std::set<ProtectorId>& logins,
    const LoginBudget& budget);

/// What kept the keys of a user from going.
struct LoginLock {
  bool complete = true;             ///< nothing is left to be tried again
  std::vector<std::string> in_use;  ///< for the log: paths with who uses them
};

/// One try to take away the keys that logins added. Marks of those that are gone are removed.
/// `name_holders`: looks for a few seconds at most who keeps files in use.
[[nodiscard]] LoginLock lock_after_logout(Context& context, Identity user, bool name_holders);

}  // namespace fscryptctl
