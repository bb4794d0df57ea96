// No machine that runs these tests has the hardware: what the calls answer without it.
#include "fscryptctl/kernel/hardware_keys.h"

#include <fcntl.h>

#include <catch2/catch.hpp>
#include <functional>
#include <vector>

#include "fscryptctl/base/error.h"
#include "support/ext4_fixture.h"
#include "support/temporary_directory.h"

namespace fscryptctl::test {
namespace {

std::vector<Errc> answers(int fd) {
  std::vector<Errc> codes;
  const SecretBytes key(32);
  const std::vector<std::function<void()>> calls = {
      [&] { (void)import_hardware_key(fd, key); },
      [&] { (void)generate_hardware_key(fd); },
      [&] { (void)prepare_hardware_key(fd, key); },
  };
  for (const auto& call : calls) {
    try {
      call();
      FAIL("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.sys_errno() != 0);
      codes.push_back(error.code());
    }
  }
  return codes;
}

TEST_CASE("what is not a block device makes no keys", "[kernel][hardware-keys]") {
  const TemporaryDirectory directory;
  const UniqueFd fd(open(directory.path().c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(answers(fd.get()) == std::vector<Errc>(3, Errc::no_kernel_support));
  CHECK(answers(-1) == std::vector<Errc>(3, Errc::io));
}

TEST_CASE("a block device without the hardware makes no keys", "[kernel][hardware-keys]") {
  if (!can_mount()) return;
  const Ext4 filesystem;
  const UniqueFd device(open(filesystem.device().c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(device);
  for (const Errc code : answers(device.get())) {
    // The second where the kernel is too old or built without inline encryption.
    CHECK((code == Errc::filesystem || code == Errc::no_kernel_support));
  }
}

}  // namespace
}  // namespace fscryptctl::test
