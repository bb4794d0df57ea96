#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "fscryptctl/kernel/kernel.h"

namespace fscryptctl::test {

/// Behaves as the kernel does towards keys and policies, without encrypting anything, on real files
/// of any filesystem: claims for each user, incomplete removal, quotas, policies of directories and
/// what lies in them. tests/kernel/contract_test.cpp holds it to what the real one does.
class FakeKernel final : public Kernel {
 public:
  [[nodiscard]] Support probe(int fs_fd) override;
  KeyIdentifier add_key(int fs_fd, const SecretBytes& key, KeyForm form = KeyForm::raw) override;
  [[nodiscard]] RemoveOutcome remove_key(int fs_fd, const KeySpecifier& key,
                                         RemoveScope scope) override;
  [[nodiscard]] KeyStatus key_status(int fs_fd, const KeySpecifier& key) override;
  [[nodiscard]] std::optional<KernelPolicy> get_policy(int fd) override;
  void set_policy(int directory_fd, const KernelPolicy& policy) override;

  /// What every filesystem supports from now on.
  void set_support(Support support) { support_ = support; }
  /// From now on calls come from this user; by default from the thread's filesystem uid.
  void act_as(std::optional<uid_t> user) { acting_as_ = user; }
  /// Somebody has files open that are encrypted with this key, until released.
  void hold_files(const KeySpecifier& key) { held_.insert(key); }
  void release_files(const KeySpecifier& key) { held_.erase(key); }

 private:
  /// A present key has claims; one without is incompletely removed.
  using Claims = std::set<uid_t>;
  /// Keys belong to a filesystem.
  using KeyPlace = std::pair<dev_t, KeySpecifier>;
  /// With the time of birth, since filesystems give a deleted file's inode number to the next one.
  using FileIdentity = std::tuple<std::uint64_t, std::uint64_t, std::int64_t, std::uint32_t>;

  [[nodiscard]] uid_t user() const;
  [[nodiscard]] bool is_admin() const;
  [[nodiscard]] bool over_quota(uid_t user) const;
  void require_support() const;
  [[nodiscard]] RemoveOutcome wipe(const KeyPlace& place);
  [[nodiscard]] static std::optional<FileIdentity> identity_of(int dirfd, const char* path);

  Support support_ = Support::usable;
  std::optional<uid_t> acting_as_;
  std::set<KeySpecifier> held_;
  std::map<KeyPlace, Claims> keys_;
  std::map<FileIdentity, KernelPolicy> policies_;
};

}  // namespace fscryptctl::test
