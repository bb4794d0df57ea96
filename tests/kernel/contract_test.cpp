// What the rest of the program may rely on, held against the running kernel on a real filesystem
// and against the fake that other tests use, so that neither can drift from the other.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/fs_identity.h"
#include "fscryptctl/crypto/key_identifier.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "kernel/fake_kernel.h"
#include "support/ext4_fixture.h"
#include "support/temporary_directory.h"

namespace fscryptctl::test {
namespace {

constexpr uid_t kAlice = 61001;
constexpr uid_t kBob = 61002;
constexpr uid_t kCollector = 61003;

/// The running kernel and a scratch ext4.
class RealWorld {
 public:
  static bool available() { return can_mount(); }
  Kernel& kernel() { return kernel_; }
  int fs_fd() const { return filesystem_.fd(); }
  const std::string& path() const { return filesystem_.path(); }

  template <class Function>
  auto as_user(uid_t user, Function function) {
    const ActAs acting(Identity{user, user});
    return function();
  }
  void hold_files(const KeySpecifier& /*key*/, const std::string& directory) {
    held_.reset(open((directory + "/held").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(held_);
  }
  void release_files(const KeySpecifier& /*key*/) { held_.reset(); }

 private:
  LinuxKernel kernel_;
  Ext4 filesystem_;
  UniqueFd held_;
};

/// The fake and an ordinary directory; needs no privileges.
class FakeWorld {
 public:
  static bool available() { return true; }
  FakeWorld() : root_(open(directory_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    kernel_.act_as(0);
  }
  Kernel& kernel() { return kernel_; }
  int fs_fd() const { return root_.get(); }
  const std::string& path() const { return directory_.path(); }

  template <class Function>
  auto as_user(uid_t user, Function function) {
    struct Acting {
      explicit Acting(FakeKernel& fake, uid_t other) : kernel(fake) { kernel.act_as(other); }
      ~Acting() { kernel.act_as(0); }
      FakeKernel& kernel;
    };
    const Acting acting(kernel_, user);
    return function();
  }
  void hold_files(const KeySpecifier& key, const std::string& directory) {
    std::ofstream(directory + "/held") << "x";
    kernel_.hold_files(key);
  }
  void release_files(const KeySpecifier& key) { kernel_.release_files(key); }

 private:
  FakeKernel kernel_;
  TemporaryDirectory directory_;
  UniqueFd root_;
};

SecretBytes raw_key(std::uint8_t first, std::size_t size = 64) {
  SecretBytes key(size);
  for (std::uint8_t& byte : key.writable()) byte = first++;
  return key;
}

UniqueFd open_directory(const std::string& path) {
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(directory);
  return directory;
}

template <class World>
UniqueFd make_directory(World& world, const std::string& name) {
  const std::string path = world.path() + "/" + name;
  REQUIRE(mkdir(path.c_str(), 0755) == 0);
  return open_directory(path);
}

template <class Function>
Errc error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    CAPTURE(error.what());
    CHECK_FALSE(std::string(error.what()).empty());
    return error.code();
  }
  FAIL("nothing was thrown");
  return Errc::internal;
}

constexpr KeyStatus kAbsent{};
constexpr KeyStatus kIncompletelyRemoved{KeyState::incompletely_removed, false, 0};

/// Removed, as soon as the kernel has noticed that the last file was closed.
template <class World>
RemoveOutcome remove(World& world, const KeySpecifier& key,
                     RemoveScope scope = RemoveScope::own_claim) {
  return world.kernel().remove_key(world.fs_fd(), key, scope);
}

#define FOR_BOTH_KERNELS(name) TEMPLATE_TEST_CASE(name, "[kernel]", RealWorld, FakeWorld)

#define SKIP_WITHOUT_WORLD() \
  if (!TestType::available()) return

FOR_BOTH_KERNELS("a usable filesystem is recognised") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  CHECK(world.kernel().probe(world.fs_fd()) == Support::usable);
}

FOR_BOTH_KERNELS("the kernel names a key as this program computes it") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const auto [first, size, name] = GENERATE(table<std::uint8_t, std::size_t, std::string>({
      {0x00, 64, "8699c2c53707405da5aba5ae4d8583c0"},
      {0x01, 64, "69b2f6edeee720cce0577937eb8a6751"},
      {0x00, 32, "37d7d76a59400083289c185526730d34"},
      {0x00, 16, "7c656a522d30b5d06b3ecb33463b2e3b"},
  }));
  CHECK(world.kernel().add_key(world.fs_fd(), raw_key(first, size)).hex() == name);
}

FOR_BOTH_KERNELS("keys of impossible sizes are refused") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const std::size_t size = GENERATE(0U, 15U, 65U, 128U);
  CHECK(error_of([&] { world.kernel().add_key(world.fs_fd(), raw_key(0, size)); }) == Errc::usage);
}

