#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>

namespace fscryptctl::test {

/// Whether `check` returns true in a forked child, for what cannot be taken back in this process:
/// limits and user ids. Nothing inside may use the test framework.
template <class Check>
[[nodiscard]] bool holds_in_child(const Check& check) {
  const pid_t child = fork();
  if (child == 0) {
    bool held = false;
    try {
      held = check();
    } catch (const std::exception&) {
      held = false;
    }
    _exit(held ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == EXIT_SUCCESS;
}

/// Gives up root, so that the limits of ordinary users apply; no other process has this uid.
/// True, too, for who is not root.
[[nodiscard]] inline bool become_ordinary_user() {
  constexpr uid_t kNobodyElse = 54321;
  return geteuid() != 0 || setresuid(kNobodyElse, kNobodyElse, kNobodyElse) == 0;
}

}  // namespace fscryptctl::test
