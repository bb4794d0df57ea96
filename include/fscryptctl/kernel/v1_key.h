#pragma once

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// Adds the key of a version 1 policy to a filesystem. Outside the Kernel interface, which makes
/// and keeps version 2 only: this is for reading what is to be left behind. The kernel does not
/// check that key and descriptor belong together; the caller must have. All users can then read
/// whatever permissions let them read. Throws permission (only root may), key_quota,
/// no_kernel_support, filesystem, io.
void add_v1_key(int fs_fd, const KeyDescriptor& descriptor, const SecretBytes& key);

}  // namespace fscryptctl