FOR_BOTH_KERNELS("hardware-wrapped keys have sizes of their own") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const auto add = [&](std::size_t size) {
    return error_of([&] {
      world.kernel().add_key(world.fs_fd(), raw_key(0, size), KeyForm::hardware_wrapped);
    });
  };
  CHECK(add(15) == Errc::usage);
  CHECK(add(129) == Errc::usage);
}

FOR_BOTH_KERNELS("a hardware-wrapped key without the hardware is refused and adds nothing") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const std::size_t size = GENERATE(16U, 64U, 65U, 128U);
  const SecretBytes key = raw_key(0, size);
  const Errc reason =
      error_of([&] { world.kernel().add_key(world.fs_fd(), key, KeyForm::hardware_wrapped); });
  // Kernels before 6.16 do not know the flag.
  CHECK((reason == Errc::filesystem || reason == Errc::no_kernel_support));
  CHECK(world.kernel().key_status(world.fs_fd(), key_identifier_of(key.view())) == kAbsent);
}

FOR_BOTH_KERNELS("a key that was never added is absent and cannot be removed") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const KeyIdentifier key = key_identifier_of(raw_key(7).view());
  CHECK(world.kernel().key_status(world.fs_fd(), key) == kAbsent);
  CHECK(remove(world, key) == RemoveOutcome::absent);
  CHECK(remove(world, key, RemoveScope::all_users) == RemoveOutcome::absent);
}

FOR_BOTH_KERNELS("adding a key twice counts once, and one removal undoes it") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const KeyIdentifier key = world.kernel().add_key(world.fs_fd(), raw_key(0));
  CHECK(world.kernel().add_key(world.fs_fd(), raw_key(0)) == key);
  CHECK(world.kernel().key_status(world.fs_fd(), key) == KeyStatus{KeyState::present, true, 1});
  CHECK(remove(world, key) == RemoveOutcome::removed);
  CHECK(world.kernel().key_status(world.fs_fd(), key) == kAbsent);
  CHECK(remove(world, key) == RemoveOutcome::absent);
}

FOR_BOTH_KERNELS("each user has an own claim, and the key stays until the last one goes") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  Kernel& kernel = world.kernel();
  const auto add = [&] { return kernel.add_key(world.fs_fd(), raw_key(0)); };
  const KeyIdentifier key = world.as_user(kAlice, add);
  CHECK(world.as_user(kBob, add) == key);

  const auto status = [&] { return kernel.key_status(world.fs_fd(), key); };
  const auto remove_own = [&] { return remove(world, key); };
  CHECK(status() == KeyStatus{KeyState::present, false, 2});
  CHECK(world.as_user(kAlice, status) == KeyStatus{KeyState::present, true, 2});
  CHECK(remove_own() == RemoveOutcome::absent);  // root holds no claim and drops nobody else's
  CHECK(world.as_user(kAlice, remove_own) == RemoveOutcome::other_users);
  CHECK(world.as_user(kAlice, remove_own) == RemoveOutcome::absent);
  CHECK(world.as_user(kBob, status) == KeyStatus{KeyState::present, true, 1});
  CHECK(world.as_user(kBob, remove_own) == RemoveOutcome::removed);
  CHECK(status() == kAbsent);
}

