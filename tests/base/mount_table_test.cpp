#include "fscryptctl/base/mount_table.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "fscryptctl/base/file.h"

namespace fscryptctl {
namespace {

Mount parse_one(const std::string& line) {
  const std::vector<Mount> mounts = parse_mountinfo(line);
  REQUIRE(mounts.size() == 1);
  return mounts.front();
}

TEST_CASE("a line of mountinfo is read field by field") {
  const Mount mount =
      parse_one("36 35 98:3 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
  CHECK(mount.id == 36);
  CHECK(mount.parent_id == 35);
  CHECK(mount.device == makedev(98, 3));
  CHECK(mount.root == "/mnt1");
  CHECK(mount.mount_point == "/mnt2");
  CHECK(mount.type == "ext3");
  CHECK(mount.source == "/dev/root");
  CHECK_FALSE(mount.read_only);
  CHECK(filesystem_options(mount) == std::vector<std::string>{"rw", "errors=continue"});
}

TEST_CASE("any number of optional fields is passed over") {
  CHECK(parse_one("1 0 8:1 / / rw - ext4 /dev/sda1 rw").type == "ext4");
  CHECK(
      parse_one("1 0 8:1 / / rw shared:1 master:2 propagate_from:3 unbindable - ext4 a rw").type ==
      "ext4");
}

TEST_CASE("names with blanks, newlines, backslashes and any other bytes come back as they are") {
  const Mount mount =
      parse_one(R"(1 0 8:1 /a\040b\011c\012d\134e /\0431\377\1345 rw - fuse.x\040y s\040t rw)");
  CHECK(mount.root == "/a b\tc\nd\\e");
  CHECK(mount.mount_point == "/#1\xff\\5");
  CHECK(mount.type == "fuse.x y");
  CHECK(mount.source == "s t");
}

TEST_CASE("a backslash that begins no escape stays") {
  CHECK(parse_one(R"(1 0 8:1 / /\04 rw - t s rw)").mount_point == R"(/\04)");
  CHECK(parse_one(R"(1 0 8:1 / /\08x rw - t s rw)").mount_point == R"(/\08x)");
  CHECK(parse_one(R"(1 0 8:1 / /\777 rw - t s rw)").mount_point == R"(/\777)");
  CHECK(parse_one(R"(1 0 8:1 / /a\ rw - t s rw)").mount_point == R"(/a\)");
}

TEST_CASE("an empty source does not shift the fields after it") {
  const Mount mount = parse_one("1 0 0:50 / /t rw - tmpfs  ro,size=1k");
  CHECK(mount.source.empty());
  CHECK(mount.read_only);
}

TEST_CASE("read-only is the mount's or the filesystem's, never part of another option") {
  CHECK(parse_one("1 0 8:1 / / ro,noatime - ext4 d rw").read_only);
  CHECK(parse_one("1 0 8:1 / / rw - ext4 d ro").read_only);
  CHECK_FALSE(parse_one("1 0 8:1 / / rw,ro - overlay d rw,lowerdir=a,ro").read_only);
  CHECK_FALSE(parse_one("1 0 8:1 / / rw - ext4 d rw,errors=remount-ro").read_only);
}

TEST_CASE("the options of a filesystem are split before their names are decoded") {
  const Mount mount =
      parse_one(R"(1 0 0:9 / /o rw - overlay overlay rw,lowerdir=/a\054b:/c\040d,x)");
  CHECK(filesystem_options(mount) == std::vector<std::string>{"rw", "lowerdir=/a,b:/c d", "x"});
}

TEST_CASE("a root that was deleted stays marked") {
  CHECK(parse_one("1 0 8:1 /gone//deleted /m rw - ext4 d rw").root == "/gone//deleted");
}

TEST_CASE("lines that cannot be understood are left out and the rest is kept") {
  const std::string good = "7 1 8:1 / /good rw - ext4 /dev/sda1 rw\n";
  const std::string bad =
      GENERATE(as<std::string>(), "", " ", "nonsense", "36 35 98:0 /mnt1 /mnt2 rw",
               "x 35 98:0 / /m rw - ext4 d rw", "36 -1 98:0 / /m rw - ext4 d rw",
               "36 35 98 / /m rw - ext4 d rw", "36 35 98:0:1 / /m rw - ext4 d rw",
               "36 35 9z:0 / /m rw - ext4 d rw", "36 35 98:0 / /m rw ext4 d rw",
               "36 35 98:0 / /m rw - ext4 d", "36 35 98:0 / /m rw - ext4 d rw more",
               "99999999999999999999 35 98:0 / /m rw - ext4 d rw");
  CAPTURE(bad);
  const std::vector<Mount> mounts = parse_mountinfo(good + bad + "\n" + good);
  REQUIRE(mounts.size() == 2);
  CHECK(mounts[1].mount_point == "/good");
}

TEST_CASE("a mount is found by its id, not by its place or name") {
  const std::vector<Mount> mounts = parse_mountinfo(
      "20 1 8:1 / /m rw - ext4 a rw\n"
      "21 20 8:2 / /m rw - ext4 b rw\n");
  REQUIRE(find_mount(mounts, 20) != nullptr);
  CHECK(find_mount(mounts, 20)->source == "a");
  CHECK(find_mount(mounts, 21)->source == "b");
  CHECK(find_mount(mounts, 22) == nullptr);
}

TEST_CASE("the mount of an open file is found in this process's table") {
  const std::vector<Mount> mounts = read_mount_table();
  for (const std::string path : {"/", "/proc", "/proc/self/status", "/dev/null"}) {
    CAPTURE(path);
    const UniqueFd fd(open(path.c_str(), O_PATH | O_CLOEXEC));
    const Mount* const mount = find_mount(mounts, mount_id_of(fd.get()));
    REQUIRE(mount != nullptr);
    CHECK(path.starts_with(mount->mount_point));
  }
}

TEST_CASE("a mount carries the device that its files report") {
  const UniqueFd fd(open("/proc", O_PATH | O_CLOEXEC));
  const std::vector<Mount> mounts = read_mount_table();
  const Mount* const mount = find_mount(mounts, mount_id_of(fd.get()));
  REQUIRE(mount != nullptr);
  CHECK(mount->device == file_info(fd.get()).device);
  CHECK(mount->type == "proc");
}

TEST_CASE("filesystems whose server may hang are known by their type") {
  for (const char* const type : {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse", "fuseblk",
                                 "fuse.sshfs", "autofs", "ceph", "afs", "lustre", "gfs2"}) {
    CAPTURE(type);
    CHECK(is_network_type(type));
  }
  for (const char* const type :
       {"ext4", "f2fs", "ubifs", "btrfs", "tmpfs", "overlay", "fusectl", "nfsd", "proc", ""}) {
    CAPTURE(type);
    CHECK_FALSE(is_network_type(type));
  }
}

}  // namespace
}  // namespace fscryptctl
