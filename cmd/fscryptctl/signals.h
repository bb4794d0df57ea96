#pragma once

namespace fscryptctl {

/// From now on SIGINT and SIGTERM are noted instead of killing (unless they were ignored before),
/// and interrupt blocking system calls. SIGPIPE and SIGXFSZ are ignored: the write fails.
void install_signal_handlers() noexcept;

/// Throws Errc::interrupted, with the signal as its sys_errno, once SIGINT or SIGTERM has come.
/// To be called where stopping leaves nothing half done, and after EINTR.
void throw_if_interrupted();

/// SIGINT or SIGTERM once it has come, 0 before.
[[nodiscard]] int noted_signal() noexcept;

/// Waits until `fd` can be read or written (`events` as for poll(2)) or has ended. Throws
/// interrupted, however close before the wait the signal comes; io.
void wait_until_ready(int fd, short events);

}  // namespace fscryptctl