FOR_BOTH_KERNELS("root can remove the claims of all users at once") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const auto add = [&] { return world.kernel().add_key(world.fs_fd(), raw_key(0)); };
  const KeyIdentifier key = world.as_user(kAlice, add);
  world.as_user(kBob, add);
  CHECK(remove(world, key, RemoveScope::all_users) == RemoveOutcome::removed);
  CHECK(world.kernel().key_status(world.fs_fd(), key) == kAbsent);
}

FOR_BOTH_KERNELS("files in use keep their key incompletely removed until somebody tries again") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  Kernel& kernel = world.kernel();
  const KeyIdentifier key = kernel.add_key(world.fs_fd(), raw_key(0));
  kernel.set_policy(make_directory(world, "private").get(), {key, {}});
  world.hold_files(key, world.path() + "/private");

  CHECK(remove(world, key) == RemoveOutcome::files_busy);
  CHECK(kernel.key_status(world.fs_fd(), key) == kIncompletelyRemoved);
  CHECK(remove(world, key) == RemoveOutcome::files_busy);

  SECTION("closing the files is not enough; any user's retry is") {
    world.release_files(key);
    CHECK(kernel.key_status(world.fs_fd(), key) == kIncompletelyRemoved);
    CHECK(world.as_user(kBob, [&] { return remove(world, key); }) == RemoveOutcome::removed);
    CHECK(kernel.key_status(world.fs_fd(), key) == kAbsent);
  }
  SECTION("adding the key again makes it whole") {
    CHECK(world.as_user(kAlice, [&] { return kernel.add_key(world.fs_fd(), raw_key(0)); }) == key);
    CHECK(kernel.key_status(world.fs_fd(), key) == KeyStatus{KeyState::present, false, 1});
    world.release_files(key);
    CHECK(remove(world, key, RemoveScope::all_users) == RemoveOutcome::removed);
  }
}

FOR_BOTH_KERNELS("an ordinary user can hold only so many keys") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const auto add_many = [&] {
    for (std::uint8_t count = 0; count < 201; ++count) {
      world.kernel().add_key(world.fs_fd(), raw_key(count));
    }
  };
  CHECK(error_of([&] { world.as_user(kCollector, add_many); }) == Errc::key_quota);
}

FOR_BOTH_KERNELS("an encrypted directory and all that is in it report its policy") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  Kernel& kernel = world.kernel();
  const UniqueFd directory = make_directory(world, "private");
  CHECK(kernel.get_policy(directory.get()) == std::nullopt);

  EncryptionOptions options;
  options.padding_bytes = GENERATE(4U, 8U, 16U, 32U);
  const KernelPolicy policy{kernel.add_key(world.fs_fd(), raw_key(0)), options};
  kernel.set_policy(directory.get(), policy);
  CHECK(kernel.get_policy(directory.get()) == policy);
  CHECK(kernel.get_policy(world.fs_fd()) == std::nullopt);

  CHECK(kernel.get_policy(make_directory(world, "private/sub").get()) == policy);
  const UniqueFd file(openat(directory.get(), "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  CHECK(kernel.get_policy(file.get()) == policy);
}

FOR_BOTH_KERNELS(
    "setting the same policy again succeeds even when files exist or the key is gone") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  Kernel& kernel = world.kernel();
  const UniqueFd directory = make_directory(world, "private");
  const KernelPolicy policy{kernel.add_key(world.fs_fd(), raw_key(0)), {}};
  kernel.set_policy(directory.get(), policy);
  make_directory(world, "private/sub");
  kernel.set_policy(directory.get(), policy);
  CHECK(remove(world, policy.key) != RemoveOutcome::absent);
  kernel.set_policy(directory.get(), policy);
  CHECK(kernel.get_policy(directory.get()) == policy);
}

