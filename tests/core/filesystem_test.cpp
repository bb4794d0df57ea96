#include "fscryptctl/core/filesystem.h"

#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "support/ext4_fixture.h"
#include "support/mounts.h"
#include "support/other_process.h"
#include "support/temporary_directory.h"

using namespace fscryptctl;
using namespace fscryptctl::test;

namespace {

Mount mounted_at(const std::vector<Mount>& mounts, const std::string& path) {
  const auto found = std::find_if(mounts.begin(), mounts.end(),
                                  [&](const Mount& mount) { return mount.mount_point == path; });
  REQUIRE(found != mounts.end());
  return *found;
}

}  // namespace

TEST_CASE("a mount that came after the table of mounts was read is not entered on the way") {
  if (!can_mount()) return;
  const TemporaryDirectory top;
  const std::string hers = top.path() + "/hers";
  const std::string disk = hers + "/disk";
  REQUIRE(mkdir(hers.c_str(), 0755) == 0);
  REQUIRE(mkdir(disk.c_str(), 0755) == 0);
  const ScopedMount below = ScopedMount::tmpfs(disk, "mode=0755");
  const std::vector<Mount> mounts = read_mount_table();
  const Mount mount = mounted_at(mounts, disk);
  CHECK(Filesystem::at(mount, mounts));
  const ScopedMount hanging = ScopedMount::hanging(hers, 1000);
  CHECK(run_as(0, [&] { return !Filesystem::at(mount, mounts); }));
}
