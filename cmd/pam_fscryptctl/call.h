#pragma once

#include <security/pam_modules.h>
#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "fscryptctl/core/login_keys.h"
#include "fscryptctl/core/login_session.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "handoff.h"
#include "options.h"

namespace fscryptctl::pam {

/// What one login knows between PAM's calls. It lies in PAM's data, wiped when that goes. No
/// descriptor but the session's is kept, and no thread, lock or hashing memory.
struct State {
  std::string user;
  bool had_password = false;
  ProtectorKeys keys;
  HashedPassword hashed;                ///< of the login password
  std::optional<SecretBytes> password;  ///< only until it is known if something needs it
  bool unsettled = false;               ///< some record has to be written
  HashedPassword hashed_old;            ///< of the previous password, while it is changed
  std::optional<LoginSession> session;
};

/// One call from PAM. Throws Error; whoever runs it catches everything.
class Call {
 public:
  Call(pam_handle_t* handle, int flags, int argc, const char** argv);

  void authenticate();
  void account();
  void open_session();
  void close_session();
  void password_before();
  void password_update();

 private:
  struct Person {
    LoginUser user;
    std::string home;
  };

  [[nodiscard]] bool skipped() const;
  [[nodiscard]] std::optional<Person> person() const;
  [[nodiscard]] std::optional<SecretBytes> item(int type) const;
  [[nodiscard]] State& state();
  [[nodiscard]] State* state_if_any() const;
  [[nodiscard]] Context make_context(const LoginUser& user);

  void heal(LoginKeys& keys, const SecretBytes& password, const HashedPassword& hashed_password);
  [[nodiscard]] std::optional<SecretBytes> ask(const char* question);
  void say(bool error, const std::string& text) const;
  void log(int priority, const std::string& text) const;
  void keep(const LoginKeys& keys, State& state) const;
  void leave_for_session(const State& state, uid_t user) const;
  [[nodiscard]] ProtectorKeys take_from_environment(uid_t user) const;
  [[nodiscard]] bool may_prompt() const;
  [[nodiscard]] std::optional<LoginTurn> count_session(State& known, Identity user) const;
  void explain_locked(const State& state, const LoginUnlock& result) const;

  pam_handle_t* handle_;
  int flags_;
  Options options_;
  std::string service_;
  std::string name_;
  LinuxKernel kernel_;
  LoginBudget budget_;
};

}  // namespace fscryptctl::pam
