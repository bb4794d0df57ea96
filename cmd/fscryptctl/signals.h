#pragma once

namespace fscryptctl {

/// From now on SIGINT and SIGTERM are noted instead of killing (unless they were ignored before),
/// and interrupt blocking system calls; SIGPIPE is ignored.
void install_signal_handlers() noexcept;

/// Throws Errc::interrupted, with the signal as its sys_errno, once SIGINT or SIGTERM has come.
/// To be called where stopping leaves nothing half done, and after EINTR.
void throw_if_interrupted();

}  // namespace fscryptctl
