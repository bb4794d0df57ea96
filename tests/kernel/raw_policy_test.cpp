#include "fscryptctl/kernel/raw_policy.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <functional>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "support/ext4_fixture.h"

namespace fscryptctl::test {
namespace {

int errno_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.sys_errno();
  }
  return 0;
}

UniqueFd make_directory(const Ext4& filesystem, const std::string& name) {
  REQUIRE(mkdirat(filesystem.fd(), name.c_str(), 0755) == 0);
  return UniqueFd(openat(filesystem.fd(), name.c_str(), O_RDONLY | O_CLOEXEC));
}

RawPolicy some_policy() {
  RawPolicy policy;
  policy.key.assign(16, 0xAB);
  policy.contents_mode = 9;
  policy.filenames_mode = 9;
  policy.flags = 0x05;
  policy.log2_data_unit_size = 10;
  return policy;
}

TEST_CASE("a raw policy is set as it is and read back", "[kernel][raw-policy]") {
  if (!can_mount()) return;
  const Ext4 filesystem;
  const UniqueFd directory = make_directory(filesystem, "d");
  CHECK(errno_of([&] { (void)read_raw_policy(directory.get()); }) == ENODATA);

  // With a key that nobody has added: root may, and it is not this call's to judge.
  const RawPolicy policy = some_policy();
  set_raw_policy(directory.get(), policy);
  const RawPolicy read = read_raw_policy(directory.get());
  CHECK(read.version == 2);
  CHECK(read.key == policy.key);
  CHECK(read.contents_mode == 9);
  CHECK(read.filenames_mode == 9);
  CHECK(read.flags == 0x05);
  CHECK(read.log2_data_unit_size == 10);

  RawPolicy other = policy;
  other.flags = 0x06;
  CHECK(errno_of([&] { set_raw_policy(directory.get(), other); }) == EEXIST);
}

TEST_CASE("the kernel's refusal of a raw policy is passed on", "[kernel][raw-policy]") {
  if (!can_mount()) return;
  const Ext4 filesystem;
  const UniqueFd directory = make_directory(filesystem, "d");
  RawPolicy policy = some_policy();
  policy.flags = 0xE0;
  CHECK(errno_of([&] { set_raw_policy(directory.get(), policy); }) == EINVAL);
  policy = some_policy();
  policy.contents_mode = 255;
  CHECK(errno_of([&] { set_raw_policy(directory.get(), policy); }) == EINVAL);
  CHECK(errno_of([&] { (void)read_raw_policy(directory.get()); }) == ENODATA);
}

TEST_CASE("what is not a version 2 policy never reaches the kernel", "[kernel][raw-policy]") {
  RawPolicy policy = some_policy();
  policy.version = 1;
  CHECK(errno_of([&] { set_raw_policy(-1, policy); }) == EINVAL);
  policy = some_policy();
  policy.key.push_back(0);
  CHECK(errno_of([&] { set_raw_policy(-1, policy); }) == EINVAL);
  CHECK(errno_of([&] { set_raw_policy(-1, some_policy()); }) == EBADF);
}

TEST_CASE("a version 1 policy is read with its descriptor", "[kernel][raw-policy]") {
  if (!can_mount()) return;
  const Ext4 filesystem;
  const UniqueFd directory = make_directory(filesystem, "d");
  KeyDescriptor descriptor;
  std::ranges::fill(descriptor.bytes, 7);
  LinuxKernel().set_policy(directory.get(), {descriptor, {}});
  const RawPolicy read = read_raw_policy(directory.get());
  CHECK(read.version == 1);
  CHECK(read.key == Bytes(8, 7));
  CHECK(read.contents_mode == 1);
  CHECK(read.log2_data_unit_size == 0);
}

}  // namespace
}  // namespace fscryptctl::test
