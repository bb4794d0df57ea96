#include "fscryptctl/kernel/hardware_keys.h"

#include <cerrno>

#include "fscrypt_uapi.h"
#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

Error hardware_key_error(int sys_errno) {
  switch (sys_errno) {
    case ENOTTY:
      return {Errc::no_kernel_support,
              "not a block device, or this kernel has no hardware-wrapped keys (they need Linux "
              "6.15 and inline encryption)",
              sys_errno};
    case EOPNOTSUPP:
      return {Errc::filesystem, "this device does not support hardware-wrapped keys", sys_errno};
    case EINVAL:
      return {Errc::usage, "this device does not take a key of this size", sys_errno};
    case EBADMSG:
      return {Errc::wrong_key, "the hardware cannot unwrap this key", sys_errno};
    default:
      return system_error(sys_errno, "the hardware failed");
  }
}

std::uint64_t address_of(ByteView bytes) { return reinterpret_cast<std::uintptr_t>(bytes.data()); }

template <class Argument>
void call(int device_fd, unsigned long request, Argument& argument) {
  if (ioctl(device_fd, request, &argument) != 0) throw hardware_key_error(errno);
}

/// What the kernel wrote into `room`.
SecretBytes used_part(SecretBytes room, std::uint64_t size) {
  if (size == 0 || size > room.size()) {
    throw Error(Errc::internal, "the kernel reports an impossible size of key");
  }
  room.truncate(static_cast<std::size_t>(size));
  return room;
}

}  // namespace

SecretBytes import_hardware_key(int device_fd, const SecretBytes& raw_key) {
  SecretBytes long_term(kMaxHardwareKeySize);
  uapi::ImportHardwareKeyArgument argument{};
  argument.raw_key = address_of(raw_key.view());
  argument.raw_key_size = raw_key.size();
  argument.long_term_key = address_of(long_term.writable());
  argument.long_term_key_size = long_term.size();
  call(device_fd, uapi::kImportHardwareKey, argument);
  return used_part(std::move(long_term), argument.long_term_key_size);
}

SecretBytes generate_hardware_key(int device_fd) {
  SecretBytes long_term(kMaxHardwareKeySize);
  uapi::GenerateHardwareKeyArgument argument{};
  argument.long_term_key = address_of(long_term.writable());
  argument.long_term_key_size = long_term.size();
  call(device_fd, uapi::kGenerateHardwareKey, argument);
  return used_part(std::move(long_term), argument.long_term_key_size);
}

SecretBytes prepare_hardware_key(int device_fd, const SecretBytes& long_term_key) {
  SecretBytes ephemeral(kMaxHardwareKeySize);
  uapi::PrepareHardwareKeyArgument argument{};
  argument.long_term_key = address_of(long_term_key.view());
  argument.long_term_key_size = long_term_key.size();
  argument.ephemeral_key = address_of(ephemeral.writable());
  argument.ephemeral_key_size = ephemeral.size();
  call(device_fd, uapi::kPrepareHardwareKey, argument);
  return used_part(std::move(ephemeral), argument.ephemeral_key_size);
}

}  // namespace fscryptctl
