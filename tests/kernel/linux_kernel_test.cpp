// What only the running kernel can show; what any Kernel must do stands in contract_test.cpp.
#include "fscryptctl/kernel/linux_kernel.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "support/ext4_fixture.h"
#include "support/temporary_directory.h"

namespace fscryptctl::test {
namespace {

constexpr uid_t kAlice = 61001;

SecretBytes raw_key(std::uint8_t byte) {
  SecretBytes key(64);
  std::ranges::fill(key.writable(), byte);
  return key;
}

UniqueFd open_directory(const std::string& path) {
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(directory);
  return directory;
}

UniqueFd make_directory(const std::string& path) {
  REQUIRE(mkdir(path.c_str(), 0755) == 0);
  return open_directory(path);
}

/// Expects an error; its code is checked, its message returned.
std::string failure(Errc expected, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    CAPTURE(error.what());
    CHECK(error.code() == expected);
    return error.what();
  }
  FAIL("nothing was thrown");
  return {};
}

/// The exit code of a child that gave up root for good; 99 if it threw anything but an Error.
int exit_code_as(uid_t user, const std::function<int()>& body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    try {
      const bool changed = setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0;
      _exit(changed ? body() : 98);
    } catch (...) {
      _exit(99);
    }
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/// A mount of anything else, gone with this.
class Mounted {
 public:
  Mounted(const std::string& type, const std::string& path, const std::string& options)
      : path_(path) {
    REQUIRE(mount(type.c_str(), path.c_str(), type.c_str(), 0, options.c_str()) == 0);
  }
  ~Mounted() { umount2(path_.c_str(), MNT_DETACH); }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

 private:
  std::string path_;
};

TEST_CASE("a filesystem without its encryption feature is told from one that has none",
          "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const KeyIdentifier key{};

  SECTION("ext4 with the feature off") {
    const Ext4 filesystem("^encrypt");
    const int fd = filesystem.fd();
    CHECK(kernel.probe(fd) == Support::not_enabled);
    const std::string fact = "encryption is not enabled on this filesystem";
    CHECK(failure(Errc::not_enabled, [&] { kernel.add_key(fd, raw_key(0)); }) == fact);
    CHECK(failure(Errc::not_enabled, [&] { static_cast<void>(kernel.key_status(fd, key)); }) ==
          fact);
    CHECK(kernel.get_policy(fd) == std::nullopt);
    failure(Errc::not_enabled, [&] { kernel.set_policy(fd, {key, {}}); });
  }
  SECTION("a type that cannot encrypt") {
    const TemporaryDirectory directory;
    const Mounted tmpfs("tmpfs", directory.path(), "");
    const UniqueFd root = open_directory(directory.path());
    CHECK(kernel.probe(root.get()) == Support::unsupported);
    const std::string fact = "this type of filesystem does not support encryption";
    CHECK(failure(Errc::filesystem, [&] { kernel.add_key(root.get(), raw_key(0)); }) == fact);
    failure(Errc::filesystem,
            [&] { static_cast<void>(kernel.remove_key(root.get(), key, RemoveScope::own_claim)); });
    CHECK(kernel.get_policy(root.get()) == std::nullopt);
    failure(Errc::filesystem, [&] { kernel.set_policy(root.get(), {key, {}}); });
  }
}

TEST_CASE("probing needs no privileges and adds nothing", "[kernel]") {
  if (!can_mount()) return;
  const Ext4 filesystem;
  const int answer = exit_code_as(kAlice, [&] {
    LinuxKernel kernel;
    return kernel.probe(filesystem.fd()) == Support::usable ? 0 : 1;
  });
  CHECK(answer == 0);
}

TEST_CASE("an ordinary user adds, uses and removes keys, but only root removes others' claims",
          "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  const KeyIdentifier key = kernel.add_key(filesystem.fd(), raw_key(1));
  const int answer = exit_code_as(kAlice, [&] {
    const KeyStatus before = kernel.key_status(filesystem.fd(), key);
    if (before != KeyStatus{KeyState::present, false, 1}) return 1;
    if (kernel.add_key(filesystem.fd(), raw_key(1)) != key) return 2;
    try {
      static_cast<void>(kernel.remove_key(filesystem.fd(), key, RemoveScope::all_users));
      return 3;
    } catch (const Error& error) {
      if (error.code() != Errc::permission) return 4;
    }
    const auto outcome = kernel.remove_key(filesystem.fd(), key, RemoveScope::own_claim);
    return outcome == RemoveOutcome::other_users ? 0 : 5;
  });
  CHECK(answer == 0);
  CHECK(kernel.key_status(filesystem.fd(), key) == KeyStatus{KeyState::present, true, 1});
}

TEST_CASE("the root of a filesystem is refused by its own reason", "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  std::filesystem::remove(filesystem.path() + "/lost+found");
  const KernelPolicy policy{kernel.add_key(filesystem.fd(), raw_key(1)), {}};
  CHECK(failure(Errc::filesystem_root, [&] { kernel.set_policy(filesystem.fd(), policy); }) ==
        "the root directory of a filesystem cannot be encrypted");
}

TEST_CASE("options that the filesystem cannot do are refused, naming the modes", "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  const UniqueFd directory = make_directory(filesystem.path() + "/d");
  KernelPolicy policy{kernel.add_key(filesystem.fd(), raw_key(1)), {}};

  SECTION("a data unit larger than a block") { policy.options.log2_data_unit_size = 16; }
  SECTION("inode numbers in IVs where they are not stable") {
    policy.options.iv_ino_lblk_64 = true;
  }
  CHECK(failure(Errc::mode, [&] { kernel.set_policy(directory.get(), policy); }) ==
        "the kernel or the filesystem refuses AES-256-XTS / AES-256-CTS with these options");
  CHECK(kernel.get_policy(directory.get()) == std::nullopt);
}

TEST_CASE("every option that the kernel accepts is read back as it was set", "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem("encrypt,stable_inodes");
  const UniqueFd directory = make_directory(filesystem.path() + "/d");
  KernelPolicy policy{kernel.add_key(filesystem.fd(), raw_key(1)), {}};

  SECTION("data unit size") { policy.options.log2_data_unit_size = 9; }
  SECTION("IV_INO_LBLK_64") { policy.options.iv_ino_lblk_64 = true; }
  SECTION("IV_INO_LBLK_32") { policy.options.iv_ino_lblk_32 = true; }
  SECTION("DIRECT_KEY") {
    policy.options.contents = Mode::adiantum;
    policy.options.filenames = Mode::adiantum;
    policy.options.direct_key = true;
  }
  SECTION("other modes") {
    policy.options.contents = Mode::sm4_xts;
    policy.options.filenames = Mode::sm4_cts;
    policy.options.padding_bytes = 4;
  }
  kernel.set_policy(directory.get(), policy);
  CHECK(kernel.get_policy(directory.get()) == policy);
}

TEST_CASE("a read-only filesystem is no place to encrypt, but keys can be added", "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  const UniqueFd directory = make_directory(filesystem.path() + "/d");
  REQUIRE(mount("none", filesystem.path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0);
  const KernelPolicy policy{kernel.add_key(filesystem.fd(), raw_key(1)), {}};
  failure(Errc::io, [&] { kernel.set_policy(directory.get(), policy); });
}

TEST_CASE("the policy of a locked directory can still be read", "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  const std::string path = filesystem.path() + "/d";
  const KernelPolicy policy{kernel.add_key(filesystem.fd(), raw_key(1)), {}};
  kernel.set_policy(make_directory(path).get(), policy);
  make_directory(path + "/sub");
  CHECK(kernel.remove_key(filesystem.fd(), policy.key, RemoveScope::own_claim) ==
        RemoveOutcome::removed);
  CHECK(open((path + "/sub").c_str(), O_RDONLY | O_CLOEXEC) == -1);
  CHECK(kernel.get_policy(open_directory(path).get()) == policy);
}

TEST_CASE("an encrypted directory seen through an overlay is not taken for a plain one",
          "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  const Ext4 filesystem;
  const std::string lower = filesystem.path() + "/lower";
  make_directory(lower);
  const KernelPolicy policy{kernel.add_key(filesystem.fd(), raw_key(1)), {}};
  kernel.set_policy(make_directory(lower + "/private").get(), policy);
  const TemporaryDirectory merged;
  make_directory(filesystem.path() + "/empty");
  const Mounted overlay("overlay", merged.path(),
                        "lowerdir=" + lower + ":" + filesystem.path() + "/empty");

  const UniqueFd seen = open_directory(merged.path() + "/private");
  CHECK(failure(Errc::filesystem, [&] {
          static_cast<void>(kernel.get_policy(seen.get()));
        }).starts_with("encrypted, but seen through an overlay"));
  CHECK(kernel.get_policy(open_directory(merged.path()).get()) == std::nullopt);
}

TEST_CASE("a policy from a disk with modes or flags of the future is refused, not guessed",
          "[kernel]") {
  if (!can_mount()) return;
  LinuxKernel kernel;
  Ext4 filesystem("encrypt,^metadata_csum");  // so that bytes can be changed in place
  const std::string path = filesystem.path() + "/d";
  const KeyIdentifier key = kernel.add_key(filesystem.fd(), raw_key(1));
  kernel.set_policy(make_directory(path).get(), {key, {}});

  // The context on disk: version, contents, filenames, flags, data unit size, three reserved bytes,
  // key identifier, nonce.
  const auto [offset, value] = GENERATE(table<std::size_t, char>({{1, 3}, {2, 11}, {3, 0x20}}));
  filesystem.remount([&, at = offset, byte = value] {
    const UniqueFd device(open(filesystem.device().c_str(), O_RDWR | O_CLOEXEC));
    std::string image(std::size_t{32} << 20U, '\0');
    REQUIRE(pread(device.get(), image.data(), image.size(), 0) == std::ssize(image));
    const std::string identifier(key.bytes.begin(), key.bytes.end());
    std::size_t found = image.find(identifier);
    REQUIRE(found != std::string::npos);
    // Copies in the journal are changed as well, which harms nothing.
    for (; found != std::string::npos; found = image.find(identifier, found + 1)) {
      REQUIRE(pwrite(device.get(), &byte, 1, static_cast<off_t>(found - 8 + at)) == 1);
    }
  });

  const UniqueFd directory = open_directory(path);
  CHECK(failure(Errc::policy_version, [&] {
          static_cast<void>(kernel.get_policy(directory.get()));
        }) == "its encryption policy uses modes or flags newer than this program");
}

TEST_CASE("the UUID of a filesystem is the one in its superblock", "[kernel]") {
  if (!can_mount()) return;
  const Ext4 filesystem;
  std::array<std::uint8_t, 16> uuid{};
  constexpr off_t kUuidInSuperblock = 1024 + 0x68;
  const UniqueFd device(open(filesystem.device().c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(pread(device.get(), uuid.data(), uuid.size(), kUuidInSuperblock) == 16);
  CHECK(filesystem_uuid(filesystem.fd()) == to_hex(uuid));
}

TEST_CASE("a filesystem without a UUID has none", "[kernel]") {
  CHECK(filesystem_uuid(open_directory("/proc").get()) == std::nullopt);
}

TEST_CASE("a descriptor that was opened as a path only is an error, not a plain directory",
          "[kernel]") {
  LinuxKernel kernel;
  const UniqueFd path_only(open("/", O_PATH | O_CLOEXEC));
  failure(Errc::io, [&] { static_cast<void>(kernel.get_policy(path_only.get())); });
  failure(Errc::io, [&] { static_cast<void>(kernel.probe(path_only.get())); });
}

}  // namespace
}  // namespace fscryptctl::test
