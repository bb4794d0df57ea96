#include "signals.h"

#include <poll.h>
#include <pthread.h>

#include <cerrno>
#include <csignal>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

// The one thing that a handler may touch.
volatile std::sig_atomic_t caught_signal = 0;

void note_signal(int signal) noexcept { caught_signal = signal; }

void handle_unless_ignored(int signal) noexcept {
  struct sigaction previous {};
  if (sigaction(signal, nullptr, &previous) != 0 || previous.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_handler = note_signal;  // no SA_RESTART: whatever waits is woken
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

/// Blocks SIGINT and SIGTERM, so that they cannot come between a check and a wait.
class Blocked {
 public:
  Blocked() noexcept {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, &previous_);
  }
  ~Blocked() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;

  [[nodiscard]] const sigset_t& previous() const noexcept { return previous_; }

 private:
  sigset_t previous_{};
};

}  // namespace

void install_signal_handlers() noexcept {
  handle_unless_ignored(SIGINT);
  handle_unless_ignored(SIGTERM);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
  sigaction(SIGXFSZ, &ignore, nullptr);  // the write fails, and what was begun is undone
}

void throw_if_interrupted() {
  const int signal = caught_signal;
  if (signal != 0) throw Error(Errc::interrupted, "interrupted", signal);
}

int noted_signal() noexcept { return caught_signal; }

void wait_until_ready(int fd, short events) {
  const Blocked blocked;
  for (;;) {
    throw_if_interrupted();
    pollfd wanted{fd, events, 0};
    if (ppoll(&wanted, 1, nullptr, &blocked.previous()) >= 0) return;
    if (errno != EINTR) throw system_error(errno, "waiting for input");
  }
}

}  // namespace fscryptctl
