#include "fscryptctl/tree/scan.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/tree/copy.h"
#include "support/other_process.h"
#include "tree/sample_tree.h"
#include "tree/snapshot.h"

namespace fscryptctl::test {
namespace {

constexpr uid_t kAlice = 61001;

TreeScan scan(const std::string& path, const ScanRules& rules = {}) {
  TreeProgress progress;
  TreeScan found = scan_tree(open_directory(path).get(), rules, progress, [] {});
  CHECK(progress.files >= found.files);
  return found;
}

std::string obstacles(const TreeScan& found) {
  constexpr const char* kNames[] = {"mount_point", "encrypted",     "swap_file", "verity",
                                    "symlink",     "foreign_owner", "unreadable"};
  std::vector<std::string> lines;
  for (const Obstacle& obstacle : found.obstacles) {
    lines.push_back(obstacle.path + ": " + kNames[static_cast<int>(obstacle.kind)] + '\n');
  }
  std::ranges::sort(lines);
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

TEST_CASE("a scan counts what a copy needs, without any change", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  SECTION("everything") {
    const unsigned seed = GENERATE(range(0U, 8U));
    make_sample_tree(plain, seed);
    const Snapshot before = snapshot(plain);
    const TreeScan found = scan(plain, {.destination_encrypted = true});
    CHECK(first_difference(before, snapshot(plain)) == kNothing);
    CHECK(obstacles(found) == kNothing);
    CHECK(found.files == before.size() - 1);
    CHECK(found.inodes <= before.size());
    CHECK(found.linked_outside == 0);
    struct statvfs space {};
    const auto used = [&] {
      REQUIRE(syncfs(filesystem.ext4().fd()) == 0);
      REQUIRE(statvfs(filesystem.ext4().path().c_str(), &space) == 0);
      return (space.f_blocks - space.f_bfree) * space.f_frsize;
    };
    const std::uint64_t before_copy = used();
    TreeProgress progress;
    copy_tree(open_directory(plain).get(), open_directory(encrypted).get(), {}, progress, [] {});
    CHECK(used() - before_copy <= found.bytes_on_disk);
    CHECK(progress.files == found.files);
    CHECK(progress.bytes == found.bytes);
  }
  SECTION("files with several names") {
    write_file(plain + "/one", std::string(10000, 'x'));
    REQUIRE(link((plain + "/one").c_str(), (plain + "/two").c_str()) == 0);
    write_file(plain + "/large", std::string(100000, 'x'));
    write_file(plain + "/outside", "x");
    REQUIRE(link((plain + "/outside").c_str(), filesystem.path("name").c_str()) == 0);
    const TreeScan found = scan(plain);
    CHECK(found.files == 4);
    CHECK(found.inodes == 4);
    CHECK(found.bytes == 110001);
    CHECK(found.largest_file == 102400);
    CHECK(found.largest_linked_file == 12288);
    CHECK(found.linked_outside == 1);
  }
}

TEST_CASE("a scan finds what cannot be taken along", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  REQUIRE(mkdir((plain + "/d").c_str(), 0755) == 0);

  SECTION("mounts") {
    REQUIRE(mkdir((plain + "/d/m").c_str(), 0755) == 0);
    write_file(plain + "/file", "x");
    REQUIRE(mount(encrypted.c_str(), (plain + "/d/m").c_str(), nullptr, MS_BIND, nullptr) == 0);
    REQUIRE(mount((plain + "/file").c_str(), (plain + "/file").c_str(), nullptr, MS_BIND,
                  nullptr) == 0);
    CHECK(obstacles(scan(plain)) == "d/m: mount_point\nfile: mount_point\n");
    CHECK(umount((plain + "/d/m").c_str()) == 0);
    CHECK(umount((plain + "/file").c_str()) == 0);
  }
  SECTION("encrypted directories, locked ones too, and files") {
    write_file(encrypted + "/file", "x");
    write_file(encrypted + "/loose", "x");
    REQUIRE(rename(encrypted.c_str(), (plain + "/d/e").c_str()) == 0);
    REQUIRE(rename((plain + "/d/e/loose").c_str(), (plain + "/loose").c_str()) == 0);
    const auto expected = "d/e: encrypted\nloose: encrypted\n";
    CHECK(obstacles(scan(plain)) == expected);
    filesystem.remove_key(1);
    CHECK(obstacles(scan(plain)) == expected);
    CHECK(obstacles(scan(plain, {.root_encrypted = true})) == "d/e/" + [&] {
      const UniqueFd locked = open_directory(plain + "/d/e");
      return directory_names(locked.get(), 1).names.front();
    }() + ": unreadable\nloose: unreadable\n");
  }
  SECTION("swap") {
    const std::string swap = plain + "/d/swap \\ file";
    write_file(swap, std::string(1 << 20, '\0'), 0600);
    const UniqueFd file(open(swap.c_str(), O_WRONLY | O_CLOEXEC));
    struct {
      unsigned version = 1;
      unsigned last_page = 255;
      unsigned bad_pages = 0;
    } header;
    REQUIRE(pwrite(file.get(), &header, sizeof header, 1024) == sizeof header);
    REQUIRE(pwrite(file.get(), "SWAPSPACE2", 10, 4086) == 10);
    REQUIRE(fsync(file.get()) == 0);
    REQUIRE(swapon(swap.c_str(), 0) == 0);
    const TreeScan found = scan(plain);
    swapoff(swap.c_str());
    CHECK(obstacles(found) == "d/swap \\ file: swap_file\n");
  }
  SECTION("long symlinks") {
    REQUIRE(symlink(std::string(4093, 'x').c_str(), (plain + "/fits").c_str()) == 0);
    REQUIRE(symlink(std::string(4094, 'x').c_str(), (plain + "/long").c_str()) == 0);
    CHECK(obstacles(scan(plain, {.destination_encrypted = true})) == "long: symlink\n");
    CHECK(obstacles(scan(plain)) == kNothing);
  }
  SECTION("what is not the user's") {
    REQUIRE(chown(plain.c_str(), kAlice, kAlice) == 0);
    for (const char* const name :
         {"/root", "/group", "/capable", "/immutable", "/mine", "/secret", "/special"}) {
      if (std::string(name) == "/special") {
        REQUIRE(mknod((plain + name).c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0);
      } else {
        write_file(plain + name, "x");
      }
      if (std::string(name) != "/root") REQUIRE(chown((plain + name).c_str(), kAlice, kAlice) == 0);
    }
    REQUIRE(chown((plain + "/group").c_str(), kAlice, 0) == 0);
    REQUIRE(chown((plain + "/d").c_str(), kAlice, kAlice) == 0);
    set_xattr(plain + "/capable", "security.capability", capability_value());
    set_flags(plain + "/immutable", FS_IMMUTABLE_FL);
    REQUIRE(chmod((plain + "/secret").c_str(), 0000) == 0);
    REQUIRE(chmod((plain + "/d").c_str(), 0000) == 0);
    CHECK(obstacles(scan(plain)) == kNothing);
    CHECK(run_as(kAlice, [&] {
      return obstacles(scan(plain)) ==
             "capable: foreign_owner\nd: unreadable\ngroup: foreign_owner\n"
             "immutable: foreign_owner\nroot: foreign_owner\nsecret: unreadable\n"
             "special: foreign_owner\n";
    }));
  }
  SECTION("no more than wanted") {
    for (int i = 0; i < 5; ++i) {
      REQUIRE(symlink(std::string(4094, 'x').c_str(), (plain + '/' + std::to_string(i)).c_str()) ==
              0);
    }
    const TreeScan found = scan(plain, {.destination_encrypted = true, .obstacle_limit = 3});
    CHECK(found.obstacles.size() == 3);
    CHECK_FALSE(found.obstacles_complete);
  }
}

}  // namespace
}  // namespace fscryptctl::test
