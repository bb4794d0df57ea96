#include "fscryptctl/kernel/linux_kernel.h"

#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "fscrypt_uapi.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "policy_ioctl.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kMinRawKeySize = 16;
constexpr std::size_t kMaxRawKeySize = 64;
constexpr std::size_t kMaxWrappedKeySize = 128;

constexpr auto kExt4Magic = 0xEF53;
constexpr auto kF2fsMagic = 0xF2F52010;

/// A kernel built without file encryption answers like a filesystem whose feature is off; what it
/// says in /sys tells them apart, where the filesystem says anything there.
bool kernel_lacks_encryption(int fd) {
  struct statfs filesystem {};
  if (fstatfs(fd, &filesystem) != 0) return false;
  std::string features;
  if (filesystem.f_type == kExt4Magic) features = "/sys/fs/ext4/features";
  if (filesystem.f_type == kF2fsMagic) features = "/sys/fs/f2fs/features";
  return !features.empty() && access(features.c_str(), F_OK) == 0 &&
         access((features + "/encryption").c_str(), F_OK) != 0;
}

/// Kernels before 5.4 know only the old calls.
bool has_old_interface_only(int fd) {
  uapi::PolicyV1 policy{};
  return ioctl(fd, uapi::kGetPolicyV1, &policy) == 0 || errno != ENOTTY;
}

/// The errors that every call can end with; `what` says what could not be done.
Error common_error(int fd, int sys_errno, const std::string& what) {
  switch (sys_errno) {
    case ENOTTY:
      if (has_old_interface_only(fd)) {
        return {Errc::no_kernel_support, "this kernel is older than 5.4, whose calls are needed",
                sys_errno};
      }
      return {Errc::filesystem, "this type of filesystem does not support encryption", sys_errno};
    case EOPNOTSUPP:
      if (kernel_lacks_encryption(fd)) {
        return {Errc::no_kernel_support, "this kernel is built without file encryption", sys_errno};
      }
      return {Errc::not_enabled, "encryption is not enabled on this filesystem", sys_errno};
    default:
      return system_error(sys_errno, what);
  }
}

uapi::KeySpecifierArgument to_kernel(const KeySpecifier& key) {
  uapi::KeySpecifierArgument argument{};
  const bool v2 = std::holds_alternative<KeyIdentifier>(key);
  argument.type = v2 ? uapi::kKeyTypeIdentifier : uapi::kKeyTypeDescriptor;
  std::visit([&](const auto& name) { std::ranges::copy(name.bytes, argument.name.begin()); }, key);
  return argument;
}

Error add_key_error(int fd, int sys_errno) {
  if (sys_errno == EDQUOT) {
    return {Errc::key_quota, "the kernel's quota of keys for this user is used up", sys_errno};
  }
  return common_error(fd, sys_errno, "cannot add the key to the kernel");
}

/// `usable`: the filesystem encrypts with ordinary keys.
Error add_wrapped_key_error(int fd, int sys_errno, bool usable) {
  switch (sys_errno) {
    case EOPNOTSUPP:
      if (!usable) break;
      return {Errc::filesystem,
              "this filesystem cannot use hardware-wrapped keys (they need such hardware and the "
              "mount option inlinecrypt)",
              sys_errno};
    case EINVAL:
      return {Errc::no_kernel_support, "this kernel cannot use hardware-wrapped keys", sys_errno};
    case EBADMSG:
      return {Errc::wrong_key, "the hardware cannot unwrap this key", sys_errno};
    default:
      break;
  }
  return add_key_error(fd, sys_errno);
}

void require_key_size(std::size_t size, KeyForm form) {
  const std::size_t longest = form == KeyForm::raw ? kMaxRawKeySize : kMaxWrappedKeySize;
  if (size >= kMinRawKeySize && size <= longest) return;
  throw Error(Errc::usage, "a key must have " + std::to_string(kMinRawKeySize) + " to " +
                               std::to_string(longest) + " bytes, not " + std::to_string(size));
}

Error remove_key_error(int fd, int sys_errno, RemoveScope scope) {
  if (sys_errno == EACCES) {
    return {Errc::permission,
            scope == RemoveScope::all_users ? "only root can remove the keys of all users"
                                            : "only root can remove the key of a version 1 policy",
            sys_errno};
  }
  if (sys_errno == EIO || sys_errno == ENOSPC || sys_errno == EDQUOT) {
    return system_error(sys_errno, "the key is removed, but data could not be written to the disk");
  }
  return common_error(fd, sys_errno, "cannot remove the key from the kernel");
}

Error get_policy_error(int fd, int sys_errno) {
  if (sys_errno == EOVERFLOW) {
    return {Errc::policy_version, "its encryption policy is newer than this program", sys_errno};
  }
  if (sys_errno == EINVAL) {
    return {Errc::policy_version, "its encryption policy is not known to this kernel", sys_errno};
  }
  return common_error(fd, sys_errno, "cannot read the encryption policy");
}

