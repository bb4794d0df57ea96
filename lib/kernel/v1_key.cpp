#include "fscryptctl/kernel/v1_key.h"

#include <algorithm>
#include <cerrno>
#include <new>

#include "fscrypt_uapi.h"
#include "fscryptctl/base/error.h"

namespace fscryptctl {

void add_v1_key(int fs_fd, const KeyDescriptor& descriptor, const SecretBytes& key) {
  // The key must follow the argument in one piece, so this copy of it is a secret too.
  SecretBytes buffer(sizeof(uapi::AddKeyArgument) + key.size());
  auto* const argument = new (buffer.writable().data()) uapi::AddKeyArgument{};
  argument->key.type = uapi::kKeyTypeDescriptor;
  std::ranges::copy(descriptor.bytes, argument->key.name.begin());
  argument->raw_size = static_cast<std::uint32_t>(key.size());
  std::ranges::copy(key.view(), buffer.writable().begin() + sizeof(uapi::AddKeyArgument));
  if (ioctl(fs_fd, uapi::kAddKey, argument) == 0) return;
  switch (errno) {
    case EACCES:
      throw Error(Errc::permission, "only root can add the key of a version 1 policy", errno);
    case EDQUOT:
      throw Error(Errc::key_quota, "the kernel's quota of keys for this user is used up", errno);
    case ENOTTY:
      throw Error(Errc::no_kernel_support, "this kernel cannot hold keys for a filesystem", errno);
    case EOPNOTSUPP:
      throw Error(Errc::filesystem, "this filesystem cannot encrypt directories", errno);
    default:
      throw system_error(errno, "cannot add the key to the kernel");
  }
}

}  // namespace fscryptctl
