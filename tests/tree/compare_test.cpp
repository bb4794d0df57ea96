#include "fscryptctl/tree/compare.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/tree/copy.h"
#include "fscryptctl/tree/exchange.h"
#include "tree/sample_tree.h"
#include "tree/snapshot.h"

namespace fscryptctl::test {
namespace {

std::string text_of(const std::vector<TreeFinding>& findings) {
  std::string text;
  for (const TreeFinding& finding : findings) text += finding.path + ": " + finding.what + '\n';
  return text;
}

std::string compare(const std::string& a, const std::string& b, std::size_t limit = 100) {
  TreeProgress progress;
  return text_of(
      compare_trees(open_directory(a).get(), open_directory(b).get(), limit, progress, [] {}));
}

std::string changes(const std::string& root, FileTime since, std::size_t limit = 100) {
  TreeProgress progress;
  return text_of(changes_since(open_directory(root).get(), since, ChangeSigns::times_and_writers,
                               limit, progress, [] {}));
}

void copy(const std::string& source, const std::string& destination) {
  TreeProgress progress;
  const UniqueFd to = open_directory(destination);
  copy_tree(open_directory(source).get(), to.get(), {.destination_empty = true}, progress, {});
  sync_tree(to.get());
}

/// Times of change are those of the kernel's last tick.
FileTime later(int directory) {
  const FileTime before = filesystem_now(directory);
  FileTime now = before;
  while (now == before) now = filesystem_now(directory);
  return now;
}

TEST_CASE("two trees that are the same compare so, without any change", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const unsigned seed = GENERATE(range(0U, 6U));
  const std::string plain = filesystem.make_plain("plain");
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  make_sample_tree(plain, seed);
  copy(plain, encrypted);
  const Snapshot before = snapshot(plain);
  CHECK(compare(plain, encrypted) == kNothing);
  CHECK(first_difference(before, snapshot(plain)) == kNothing);
  CHECK(first_difference(before, snapshot(encrypted)) == kNothing);
}

TEST_CASE("every difference between two trees is found", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string other = filesystem.make_encrypted("other");
  REQUIRE(mkdir((plain + "/d").c_str(), 0755) == 0);
  write_file(plain + "/d/f", "contents");
  write_file(plain + "/one", "linked");
  REQUIRE(link((plain + "/one").c_str(), (plain + "/two").c_str()) == 0);
  REQUIRE(symlink("target", (plain + "/l").c_str()) == 0);
  REQUIRE(mkfifo((plain + "/p").c_str(), 0600) == 0);
  copy(plain, other);
  REQUIRE(compare(plain, other) == kNothing);
  const std::string file = other + "/d/f";
  struct stat was {};
  REQUIRE(stat(file.c_str(), &was) == 0);
  const auto put_times_back = [&](const std::string& path) {
    const timespec times[] = {was.st_atim, was.st_mtim};
    REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
  };
  const auto with_directory_times = [&](const std::string& path, const auto& change) {
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    change();
    const timespec times[] = {status.st_atim, status.st_mtim};
    REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
  };

  SECTION("contents") {
    write_file(file, "Contents");
    put_times_back(file);
    CHECK(compare(plain, other) == "d/f: contents\n");
  }
  SECTION("contents on the disk only") {
    // What is cached is right: reading it would find nothing.
    const std::string there = plain + "/raw";
    write_file(there, std::string(4096, 'x'));
    with_directory_times(other, [&] {
      write_file(other + "/raw", std::string(4096, 'x'));
      struct stat status {};
      REQUIRE(stat(there.c_str(), &status) == 0);
      was = status;
      put_times_back(other + "/raw");
    });
    struct stat root {};
    REQUIRE(stat(plain.c_str(), &root) == 0);
    was = root;
    put_times_back(other);
    sync();
    REQUIRE(compare(plain, other) == kNothing);
    unsigned block = 0;
    {
      const UniqueFd fd(open((other + "/raw").c_str(), O_RDONLY | O_NOATIME));
      REQUIRE(ioctl(fd.get(), FIBMAP, &block) == 0);
      REQUIRE(block != 0);
      char byte = 0;
      REQUIRE(pread(fd.get(), &byte, 1, 0) == 1);  // into the cache
    }
    const UniqueFd device(open(filesystem.ext4().device().c_str(), O_RDWR | O_SYNC));
    REQUIRE(pwrite(device.get(), "damage", 6, off_t{block} * 4096) == 6);
    CHECK(compare(plain, other) == "raw: contents\n");
  }
  SECTION("size") {
    write_file(file, "content");
    put_times_back(file);
    CHECK(compare(plain, other) == "d/f: size\n");
  }
  SECTION("mode") {
    REQUIRE(chmod(file.c_str(), 0640) == 0);
    CHECK(compare(plain, other) == "d/f: mode\n");
  }
  SECTION("owner of a directory") {
    REQUIRE(chown((other + "/d").c_str(), 5, 0) == 0);
    CHECK(compare(plain, other) == "d: owner\n");
  }
  SECTION("time") {
    set_times(file, was.st_atim.tv_sec, 5);
    CHECK(compare(plain, other) == "d/f: time of modification\n");
  }
  SECTION("attribute") {
    set_xattr(file, "user.more", "1");
    CHECK(compare(plain, other) == "d/f: xattr user.more\n");
  }
  SECTION("flags") {
    set_flags(file, FS_NODUMP_FL);
    CHECK(compare(plain, other) == "d/f: flags\n");
  }
  SECTION("hard links") {
    with_directory_times(other, [&] {
      REQUIRE(unlink((other + "/two").c_str()) == 0);
      write_file(other + "/two", "linked");
    });
    // Whichever name comes second.
    CHECK(compare(plain, other).find(": hard links\n") != std::string::npos);
  }
  SECTION("kind, missing, surplus, target, another inode") {
    with_directory_times(other, [&] {
      REQUIRE(unlink((other + "/l").c_str()) == 0);
      REQUIRE(symlink("Target", (other + "/l").c_str()) == 0);
      REQUIRE(unlink((other + "/p").c_str()) == 0);
      REQUIRE(mkfifo((other + "/p").c_str(), 0600) == 0);
      write_file(other + "/surplus", "");
      with_directory_times(other + "/d",
                           [&] { REQUIRE(rename(file.c_str(), (other + "/d/F").c_str()) == 0); });
    });
    CHECK(compare(plain, other) ==
          "d/F: surplus\nd/f: missing\nl: target\np: inode\nsurplus: surplus\n");
    CHECK(compare(plain, other, 1).size() < 20);
  }
}

TEST_CASE("what was changed since is found", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  REQUIRE(mkdir((plain + "/d").c_str(), 0755) == 0);
  for (const char* const name : {"/a", "/b", "/d/c", "/two"}) write_file(plain + name, "old");
  REQUIRE(symlink("target", (plain + "/l").c_str()) == 0);
  REQUIRE(mkfifo((plain + "/p").c_str(), 0600) == 0);
  const UniqueFd root = open_directory(plain);
  const FileTime since = later(filesystem.ext4().fd());
  CHECK(changes(plain, since) == kNothing);

  SECTION("contents") {
    write_file(plain + "/d/c", "new");
    CHECK(changes(plain, since) == "d/c: changed\n");
  }
  SECTION("contents, with the time put back") {
    struct stat status {};
    REQUIRE(stat((plain + "/a").c_str(), &status) == 0);
    write_file(plain + "/a", "new");
    const timespec times[] = {status.st_atim, status.st_mtim};
    REQUIRE(utimensat(AT_FDCWD, (plain + "/a").c_str(), times, 0) == 0);
    CHECK(changes(plain, since) == "a: changed\n");
  }
  SECTION("mode, owner, attributes of a directory") {
    REQUIRE(chmod((plain + "/d").c_str(), 0700) == 0);
    set_xattr(plain + "/b", "user.x", "y");
    CHECK(changes(plain, since) == "b: changed\nd: changed\n");
    CHECK(changes(plain, since, 1).size() == 11);
  }
  SECTION("something new or gone") {
    REQUIRE(unlink((plain + "/b").c_str()) == 0);
    write_file(plain + "/d/new", "");
    CHECK(changes(plain, since) == ".: changed\nd: changed\nd/new: changed\n");
  }
  SECTION("second names of special files and symlinks are no change") {
    REQUIRE(link((plain + "/p").c_str(), filesystem.path("p").c_str()) == 0);
    CHECK(changes(plain, since) == kNothing);
  }
  SECTION("somebody may still write") {
    const UniqueFd writer(open((plain + "/a").c_str(), O_RDWR));
    const UniqueFd reader(open((plain + "/b").c_str(), O_RDONLY));
    CHECK(changes(plain, since) == "a: open for writing\n");
  }
}

TEST_CASE("two directories change places only if they are the ones that are meant", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string work = filesystem.make_plain("work");
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  write_file(plain + "/old", "");
  write_file(encrypted + "/new", "");
  REQUIRE(rename(encrypted.c_str(), (work + "/tree").c_str()) == 0);
  const UniqueFd between = open_directory(work);
  const int top = filesystem.ext4().fd();
  const InodeIdentity a = inode_identity(open_directory(plain).get());
  const InodeIdentity b = inode_identity(open_directory(work + "/tree").get());

  SECTION("they are") {
    exchange_directories(top, "plain", a, between.get(), "tree", b);
    CHECK(access((plain + "/new").c_str(), F_OK) == 0);
    CHECK(access((work + "/tree/old").c_str(), F_OK) == 0);
  }
  SECTION("they are not") {
    InodeIdentity other = b;
    SECTION("another inode") { ++other.inode; }
    SECTION("the number of an inode given again") { ++other.generation; }
    try {
      exchange_directories(top, "plain", a, between.get(), "tree", other);
      FAIL("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.code() == Errc::files_in_use);
    }
    CHECK(access((plain + "/old").c_str(), F_OK) == 0);
  }
  SECTION("one is a symlink to it") {
    REQUIRE(rename(plain.c_str(), filesystem.path("elsewhere").c_str()) == 0);
    REQUIRE(symlink("elsewhere", plain.c_str()) == 0);
    CHECK_THROWS_AS(exchange_directories(top, "plain", a, between.get(), "tree", b), Error);
    CHECK(access((work + "/tree/new").c_str(), F_OK) == 0);
  }
}

}  // namespace
}  // namespace fscryptctl::test
