#include "terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>

#include "fscryptctl/base/error.h"
#include "signals.h"

namespace fscryptctl {
namespace {

// The kernel drops what is typed beyond this in one line, and says nothing.
constexpr std::size_t kTerminalLineLimit = 4095;

/// Takes the signals that would end or stop the process while a terminal is changed, so that they
/// can be acted upon after it has been changed back.
class HeldSignals {
 public:
  HeldSignals() {
    sigset_t held;
    sigemptyset(&held);
    pthread_sigmask(SIG_SETMASK, nullptr, &previous_);
    for (const int signal : {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGTSTP, SIGCONT}) {
      // One that was blocked already would stay pending and be found again for ever.
      if (sigismember(&previous_, signal) == 0) sigaddset(&held, signal);
    }
    fd_ = UniqueFd(signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_) throw system_error(errno, "watching signals");
    pthread_sigmask(SIG_BLOCK, &held, nullptr);
  }
  ~HeldSignals() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  /// Waits for the terminal; the signal's number if one comes first, else 0.
  [[nodiscard]] int wait(int terminal, short events) const {
    for (;;) {
      pollfd wanted[] = {{fd_.get(), POLLIN, 0}, {terminal, events, 0}};
      if (poll(wanted, 2, -1) < 0) {
        if (errno == EINTR) continue;
        throw system_error(errno, "waiting for the terminal");
      }
      signalfd_siginfo signal{};
      if (read(fd_.get(), &signal, sizeof(signal)) == sizeof(signal)) {
        return static_cast<int>(signal.ssi_signo);
      }
      if (wanted[1].revents != 0) return 0;
    }
  }

 private:
  sigset_t previous_{};
  UniqueFd fd_;
};

/// Turns echo off, and on again as it was.
class Echo {
 public:
  Echo(int terminal, bool wanted) : terminal_(terminal) {
    if (tcgetattr(terminal_, &previous_) != 0) throw system_error(errno, "terminal");
    termios changed = previous_;
    changed.c_lflag |= ICANON | ISIG;
    changed.c_iflag |= ICRNL;
    if (!wanted) changed.c_lflag = (changed.c_lflag & ~static_cast<tcflag_t>(ECHO)) | ECHONL;
    // What was typed before could be seen: it is dropped.
    if (tcsetattr(terminal_, TCSAFLUSH, &changed) != 0) throw system_error(errno, "terminal");
  }
  ~Echo() { tcsetattr(terminal_, TCSADRAIN, &previous_); }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;

 private:
  int terminal_;
  termios previous_{};
};

/// Writes; the signal's number if one comes before the end, else 0.
int write_to(int terminal, const HeldSignals& signals, std::string_view text) {
  while (!text.empty()) {
    if (const int signal = signals.wait(terminal, POLLOUT); signal != 0) return signal;
    const ssize_t written = write(terminal, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR && errno != EAGAIN) {
      throw system_error(errno, "terminal");
    }
  }
  return 0;
}

/// Fills `line` with one line and cuts it; the signal's number if one comes before its end, else 0.
int read_into(SecretBytes& line, int terminal, const HeldSignals& signals) {
  std::size_t size = 0;
  for (;;) {
    if (const int signal = signals.wait(terminal, POLLIN); signal != 0) return signal;
    const ssize_t count = read(terminal, line.writable().data() + size, line.size() - size);
    if (count < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      throw system_error(errno, "terminal");
    }
    if (count == 0 && size == 0) throw Error(Errc::missing_input, "end of input on the terminal");
    size += static_cast<std::size_t>(count);
    const bool complete = line.view()[size - 1] == '\n';
    if (complete) --size;
    if (size >= kTerminalLineLimit) {
      throw Error(Errc::usage, "the line is too long for a terminal");
    }
    if (complete || count == 0) break;
  }
  line.truncate(size);
  return 0;
}

}  // namespace

std::optional<Terminal> Terminal::open() {
  UniqueFd fd(::open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return std::nullopt;
  return Terminal(std::move(fd));
}

SecretBytes Terminal::read_line(std::string_view prompt, bool echo) {
  for (;;) {
    SecretBytes line(kMaxPassphraseSize);
    int signal = 0;
    {
      const HeldSignals signals;
      throw_if_interrupted();  // one that came before they were held
      const Echo guard(fd_.get(), echo);
      signal = write_to(fd_.get(), signals, prompt);
      if (signal == 0) signal = read_into(line, fd_.get(), signals);
      if (signal == 0) return line;
      (void)!write(fd_.get(), "\n", 1);
    }
    // The terminal is as it was: now the signal does what it does anywhere else. After a stop or a
    // noted signal that is not for us the question is put again.
    raise(signal);
    throw_if_interrupted();
  }
}

SecretBytes Terminal::read_secret(std::string_view prompt) {
  SecretBytes secret = read_line(prompt, false);
  const ByteView bytes = secret.view();
  if (std::find(bytes.begin(), bytes.end(), 0) != bytes.end()) {
    throw Error(Errc::usage, "a passphrase must not hold a NUL byte");
  }
  return secret;
}

bool Terminal::ask(std::string_view question) {
  const SecretBytes answer = read_line(std::string(question) + " [y/N] ", true);
  std::string text(answer.view().begin(), answer.view().end());
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text == "y" || text == "yes";
}

void Terminal::say(std::string_view line) { write_all(std::string(line) + '\n'); }

void Terminal::write_all(std::string_view text) {
  while (!text.empty()) {
    wait_until_ready(fd_.get(), POLLOUT);
    const ssize_t written = write(fd_.get(), text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR && errno != EAGAIN) {
      throw system_error(errno, "terminal");
    }
  }
}

}  // namespace fscryptctl
