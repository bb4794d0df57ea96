#pragma once

#include "fscryptctl/kernel/kernel.h"

namespace fscryptctl {

/// Proves that this filesystem and kernel really encrypt with `policy` (a successful set_policy
/// proves nothing: missing ciphers fail at first use): a temporary directory in `parent_fd`, named
/// with kTemporaryPrefix, with the policy set, in it an O_TMPFILE file (or, without O_TMPFILE, a
/// named one) written to, and a directory; all removed again, on failure too. Nothing is synced: a
/// cipher that is missing shows when the file is made.
/// The caller (the thread's filesystem uid) must have added the policy's key before and be able to
/// write to `parent_fd`. No throwaway key is used, since removing one makes the kernel sync the
/// whole filesystem.
/// Throws mode ("AES-128-CBC / AES-128-CTS does not work on this filesystem with this kernel"),
/// and what the kernel calls throw.
void require_working_ciphers(Kernel& kernel, int parent_fd, const KernelPolicy& policy);

}  // namespace fscryptctl
