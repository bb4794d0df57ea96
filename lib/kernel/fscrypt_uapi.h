#pragma once

#include <sys/ioctl.h>

#include <array>
#include <cstddef>
#include <cstdint>

/// The kernel's fscrypt interface in numbers (Documentation/filesystems/fscrypt.rst). Our own copy:
/// the headers that distributions ship lack newer modes and fields.
namespace fscryptctl::uapi {

constexpr std::uint8_t kPolicyVersion1 = 0;
constexpr std::uint8_t kPolicyVersion2 = 2;

struct PolicyV1 {
  std::uint8_t version;
  std::uint8_t contents_mode;
  std::uint8_t filenames_mode;
  std::uint8_t flags;
  std::array<std::uint8_t, 8> descriptor;
};
static_assert(sizeof(PolicyV1) == 12);

struct PolicyV2 {
  std::uint8_t version;
  std::uint8_t contents_mode;
  std::uint8_t filenames_mode;
  std::uint8_t flags;
  std::uint8_t log2_data_unit_size;
  std::array<std::uint8_t, 3> reserved;
  std::array<std::uint8_t, 16> identifier;
};
static_assert(sizeof(PolicyV2) == 24);

/// `policy_size` is the room in `policy` going in, and what is used of it coming out.
struct GetPolicyExArgument {
  std::uint64_t policy_size;
  std::array<std::uint8_t, sizeof(PolicyV2)> policy;
};
static_assert(sizeof(GetPolicyExArgument) == 32);

constexpr std::uint32_t kKeyTypeDescriptor = 1;
constexpr std::uint32_t kKeyTypeIdentifier = 2;

struct KeySpecifierArgument {
  std::uint32_t type;
  std::uint32_t reserved;
  std::array<std::uint8_t, 32> name;
};
static_assert(sizeof(KeySpecifierArgument) == 40);

constexpr std::uint32_t kAddKeyHardwareWrapped = 1;

/// The key follows.
struct AddKeyArgument {
  KeySpecifierArgument key;
  std::uint32_t raw_size;
  std::uint32_t key_id;
  std::uint32_t flags;
  std::array<std::uint32_t, 7> reserved;
};
static_assert(sizeof(AddKeyArgument) == 80 && offsetof(AddKeyArgument, raw_size) == 40);

constexpr std::uint32_t kRemovedFilesBusy = 1;
constexpr std::uint32_t kRemovedOtherUsers = 2;

struct RemoveKeyArgument {
  KeySpecifierArgument key;
  std::uint32_t status_flags;
  std::array<std::uint32_t, 5> reserved;
};
static_assert(sizeof(RemoveKeyArgument) == 64 && offsetof(RemoveKeyArgument, status_flags) == 40);

constexpr std::uint32_t kKeyAbsent = 1;
constexpr std::uint32_t kKeyPresent = 2;
constexpr std::uint32_t kKeyIncompletelyRemoved = 3;
constexpr std::uint32_t kKeyAddedBySelf = 1;

struct KeyStatusArgument {
  KeySpecifierArgument key;
  std::array<std::uint32_t, 6> reserved;
  std::uint32_t status;
  std::uint32_t status_flags;
  std::uint32_t user_count;
  std::array<std::uint32_t, 13> out_reserved;
};
static_assert(sizeof(KeyStatusArgument) == 128 && offsetof(KeyStatusArgument, status) == 64 &&
              offsetof(KeyStatusArgument, user_count) == 72);

/// Pointers are addresses as numbers. A size is the room going in, and what is used of it coming
/// out.
struct ImportHardwareKeyArgument {
  std::uint64_t raw_key;
  std::uint64_t raw_key_size;
  std::uint64_t long_term_key;
  std::uint64_t long_term_key_size;
  std::array<std::uint64_t, 4> reserved;
};
static_assert(sizeof(ImportHardwareKeyArgument) == 64);

struct GenerateHardwareKeyArgument {
  std::uint64_t long_term_key;
  std::uint64_t long_term_key_size;
  std::array<std::uint64_t, 4> reserved;
};
static_assert(sizeof(GenerateHardwareKeyArgument) == 48);

struct PrepareHardwareKeyArgument {
  std::uint64_t long_term_key;
  std::uint64_t long_term_key_size;
  std::uint64_t ephemeral_key;
  std::uint64_t ephemeral_key_size;
  std::array<std::uint64_t, 4> reserved;
};
static_assert(sizeof(PrepareHardwareKeyArgument) == 64);

struct Fsuuid2 {
  std::uint8_t size;
  std::array<std::uint8_t, 16> uuid;
};
static_assert(sizeof(Fsuuid2) == 17);

struct Ext4FsuuidHeader {
  std::uint32_t size;
  std::uint32_t flags;
};

constexpr unsigned long kSetPolicy = _IOR('f', 19, PolicyV1);
constexpr unsigned long kGetPolicyV1 = _IOW('f', 21, PolicyV1);
// The size in the number is one byte more than that of the first field, whatever the argument.
using GetPolicyExNumberSize = std::array<std::uint8_t, 9>;
constexpr unsigned long kGetPolicyEx = _IOWR('f', 22, GetPolicyExNumberSize);
constexpr unsigned long kAddKey = _IOWR('f', 23, AddKeyArgument);
constexpr unsigned long kRemoveKey = _IOWR('f', 24, RemoveKeyArgument);
constexpr unsigned long kRemoveKeyAllUsers = _IOWR('f', 25, RemoveKeyArgument);
constexpr unsigned long kGetKeyStatus = _IOWR('f', 26, KeyStatusArgument);
constexpr unsigned long kImportHardwareKey = _IOWR(0x12, 137, ImportHardwareKeyArgument);
constexpr unsigned long kGenerateHardwareKey = _IOWR(0x12, 138, GenerateHardwareKeyArgument);
constexpr unsigned long kPrepareHardwareKey = _IOWR(0x12, 139, PrepareHardwareKeyArgument);
constexpr unsigned long kGetFsuuid = _IOR(0x15, 0, Fsuuid2);
constexpr unsigned long kExt4GetFsuuid = _IOR('f', 44, Ext4FsuuidHeader);

static_assert(kSetPolicy == 0x800c6613 && kGetPolicyV1 == 0x400c6615 &&
              kGetPolicyEx == 0xc0096616 && kAddKey == 0xc0506617 && kRemoveKey == 0xc0406618 &&
              kRemoveKeyAllUsers == 0xc0406619 && kGetKeyStatus == 0xc080661a &&
              kImportHardwareKey == 0xc0401289 && kGenerateHardwareKey == 0xc030128a &&
              kPrepareHardwareKey == 0xc040128b && kGetFsuuid == 0x80111500 &&
              kExt4GetFsuuid == 0x8008662c);

}  // namespace fscryptctl::uapi