std::string modes_text(const EncryptionOptions& options) {
  return std::string(mode_name(options.contents)) + " / " +
         std::string(mode_name(options.filenames));
}

Error no_claim_error(int sys_errno) {
  return {Errc::wrong_key, "the policy's key is not added by this user", sys_errno};
}

Error set_policy_error(int fd, int sys_errno, const EncryptionOptions& options) {
  switch (sys_errno) {
    case EACCES:
      return {Errc::permission, "the directory belongs to another user", sys_errno};
    case EEXIST:
      return {Errc::already_encrypted, "the directory is already encrypted with another policy",
              sys_errno};
    case EINVAL:
      return {Errc::mode,
              "the kernel or the filesystem refuses " + modes_text(options) + " with these options",
              sys_errno};
    case ENOKEY:
      return no_claim_error(sys_errno);
    case ENOTDIR:
      return {Errc::not_a_directory, "only directories can be encrypted", sys_errno};
    case ENOTEMPTY:
      return {Errc::not_empty, "the directory is not empty", sys_errno};
    case ENOENT:
      return {Errc::no_such_path, "the directory has been deleted", sys_errno};
    case EPERM:
      return {Errc::filesystem_root, "the root directory of a filesystem cannot be encrypted",
              sys_errno};
    default:
      return common_error(fd, sys_errno, "cannot encrypt the directory");
  }
}

template <class Name>
Name name_from(const Bytes& bytes) {
  Name name;
  std::ranges::copy(bytes, name.bytes.begin());
  return name;
}

KernelPolicy known_policy(const RawPolicy& raw) {
  if (raw.key.empty()) {
    throw Error(Errc::policy_version,
                "its encryption policy has a version that is newer than this program");
  }
  const auto options = options_from_kernel(raw.contents_mode, raw.filenames_mode, raw.flags,
                                           raw.log2_data_unit_size);
  if (!options) {
    throw Error(Errc::policy_version,
                "its encryption policy uses modes or flags newer than this program");
  }
  if (raw.version == 1) return {name_from<KeyDescriptor>(raw.key), *options};
  return {name_from<KeyIdentifier>(raw.key), *options};
}

uapi::PolicyV2 to_kernel_v2(const KeyIdentifier& key, const EncryptionOptions& options) {
  uapi::PolicyV2 policy{};
  policy.version = uapi::kPolicyVersion2;
  policy.contents_mode = static_cast<std::uint8_t>(options.contents);
  policy.filenames_mode = static_cast<std::uint8_t>(options.filenames);
  policy.flags = policy_flags(options);
  policy.log2_data_unit_size = static_cast<std::uint8_t>(options.log2_data_unit_size);
  policy.identifier = key.bytes;
  return policy;
}

uapi::PolicyV1 to_kernel_v1(const KeyDescriptor& key, const EncryptionOptions& options) {
  if (options.log2_data_unit_size != 0) {
    throw Error(Errc::mode, "a version 1 policy cannot set the data unit size");
  }
  uapi::PolicyV1 policy{};
  policy.version = uapi::kPolicyVersion1;
  policy.contents_mode = static_cast<std::uint8_t>(options.contents);
  policy.filenames_mode = static_cast<std::uint8_t>(options.filenames);
  policy.flags = policy_flags(options);
  policy.descriptor = key.bytes;
  return policy;
}

template <class Policy>
void apply_policy(int fd, const Policy& policy, const EncryptionOptions& options) {
  if (ioctl(fd, uapi::kSetPolicy, &policy) != 0) throw set_policy_error(fd, errno, options);
}

}  // namespace

Support LinuxKernel::probe(int fs_fd) {
  // A key at address zero can never be added; how far the kernel gets tells all.
  if (ioctl(fs_fd, uapi::kAddKey, nullptr) == 0) {
    throw Error(Errc::internal, "the kernel accepted a key at address zero");
  }
  switch (errno) {
    case EFAULT:
      return Support::usable;
    case EOPNOTSUPP:
      return kernel_lacks_encryption(fs_fd) ? Support::unsupported : Support::not_enabled;
    case ENOTTY:
      return Support::unsupported;
    default:
      throw system_error(errno, "cannot find out whether the filesystem supports encryption");
  }
}

