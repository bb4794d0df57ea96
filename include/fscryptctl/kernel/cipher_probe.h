#pragma once

#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/kernel/kernel.h"

namespace fscryptctl {

/// Proves that this filesystem and kernel really encrypt with `options` (a successful set_policy
/// proves nothing: missing ciphers fail at first use): a temporary directory in `parent_fd` with a
/// throwaway random key, an O_TMPFILE file (or, without O_TMPFILE, a named one) written to and a
/// directory, all removed again, and the key with them. Works unprivileged; the caller must be able
/// to write to `parent_fd`.
/// Throws mode ("AES-128-CBC / AES-128-CTS does not work on this filesystem with this kernel"),
/// and what the kernel calls throw. `fs_fd`: see Kernel.
void require_working_ciphers(Kernel& kernel, int fs_fd, int parent_fd,
                             const EncryptionOptions& options);

}  // namespace fscryptctl
