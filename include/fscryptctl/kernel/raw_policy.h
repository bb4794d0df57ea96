#pragma once

#include <cstdint>

#include "fscryptctl/base/bytes.h"

namespace fscryptctl {

/// A policy in the kernel's own numbers, also those that this program has no name for. The
/// low-level commands show and set policies so; everything else uses the Kernel interface, which
/// refuses what would leave a directory unusable.
struct RawPolicy {
  unsigned version = 2;  ///< 1, 2, or what a newer kernel says
  Bytes key;             ///< version 1: 8 bytes of descriptor; version 2: 16 of identifier
  std::uint8_t contents_mode = 0;
  std::uint8_t filenames_mode = 0;
  std::uint8_t flags = 0;
  std::uint8_t log2_data_unit_size = 0;  ///< 0: the filesystem's block size
};

/// The policy of an open file or directory. Throws an Error whose sys_errno is the kernel's answer:
/// ENODATA if there is none, EOVERFLOW for one that needs a larger answer.
[[nodiscard]] RawPolicy read_raw_policy(int fd);

/// Sets a version 2 policy with nothing checked but its key's size, and makes it durable. Throws an
/// Error whose sys_errno is the kernel's answer.
void set_raw_policy(int directory_fd, const RawPolicy& policy);

}  // namespace fscryptctl
