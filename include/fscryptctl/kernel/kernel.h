#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// A key in the kernel: v2 by identifier, v1 by descriptor.
using KeySpecifier = std::variant<KeyIdentifier, KeyDescriptor>;

[[nodiscard]] inline std::string hex_of(const KeySpecifier& key) {
  return std::visit([](const auto& id) { return id.hex(); }, key);
}

enum class Support {
  usable,
  not_enabled,  ///< the filesystem could encrypt, but its feature is off
  unsupported,  ///< the filesystem type or the kernel has no fscrypt
};

enum class KeyState { absent, present, incompletely_removed };

struct KeyStatus {
  KeyState state = KeyState::absent;
  bool added_by_self = false;    ///< by the thread's filesystem uid
  std::uint32_t user_count = 0;  ///< claims of all users; 0 unless present

  bool operator==(const KeyStatus&) const = default;
};

enum class RemoveOutcome {
  removed,      ///< nothing is left
  files_busy,   ///< the secret is gone, but open files keep theirs; retry later
  other_users,  ///< the caller's claim is gone, others keep the key
  absent,       ///< there was no key, or no claim of the caller's
};

/// What the bytes of a key are to the kernel.
enum class KeyForm {
  raw,               ///< 16..64 bytes
  hardware_wrapped,  ///< 16..128 bytes that only the storage controller can unwrap
};

enum class RemoveScope { own_claim, all_users };

/// The policy of a file or directory as the kernel reports it.
struct KernelPolicy {
  KeySpecifier key;
  EncryptionOptions options;

  [[nodiscard]] int version() const noexcept {
    return std::holds_alternative<KeyIdentifier>(key) ? 2 : 1;
  }
  bool operator==(const KernelPolicy&) const = default;
};

/// The kernel's fscrypt interface (Documentation/filesystems/fscrypt.rst), six calls and nothing
/// more. The caller is the thread's filesystem uid. `fs_fd` is any readable descriptor of the
/// filesystem that lies outside encrypted directories (inside one, it would itself keep the key
/// busy). Every call throws no_kernel_support, filesystem (no fscrypt here), not_enabled, io.
class Kernel {
 public:
  Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  /// What this filesystem can do, without an allowlist of types and without changing anything.
  [[nodiscard]] virtual Support probe(int fs_fd) = 0;

  /// Adds the caller's claim to a key and returns its identifier; idempotent.
  /// Throws key_quota, usage (size). For a hardware-wrapped key also filesystem (no such hardware
  /// below it, or not mounted with inlinecrypt), wrong_key (the hardware cannot unwrap it).
  virtual KeyIdentifier add_key(int fs_fd, const SecretBytes& key, KeyForm form = KeyForm::raw) = 0;

  /// Throws permission (all_users or v1 without CAP_SYS_ADMIN). An EIO while syncing is reported as
  /// io after the key is already gone: read the status again.
  [[nodiscard]] virtual RemoveOutcome remove_key(int fs_fd, const KeySpecifier& key,
                                                 RemoveScope scope) = 0;

  [[nodiscard]] virtual KeyStatus key_status(int fs_fd, const KeySpecifier& key) = 0;

  /// The policy of an open file or directory; nullopt if it is not encrypted, also where the
  /// filesystem cannot encrypt at all. Throws policy_version for one that this program does not
  /// know.
  [[nodiscard]] virtual std::optional<KernelPolicy> get_policy(int fd) = 0;

  /// Encrypts an empty directory; setting the same policy again succeeds. Not durable until fsync.
  /// Throws permission, already_encrypted, mode, wrong_key (the caller has no claim), not_empty,
  /// not_a_directory, filesystem_root, no_space, io.
  virtual void set_policy(int directory_fd, const KernelPolicy& policy) = 0;
};

}  // namespace fscryptctl
