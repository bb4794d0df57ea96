#include "kernel/fake_kernel.h"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/crypto/key_identifier.h"

namespace fscryptctl::test {

uid_t FakeKernel::user() const {
  // An impossible id changes nothing and is how to ask.
  return acting_as_ ? *acting_as_ : static_cast<uid_t>(setfsuid(static_cast<uid_t>(-1)));
}

/// CAP_SYS_ADMIN stays while root acts as somebody through the filesystem uid.
bool FakeKernel::is_admin() const { return acting_as_ ? *acting_as_ == 0 : geteuid() == 0; }

void FakeKernel::require_support() const {
  switch (support_) {
    case Support::usable:
      return;
    case Support::not_enabled:
      throw Error(Errc::not_enabled, "encryption is not enabled on this filesystem", EOPNOTSUPP);
    case Support::unsupported:
      throw Error(Errc::filesystem, "this type of filesystem does not support encryption", ENOTTY);
  }
}

/// Each claim costs the user's kernel keyring quota a fixed amount and the digits of the uid.
bool FakeKernel::over_quota(uid_t user) const {
  const std::size_t max_keys = user == 0 ? 1000000 : 200;
  const std::size_t max_bytes = user == 0 ? 25000000 : 20000;
  const auto count = static_cast<std::size_t>(
      std::ranges::count_if(keys_, [&](const auto& entry) { return entry.second.contains(user); }));
  const std::size_t claim_bytes = 102 + std::to_string(user).size();
  return count + 1 > max_keys || (count + 1) * claim_bytes > max_bytes;
}

std::optional<FakeKernel::FileIdentity> FakeKernel::identity_of(int dirfd, const char* path) {
  struct statx status {};
  if (statx(dirfd, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME,
            &status) != 0) {
    return std::nullopt;
  }
  return FileIdentity{makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino,
                      status.stx_btime.tv_sec, status.stx_btime.tv_nsec};
}

Support FakeKernel::probe(int /*fs_fd*/) { return support_; }

KeyIdentifier FakeKernel::add_key(int fs_fd, const SecretBytes& key, KeyForm form) {
  require_support();
  const std::size_t longest = form == KeyForm::raw ? 64 : 128;
  if (key.size() < 16 || key.size() > longest) {
    throw Error(Errc::usage, "a key must have 16 to " + std::to_string(longest) + " bytes");
  }
  if (form == KeyForm::hardware_wrapped) {
    throw Error(Errc::filesystem, "this filesystem cannot use hardware-wrapped keys", EOPNOTSUPP);
  }
  const KeyIdentifier identifier = key_identifier_of(key.view());
  const KeyPlace place{file_info(fs_fd).device, identifier};
  const auto existing = keys_.find(place);
  const bool claimed = existing != keys_.end() && existing->second.contains(user());
  if (!claimed && over_quota(user())) {
    throw Error(Errc::key_quota, "the kernel's quota of keys for this user is used up", EDQUOT);
  }
  keys_[place].insert(user());
  return identifier;
}

RemoveOutcome FakeKernel::wipe(const KeyPlace& place) {
  if (held_.contains(place.second)) {
    keys_[place].clear();
    return RemoveOutcome::files_busy;
  }
  keys_.erase(place);
  return RemoveOutcome::removed;
}

RemoveOutcome FakeKernel::remove_key(int fs_fd, const KeySpecifier& key, RemoveScope scope) {
  require_support();
  const bool needs_admin =
      scope == RemoveScope::all_users || std::holds_alternative<KeyDescriptor>(key);
  if (needs_admin && !is_admin()) throw Error(Errc::permission, "only root can do this", EACCES);
  const KeyPlace place{file_info(fs_fd).device, key};
  const auto found = keys_.find(place);
  if (found == keys_.end()) return RemoveOutcome::absent;
  Claims& claims = found->second;
  // Once incompletely removed, anybody may try again.
  if (scope == RemoveScope::all_users || claims.empty()) return wipe(place);
  if (claims.erase(user()) == 0) return RemoveOutcome::absent;
  return claims.empty() ? wipe(place) : RemoveOutcome::other_users;
}

KeyStatus FakeKernel::key_status(int fs_fd, const KeySpecifier& key) {
  require_support();
  const auto found = keys_.find(KeyPlace{file_info(fs_fd).device, key});
  if (found == keys_.end()) return {};
  const Claims& claims = found->second;
  if (claims.empty()) return {KeyState::incompletely_removed};
  return {KeyState::present, claims.contains(user()), static_cast<std::uint32_t>(claims.size())};
}

std::optional<KernelPolicy> FakeKernel::get_policy(int fd) {
  if (support_ != Support::usable) return std::nullopt;
  const auto policy_of = [&](int dirfd, const char* path) -> const KernelPolicy* {
    const std::optional<FileIdentity> identity = identity_of(dirfd, path);
    const auto found = identity ? policies_.find(*identity) : policies_.end();
    return found == policies_.end() ? nullptr : &found->second;
  };
  if (const KernelPolicy* const own = policy_of(fd, "")) return *own;
  // What lies in an encrypted directory has its policy.
  std::error_code error;
  std::filesystem::path path =
      std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error);
  while (!error && path.has_relative_path()) {
    path = path.parent_path();
    if (const KernelPolicy* const inherited = policy_of(AT_FDCWD, path.c_str())) return *inherited;
  }
  return std::nullopt;
}

void FakeKernel::set_policy(int directory_fd, const KernelPolicy& policy) {
  require_support();
  const FileInfo info = file_info(directory_fd);
  if (user() != 0 && user() != info.uid) {
    throw Error(Errc::permission, "the directory belongs to another user", EACCES);
  }
  if (const std::optional<KernelPolicy> existing = get_policy(directory_fd)) {
    if (*existing == policy) return;
    throw Error(Errc::already_encrypted, "the directory is already encrypted with another policy",
                EEXIST);
  }
  if (!S_ISDIR(info.mode)) throw Error(Errc::not_a_directory, "not a directory", ENOTDIR);
  if (info.links == 0) throw Error(Errc::no_such_path, "the directory has been deleted", ENOENT);
  if (!directory_names(directory_fd, 1).names.empty()) {
    throw Error(Errc::not_empty, "the directory is not empty", ENOTEMPTY);
  }
  if (const auto reason = invalid_combination(policy.options)) throw Error(Errc::mode, *reason);
  if (policy.version() == 2 && !key_status(directory_fd, policy.key).added_by_self) {
    throw Error(Errc::wrong_key, "the policy's key is not added by this user", ENOKEY);
  }
  policies_.emplace(identity_of(directory_fd, "").value(), policy);
}

}  // namespace fscryptctl::test
