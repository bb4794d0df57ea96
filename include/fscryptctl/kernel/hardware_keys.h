#pragma once

#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

// Keys that only a storage controller can unwrap (Documentation/block/inline-encryption.rst, Linux
// 6.15). A long-term key is for keeping; each boot turns it into an ephemeral one, which
// Kernel::add_key takes. `device_fd` is an open block device. Every call throws no_kernel_support
// (no such call here), filesystem (not this device), usage (size), io.

inline constexpr std::size_t kMaxHardwareKeySize = 128;

/// The long-term key for a raw key of 16..64 bytes.
[[nodiscard]] SecretBytes import_hardware_key(int device_fd, const SecretBytes& raw_key);
/// A new long-term key, made by the hardware.
[[nodiscard]] SecretBytes generate_hardware_key(int device_fd);
/// The ephemeral key for a long-term one. Throws wrong_key if it is not this hardware's.
[[nodiscard]] SecretBytes prepare_hardware_key(int device_fd, const SecretBytes& long_term_key);

}  // namespace fscryptctl
