#include "fscryptctl/kernel/cipher_probe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/fs_identity.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "kernel/fake_kernel.h"
#include "support/ext4_fixture.h"
#include "support/temporary_directory.h"

namespace fscryptctl::test {
namespace {

constexpr uid_t kAlice = 61001;

EncryptionOptions with_modes(Mode contents, Mode filenames) {
  EncryptionOptions options;
  options.contents = contents;
  options.filenames = filenames;
  return options;
}

UniqueFd open_directory(const std::string& path) {
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(directory);
  return directory;
}

bool is_empty(const std::string& directory) { return std::filesystem::is_empty(directory); }

/// Expects the trial to fail with `expected`; what it says.
std::string failure(Kernel& kernel, int parent_fd, const KernelPolicy& policy, Errc expected) {
  try {
    require_working_ciphers(kernel, parent_fd, policy);
  } catch (const Error& error) {
    CHECK(error.code() == expected);
    return error.what();
  }
  FAIL("nothing was thrown");
  return {};
}

TEST_CASE("a trial of the ciphers leaves no files and the key as it was", "[kernel]") {
  FakeKernel kernel;
  const TemporaryDirectory directory;
  const UniqueFd fd = open_directory(directory.path());
  const KernelPolicy policy{kernel.add_key(fd.get(), SecretBytes(64)), {}};
  require_working_ciphers(kernel, fd.get(), policy);
  CHECK(is_empty(directory.path()));
  CHECK(kernel.get_policy(fd.get()) == std::nullopt);
  CHECK(kernel.key_status(fd.get(), policy.key) == KeyStatus{KeyState::present, true, 1});
}

TEST_CASE("a trial that the kernel refuses leaves no files", "[kernel]") {
  FakeKernel kernel;
  const TemporaryDirectory directory;
  const UniqueFd fd = open_directory(directory.path());
  const KeyIdentifier key = kernel.add_key(fd.get(), SecretBytes(64));

  SECTION("modes that cannot be combined") {
    const auto odd = with_modes(Mode::aes_256_xts, Mode::aes_128_cts);
    CHECK(failure(kernel, fd.get(), {key, odd}, Errc::mode) ==
          "AES-256-XTS for contents and AES-128-CTS for file names cannot be combined");
  }
  SECTION("a key that the caller has not added") {
    failure(kernel, fd.get(), {KeyIdentifier{}, {}}, Errc::wrong_key);
  }
  SECTION("a filesystem that does not encrypt") {
    kernel.set_support(Support::not_enabled);
    failure(kernel, fd.get(), {key, {}}, Errc::not_enabled);
  }
  CHECK(is_empty(directory.path()));
}

TEST_CASE("an ordinary user can try the usual ciphers on a real filesystem", "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  const std::string home = filesystem.path() + "/home";
  REQUIRE(mkdir(home.c_str(), 0700) == 0);
  REQUIRE(chown(home.c_str(), kAlice, kAlice) == 0);
  const UniqueFd fd = open_directory(home);
  const ActAs alice({kAlice, kAlice});
  const KernelPolicy policy{kernel.add_key(filesystem.fd(), SecretBytes(64)), {}};
  require_working_ciphers(kernel, fd.get(), policy);
  CHECK(is_empty(home));
  // Nothing of the trial keeps the key busy.
  CHECK(kernel.remove_key(filesystem.fd(), policy.key, RemoveScope::own_claim) ==
        RemoveOutcome::removed);
}

// Which pairs work depends on the machine, so the truth is found out in another way: by using each
// for a named file and a directory that stay.
TEST_CASE("ciphers that the kernel lacks are found out before anything relies on them",
          "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  const auto [contents, filenames] = GENERATE(table<Mode, Mode>({
      {Mode::aes_256_xts, Mode::aes_256_cts},
      {Mode::aes_128_cbc, Mode::aes_128_cts},
      {Mode::adiantum, Mode::adiantum},
      {Mode::aes_256_xts, Mode::aes_256_hctr2},
      {Mode::sm4_xts, Mode::sm4_cts},
  }));
  const KernelPolicy policy{kernel.add_key(filesystem.fd(), SecretBytes(64)),
                            with_modes(contents, filenames)};
  REQUIRE(mkdir((filesystem.path() + "/by-hand").c_str(), 0700) == 0);
  const UniqueFd by_hand = open_directory(filesystem.path() + "/by-hand");
  kernel.set_policy(by_hand.get(), policy);
  const UniqueFd file(openat(by_hand.get(), "file", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  const bool works = file && mkdirat(by_hand.get(), "sub", 0700) == 0;

  const std::string trial = filesystem.path() + "/trial";
  REQUIRE(mkdir(trial.c_str(), 0700) == 0);
  const UniqueFd parent = open_directory(trial);
  const std::string pair =
      std::string(mode_name(contents)) + " / " + std::string(mode_name(filenames));
  CAPTURE(pair, works);
  if (works) {
    CHECK_NOTHROW(require_working_ciphers(kernel, parent.get(), policy));
  } else {
    CHECK(failure(kernel, parent.get(), policy, Errc::mode) ==
          pair + " does not work on this filesystem with this kernel");
  }
  CHECK(is_empty(trial));
}

TEST_CASE("a trial where the caller may not write is a matter of permission", "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  const ActAs alice({kAlice, kAlice});
  const KernelPolicy policy{kernel.add_key(filesystem.fd(), SecretBytes(64)), {}};
  failure(kernel, filesystem.fd(), policy, Errc::permission);
}

}  // namespace
}  // namespace fscryptctl::test
