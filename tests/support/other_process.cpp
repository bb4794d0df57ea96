#include "support/other_process.h"

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>

#include "fscryptctl/base/file.h"

namespace fscryptctl::test {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

bool become(uid_t uid) {
  return uid == 0 || (setgroups(0, nullptr) == 0 && setresgid(uid, uid, uid) == 0 &&
                      setresuid(uid, uid, uid) == 0);
}

[[noreturn]] void run_child(uid_t uid, int ready_fd,
                            const std::function<bool(const OtherProcess::Ready&)>& body) {
  // Catch2's handlers would report the child's death as the test's.
  for (const int signal : {SIGTERM, SIGINT, SIGSEGV, SIGABRT, SIGFPE, SIGILL}) {
    std::signal(signal, SIG_DFL);
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  bool good = false;
  try {
    good = become(uid) && body([&] {
             if (write(ready_fd, "r", 1) != 1) _exit(3);
           });
  } catch (const std::exception&) {
    good = false;
  }
  _exit(good ? 0 : 1);
}

}  // namespace

OtherProcess::OtherProcess(uid_t uid, const std::function<bool(const Ready&)>& body) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) fail("pipe");
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  pid_ = fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) run_child(uid, writing.get(), body);
  writing.reset();
  char byte = 0;
  if (read(reading.get(), &byte, 1) != 1) throw std::runtime_error("another process did not start");
}

OtherProcess::~OtherProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool OtherProcess::finish(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  int status = 0;
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  pid_ = -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool run_as(uid_t uid, const std::function<bool()>& body) {
  OtherProcess process(uid, [&](const OtherProcess::Ready& ready) {
    ready();
    return body();
  });
  return process.finish(std::chrono::seconds(10));
}

Repeatedly::Repeatedly(uid_t uid, const std::function<void()>& action)
    : process_(uid, [&](const OtherProcess::Ready& ready) -> bool {
        action();
        ready();
        while (true) action();
      }) {}

void race(const std::function<void()>& attempt, const std::function<bool()>& seen) {
  const auto start = std::chrono::steady_clock::now();
  const auto enough = start + std::chrono::milliseconds(700);
  const auto too_long = start + std::chrono::seconds(20);
  while (true) {
    attempt();
    const auto now = std::chrono::steady_clock::now();
    if (now > too_long || (now > enough && seen())) return;
  }
}

bool refuse_system_call(int number, int answer) {
  std::array<sock_filter, 4> program = {
      sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<__u32>(number)},
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | static_cast<__u32>(answer)},
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
  const sock_fprog filter{program.size(), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace fscryptctl::test