KeyIdentifier LinuxKernel::add_key(int fs_fd, const SecretBytes& key, KeyForm form) {
  require_key_size(key.size(), form);
  // The key must follow the argument in one piece, so this copy of it is a secret too.
  SecretBytes buffer(sizeof(uapi::AddKeyArgument) + key.size());
  auto* const argument = new (buffer.writable().data()) uapi::AddKeyArgument{};
  argument->key.type = uapi::kKeyTypeIdentifier;
  argument->raw_size = static_cast<std::uint32_t>(key.size());
  if (form == KeyForm::hardware_wrapped) argument->flags = uapi::kAddKeyHardwareWrapped;
  std::ranges::copy(key.view(), buffer.writable().begin() + sizeof(uapi::AddKeyArgument));
  if (ioctl(fs_fd, uapi::kAddKey, argument) != 0) {
    const int sys_errno = errno;
    if (form == KeyForm::raw) throw add_key_error(fs_fd, sys_errno);
    throw add_wrapped_key_error(fs_fd, sys_errno, probe(fs_fd) == Support::usable);
  }
  KeyIdentifier identifier;
  std::copy_n(argument->key.name.begin(), KeyIdentifier::kSize, identifier.bytes.begin());
  return identifier;
}

RemoveOutcome LinuxKernel::remove_key(int fs_fd, const KeySpecifier& key, RemoveScope scope) {
  uapi::RemoveKeyArgument argument{};
  argument.key = to_kernel(key);
  const unsigned long request =
      scope == RemoveScope::all_users ? uapi::kRemoveKeyAllUsers : uapi::kRemoveKey;
  if (ioctl(fs_fd, request, &argument) != 0) {
    if (errno == ENOKEY) return RemoveOutcome::absent;
    throw remove_key_error(fs_fd, errno, scope);
  }
  if ((argument.status_flags & uapi::kRemovedOtherUsers) != 0) return RemoveOutcome::other_users;
  if ((argument.status_flags & uapi::kRemovedFilesBusy) != 0) return RemoveOutcome::files_busy;
  return RemoveOutcome::removed;
}

KeyStatus LinuxKernel::key_status(int fs_fd, const KeySpecifier& key) {
  uapi::KeyStatusArgument argument{};
  argument.key = to_kernel(key);
  if (ioctl(fs_fd, uapi::kGetKeyStatus, &argument) != 0) {
    throw common_error(fs_fd, errno, "cannot read the state of the key");
  }
  switch (argument.status) {
    case uapi::kKeyAbsent:
      return {};
    case uapi::kKeyPresent:
      return {KeyState::present, (argument.status_flags & uapi::kKeyAddedBySelf) != 0,
              argument.user_count};
    case uapi::kKeyIncompletelyRemoved:
      return {KeyState::incompletely_removed};
    default:
      throw Error(Errc::internal, "the kernel reports a key state that is newer than this program");
  }
}

std::optional<KernelPolicy> LinuxKernel::get_policy(int fd) {
  RawPolicy policy;
  const int sys_errno = ask_policy(fd, policy);
  if (sys_errno == 0) return known_policy(policy);
  if (sys_errno == ENODATA || sys_errno == EOPNOTSUPP) return std::nullopt;
  if (sys_errno != ENOTTY) throw get_policy_error(fd, sys_errno);
  if (!file_info(fd).encrypted) return std::nullopt;
  if (has_old_interface_only(fd)) throw common_error(fd, sys_errno, "");
  // What an overlay shows of an encrypted lower directory. To call it unencrypted would be a lie.
  throw Error(Errc::filesystem,
              "encrypted, but seen through an overlay, which hides how; use the directory below it",
              sys_errno);
}

void LinuxKernel::set_policy(int directory_fd, const KernelPolicy& policy) {
  const auto* const identifier = std::get_if<KeyIdentifier>(&policy.key);
  if (identifier == nullptr) {
    const auto& descriptor = std::get<KeyDescriptor>(policy.key);
    apply_policy(directory_fd, to_kernel_v1(descriptor, policy.options), policy.options);
    return;
  }
  if (const auto reason = invalid_combination(policy.options)) throw Error(Errc::mode, *reason);
  // The kernel lets root encrypt with an absent key, and nobody could use such a directory.
  if (!get_policy(directory_fd) && !key_status(directory_fd, policy.key).added_by_self) {
    throw no_claim_error(ENOKEY);
  }
  apply_policy(directory_fd, to_kernel_v2(*identifier, policy.options), policy.options);
}

std::optional<std::string> filesystem_uuid(int fs_fd) {
  const auto usable = [](ByteView uuid) {
    return std::ranges::any_of(uuid, [](std::uint8_t byte) { return byte != 0; });
  };
  uapi::Fsuuid2 answer{};
  if (ioctl(fs_fd, uapi::kGetFsuuid, &answer) == 0 && answer.size == answer.uuid.size() &&
      usable(answer.uuid)) {
    return to_hex(answer.uuid);
  }
  struct statfs filesystem {};
  if (fstatfs(fs_fd, &filesystem) != 0 || filesystem.f_type != kExt4Magic) return std::nullopt;
  struct {
    uapi::Ext4FsuuidHeader header{16, 0};
    std::array<std::uint8_t, 16> uuid{};
  } ext4;
  if (ioctl(fs_fd, uapi::kExt4GetFsuuid, &ext4) == 0 && usable(ext4.uuid)) return to_hex(ext4.uuid);
  return std::nullopt;
}

}  // namespace fscryptctl