FOR_BOTH_KERNELS("a directory keeps the policy that it has") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  Kernel& kernel = world.kernel();
  const UniqueFd directory = make_directory(world, "private");
  const KernelPolicy policy{kernel.add_key(world.fs_fd(), raw_key(0)), {}};
  kernel.set_policy(directory.get(), policy);

  KernelPolicy other_key = policy;
  other_key.key = kernel.add_key(world.fs_fd(), raw_key(9));
  KernelPolicy other_padding = policy;
  other_padding.options.padding_bytes = 4;
  for (const KernelPolicy& other : {other_key, other_padding}) {
    CHECK(error_of([&] { kernel.set_policy(directory.get(), other); }) == Errc::already_encrypted);
  }
  const UniqueFd below = make_directory(world, "private/sub");
  CHECK(error_of([&] { kernel.set_policy(below.get(), other_key); }) == Errc::already_encrypted);
  CHECK(kernel.get_policy(directory.get()) == policy);
}

FOR_BOTH_KERNELS("a directory is not encrypted with a key that the caller has not added") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  Kernel& kernel = world.kernel();
  const UniqueFd directory = make_directory(world, "private");
  const auto set = [&](const KeyIdentifier& key) {
    return error_of([&] { kernel.set_policy(directory.get(), {key, {}}); });
  };
  CHECK(set(key_identifier_of(raw_key(0).view())) == Errc::wrong_key);
  const KeyIdentifier key =
      world.as_user(kAlice, [&] { return kernel.add_key(world.fs_fd(), raw_key(0)); });
  CHECK(set(key) == Errc::wrong_key);  // another user's claim is not the caller's
  CHECK(kernel.get_policy(directory.get()) == std::nullopt);
}

FOR_BOTH_KERNELS("what cannot be encrypted is refused with the reason") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  Kernel& kernel = world.kernel();
  const KernelPolicy policy{kernel.add_key(world.fs_fd(), raw_key(0)), {}};
  const UniqueFd directory = make_directory(world, "plain");
  const auto set = [&](int fd) { return error_of([&] { kernel.set_policy(fd, policy); }); };

  SECTION("a directory with files") {
    make_directory(world, "plain/sub");
    CHECK(set(directory.get()) == Errc::not_empty);
  }
  SECTION("a file") {
    const UniqueFd file(openat(directory.get(), "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    CHECK(set(file.get()) == Errc::not_a_directory);
  }
  SECTION("a deleted directory") {
    REQUIRE(rmdir((world.path() + "/plain").c_str()) == 0);
    CHECK(set(directory.get()) == Errc::no_such_path);
  }
  SECTION("another user's directory") {
    const auto as_alice = [&] {
      kernel.add_key(world.fs_fd(), raw_key(0));
      return set(directory.get());
    };
    CHECK(world.as_user(kAlice, as_alice) == Errc::permission);
  }
  SECTION("modes that cannot be combined") {
    KernelPolicy odd = policy;
    odd.options.filenames = Mode::aes_128_cts;
    CHECK(error_of([&] { kernel.set_policy(directory.get(), odd); }) == Errc::mode);
  }
  CHECK(kernel.get_policy(directory.get()) == std::nullopt);
}

FOR_BOTH_KERNELS("version 1 policies keep their descriptor and need no key to be set") {
  SKIP_WITHOUT_WORLD();
  TestType world;
  const UniqueFd directory = make_directory(world, "old");
  const KernelPolicy policy{key_descriptor_of(raw_key(0).view()), {}};
  world.kernel().set_policy(directory.get(), policy);
  CHECK(world.kernel().get_policy(directory.get()) == policy);
  CHECK(policy.version() == 1);
  CHECK(world.kernel().key_status(world.fs_fd(), policy.key) == kAbsent);
  CHECK(remove(world, policy.key) == RemoveOutcome::absent);
}

}  // namespace
}  // namespace fscryptctl::test
