#pragma once

#include "fscryptctl/kernel/raw_policy.h"

namespace fscryptctl {

/// Asks for the policy of an open file or directory: 0 and `policy`, or the kernel's errno.
/// `policy.key` is empty for a version that this program does not know.
[[nodiscard]] int ask_policy(int fd, RawPolicy& policy);

}  // namespace fscryptctl
