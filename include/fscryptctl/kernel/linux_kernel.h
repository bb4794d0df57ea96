#pragma once

#include <optional>
#include <string>

#include "fscryptctl/kernel/kernel.h"

namespace fscryptctl {

/// The running kernel, through ioctls. What their errnos mean is known here and, for calls outside
/// the Kernel interface, in raw_policy.h and hardware_keys.h.
class LinuxKernel final : public Kernel {
 public:
  [[nodiscard]] Support probe(int fs_fd) override;
  KeyIdentifier add_key(int fs_fd, const SecretBytes& key, KeyForm form = KeyForm::raw) override;
  [[nodiscard]] RemoveOutcome remove_key(int fs_fd, const KeySpecifier& key,
                                         RemoveScope scope) override;
  [[nodiscard]] KeyStatus key_status(int fs_fd, const KeySpecifier& key) override;
  [[nodiscard]] std::optional<KernelPolicy> get_policy(int fd) override;
  void set_policy(int directory_fd, const KernelPolicy& policy) override;
};

/// The filesystem's UUID as 32 hex digits, or nullopt where it has none or does not tell.
[[nodiscard]] std::optional<std::string> filesystem_uuid(int fs_fd);

}  // namespace fscryptctl
