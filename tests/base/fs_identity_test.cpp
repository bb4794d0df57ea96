#include "fscryptctl/base/fs_identity.h"

#include <fcntl.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <optional>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "support/ext4_fixture.h"
#include "support/other_process.h"
#include "support/temporary_directory.h"

using namespace fscryptctl;
using namespace fscryptctl::test;

namespace {

constexpr Identity kAlice{1000, 1000};
constexpr Identity kBob{1001, 1001};

uid_t filesystem_uid() { return static_cast<uid_t>(setfsuid(static_cast<uid_t>(-1))); }
gid_t filesystem_gid() { return static_cast<gid_t>(setfsgid(static_cast<gid_t>(-1))); }

std::optional<Errc> refusal(Identity identity) {
  try {
    const ActAs acting(identity);
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

}  // namespace

TEST_CASE("acting as oneself changes nothing") {
  const ActAs acting(own_identity());
  CHECK(filesystem_uid() == geteuid());
}

TEST_CASE("root acting as a user has that user's rights and no more") {
  if (!can_mount()) return;
  const TemporaryDirectory directory;
  const std::string secret = directory.path() + "/secret";
  REQUIRE(mkdir(secret.c_str(), 0700) == 0);
  const std::string open_to_all = directory.path() + "/open";
  REQUIRE(mkdir(open_to_all.c_str(), 0700) == 0);
  REQUIRE(chmod(open_to_all.c_str(), 01777) == 0);
  {
    const ActAs acting(kAlice);
    CHECK(open((secret + "/file").c_str(), O_CREAT | O_WRONLY, 0600) < 0);
    const UniqueFd made(open((open_to_all + "/file").c_str(), O_CREAT | O_WRONLY, 0600));
    REQUIRE(made);
    CHECK(file_info(made.get()).uid == kAlice.uid);
    CHECK(file_info(made.get()).gid == kAlice.gid);
  }
  CHECK(filesystem_uid() == 0);
  CHECK(filesystem_gid() == 0);
  const UniqueFd made(open((secret + "/file").c_str(), O_CREAT | O_WRONLY, 0600));
  CHECK(made);
}

TEST_CASE("acting as a user ends when an error passes through") {
  if (!can_mount()) return;
  try {
    const ActAs acting(kAlice);
    throw Error(Errc::io, "something failed");
  } catch (const Error&) {
    CHECK(filesystem_uid() == 0);
  }
}

TEST_CASE("acting nests only with the same user") {
  if (!can_mount()) return;
  const ActAs acting(kAlice);
  {
    const ActAs again(kAlice);
    CHECK(filesystem_uid() == kAlice.uid);
  }
  CHECK(filesystem_uid() == kAlice.uid);
  CHECK(refusal(kBob) == Errc::internal);
  CHECK(filesystem_uid() == kAlice.uid);
}

TEST_CASE("an ordinary user cannot act as another") {
  if (!can_mount()) return;
  CHECK(run_as(kAlice.uid, [] {
    return refusal(kBob) == Errc::permission && filesystem_uid() == kAlice.uid &&
           filesystem_gid() == kAlice.gid && refusal(Identity{0, 0}) == Errc::permission &&
           filesystem_uid() == kAlice.uid;
  }));
}

TEST_CASE("a user who changed her group still acts as herself") {
  if (!can_mount()) return;
  CHECK(run_as(kAlice.uid, [] { return !refusal(Identity{kAlice.uid, 4242}); }));
}

TEST_CASE("an id that is none is refused") {
  if (!can_mount()) return;
  CHECK(refusal(Identity{static_cast<uid_t>(-1), 1000}) == Errc::permission);
  CHECK(refusal(Identity{1000, static_cast<gid_t>(-1)}) == Errc::permission);
  CHECK(filesystem_uid() == 0);
  CHECK(filesystem_gid() == 0);
}

TEST_CASE("where root's rights would stay, acting as a user is refused") {
  if (!can_mount()) return;
  CHECK(run_as(0, [] {
    return prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) == 0 &&
           refusal(kAlice) == Errc::permission && filesystem_uid() == 0 && filesystem_gid() == 0;
  }));
}
