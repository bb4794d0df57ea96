#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "command_line.h"
#include "signals.h"

namespace {

// A file opened later must not become standard input, output or error. What was closed stays
// unusable: input has ended, output fails.
void require_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    if (open("/dev/null", O_RDONLY) != fd) _exit(1);
  }
}

// No core dump and no debugger of the same user gets at keys.
void forbid_dumps() {
  prctl(PR_SET_DUMPABLE, 0);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

}  // namespace

int main(int argc, char** argv) {
  require_standard_descriptors();
  forbid_dumps();
  umask(022);  // every file is made with the exact mode it shall have
  fscryptctl::install_signal_handlers();
  try {
    fscryptctl::Output out;
    return fscryptctl::run_command_line(fscryptctl::all_commands(), argc, argv, out);
  } catch (...) {
    // Reporting failed as well, so there is no memory left.
    constexpr std::string_view kMessage = "error: out of memory\n";
    (void)!write(STDERR_FILENO, kMessage.data(), kMessage.size());
    return 1;
  }
}
