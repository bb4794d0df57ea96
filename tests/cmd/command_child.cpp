#include "command_child.h"

#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

#include "fscryptctl/base/error.h"

namespace fscryptctl::test {
namespace {

constexpr int kPatienceMs = 10000;

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Pipe make_pipe() {
  std::array<int, 2> fds{};
  if (pipe(fds.data()) != 0) throw std::runtime_error("pipe");
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

[[noreturn]] void run_child(const ChildWork& work, int result_fd) {
  std::string text;
  try {
    text = work();
  } catch (const Error& error) {
    text = "error " + std::string(errc_info(error.code()).reason) + ": " + error.what();
  } catch (const std::exception& problem) {
    text = std::string("exception: ") + problem.what();
  }
  const bool written =
      write(result_fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  _exit(written ? EXIT_SUCCESS : EXIT_FAILURE);
}

bool readable(int fd, int timeout_ms) {
  pollfd wanted{fd, POLLIN, 0};
  return poll(&wanted, 1, timeout_ms) == 1;
}

/// To the end; nullopt if that does not come in time.
std::optional<std::string> read_all(int fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  while (readable(fd, kPatienceMs)) {
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count == 0) return text;
    if (count < 0) return std::nullopt;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return std::nullopt;
}

bool ended_well(pid_t child) {
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

std::string without_terminal(const std::string& input, const ChildWork& work) {
  Pipe in = make_pipe();
  Pipe out = make_pipe();
  if (write(in.write_end.get(), input.data(), input.size()) != static_cast<ssize_t>(input.size())) {
    throw std::runtime_error("write");
  }
  in.write_end.reset();
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    dup2(in.read_end.get(), STDIN_FILENO);
    out.read_end.reset();
    run_child(work, out.write_end.get());
  }
  out.write_end.reset();
  const std::optional<std::string> text = read_all(out.read_end.get());
  if (!text) kill(child, SIGKILL);
  return ended_well(child) && text ? *text : "the child did not end";
}

TerminalSession::TerminalSession(const ChildWork& work) {
  Pipe out = make_pipe();
  int master = -1;
  child_ = forkpty(&master, nullptr, nullptr, nullptr);
  if (child_ == 0) {
    out.read_end.reset();
    run_child(work, out.write_end.get());
  }
  if (child_ < 0) throw std::runtime_error("forkpty");
  master_ = UniqueFd(master);
  result_ = std::move(out.read_end);
}

TerminalSession::~TerminalSession() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
}

bool TerminalSession::read_screen(int timeout_ms) {
  if (!readable(master_.get(), timeout_ms)) return false;
  std::array<char, 4096> buffer{};
  const ssize_t count = read(master_.get(), buffer.data(), buffer.size());
  if (count <= 0) return false;
  screen_.append(buffer.data(), static_cast<std::size_t>(count));
  return true;
}

bool TerminalSession::shows(const std::string& text) {
  for (;;) {
    const std::size_t found = screen_.find(text, seen_);
    if (found != std::string::npos) {
      seen_ = found + text.size();
      return true;
    }
    if (!read_screen(kPatienceMs)) return false;
  }
}

void TerminalSession::type(const std::string& text) {
  if (write(master_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("typing");
  }
}

bool TerminalSession::echo_is_on() const {
  termios state{};
  return tcgetattr(master_.get(), &state) == 0 && (state.c_lflag & ECHO) != 0;
}

void TerminalSession::send_signal(int signal) const { kill(child_, signal); }

std::optional<std::string> TerminalSession::result() {
  const std::optional<std::string> text = read_all(result_.get());
  while (read_screen(0)) {
  }
  if (!text) kill(child_, SIGKILL);
  const bool well = ended_well(child_);
  child_ = -1;
  return well ? text : std::nullopt;
}

std::string shown(const std::optional<Secret>& secret) {
  if (!secret) return "none";
  const ByteView bytes = secret->bytes.view();
  if (secret->kind == Source::raw_key) return "raw-key " + to_hex(bytes);
  return "passphrase " + std::string(bytes.begin(), bytes.end());
}

}  // namespace fscryptctl::test
