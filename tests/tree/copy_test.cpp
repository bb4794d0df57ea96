#include "fscryptctl/tree/copy.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <vector>

#include "fscryptctl/base/error.h"
#include "support/other_process.h"
#include "tree/sample_tree.h"
#include "tree/snapshot.h"

namespace fscryptctl::test {
namespace {

void copy(const std::string& source, const std::string& destination, bool empty = true,
          const Tick& tick = {}) {
  TreeProgress progress;
  const UniqueFd from = open_directory(source);
  const UniqueFd to = open_directory(destination);
  copy_tree(from.get(), to.get(), {.destination_empty = empty}, progress, tick);
  sync_tree(to.get());
}

TEST_CASE("a copy into an encrypted directory has everything, and back again", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const unsigned seed = GENERATE(range(0U, 12U));
  CAPTURE(seed);
  const std::string plain = filesystem.make_plain("plain");
  make_sample_tree(plain, seed);
  const Snapshot before = snapshot(plain);
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  copy(plain, encrypted);
  CHECK(first_difference(before, snapshot(plain)) == kNothing);
  CHECK(first_difference(before, snapshot(encrypted)) == kNothing);
  const std::string other = filesystem.make_encrypted("other", 2);
  copy(encrypted, other);
  const std::string back = filesystem.make_plain("back");
  copy(other, back);
  CHECK(first_difference(before, snapshot(back)) == kNothing);
}

/// Ends at the n-th call.
Tick stop_after(int calls) {
  return [left = calls]() mutable {
    if (left-- == 0) throw Error(Errc::interrupted, "interrupted", 2);
  };
}

TEST_CASE("a copy that was interrupted anywhere is finished by the next one", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const unsigned seed = GENERATE(range(0U, 4U));
  CAPTURE(seed);
  const std::string plain = filesystem.make_plain("plain");
  make_sample_tree(plain, seed);
  const Snapshot before = snapshot(plain);
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  bool finished = false;
  int interruptions = 0;
  for (int calls = 0; !finished; calls += 3) {
    try {
      copy(plain, encrypted, false, stop_after(calls));
      finished = true;
    } catch (const Error& error) {
      REQUIRE(error.code() == Errc::interrupted);
      ++interruptions;
    }
  }
  CHECK(interruptions > 3);
  CHECK(first_difference(before, snapshot(encrypted)) == kNothing);
  CHECK(first_difference(before, snapshot(plain)) == kNothing);
}

TEST_CASE("a directory that nothing may be done to is copied once more", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  REQUIRE(mkdir((plain + "/d").c_str(), 0555) == 0);
  write_file(plain + "/d/file", "x");
  set_flags(plain + "/d", FS_IMMUTABLE_FL);
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  copy(plain, encrypted);
  copy(plain, encrypted, false);
  CHECK(first_difference(snapshot(plain), snapshot(encrypted)) == kNothing);
}

/// As after a write that failed, of which somebody else was told: the cache is right, the disk not.
void spoil_on_disk(const Ext4& ext4, const std::string& path) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> buffer(sizeof(fiemap) + sizeof(fiemap_extent));
  auto* const map = reinterpret_cast<fiemap*>(buffer.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_extent_count = 1;
  REQUIRE(ioctl(file.get(), FS_IOC_FIEMAP, map) == 0);
  REQUIRE(map->fm_mapped_extents == 1);
  const UniqueFd device(open(ext4.device().c_str(), O_WRONLY | O_CLOEXEC));
  const std::string garbage(512, 'g');
  const auto offset = static_cast<off_t>(map->fm_extents[0].fe_physical);
  REQUIRE(pwrite(device.get(), garbage.data(), garbage.size(), offset) == 512);
  REQUIRE(fsync(device.get()) == 0);
}

TEST_CASE("what is kept of an earlier copy is what the disk has", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string contents(std::size_t{16} << 10, 'x');
  write_file(plain + "/file", contents);
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  copy(plain, encrypted);
  spoil_on_disk(filesystem.ext4(), encrypted + "/file");
  REQUIRE((read_file(encrypted + "/file") == contents));
  copy(plain, encrypted, false);
  filesystem.ext4().remount();
  filesystem.add_key(1);
  CHECK((read_file(encrypted + "/file") == contents));
}

TEST_CASE("a copy over another tree leaves nothing of that", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const unsigned seed = GENERATE(range(0U, 8U));
  CAPTURE(seed);
  const std::string plain = filesystem.make_plain("plain");
  const std::string changed = filesystem.make_plain("changed");
  make_sample_tree(plain, seed);
  make_sample_tree(changed, seed + 1);
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  copy(plain, encrypted);
  copy(changed, encrypted, false);
  CHECK(first_difference(snapshot(changed), snapshot(encrypted)) == kNothing);
}

TEST_CASE("a full disk ends a copy, and nothing is lost", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  REQUIRE(mkdir((plain + "/d").c_str(), 0755) == 0);
  for (int i = 0; i < 20; ++i) {
    write_file(plain + "/d/" + std::to_string(i), std::string(1 << 20, 'x'));
  }
  const Snapshot before = snapshot(plain);
  try {
    copy(plain, encrypted);
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::no_space);
    CHECK(error.path().starts_with("d/"));
  }
  CHECK(first_difference(before, snapshot(plain)) == kNothing);
}

TEST_CASE("a file that several threads copy is whole, with its holes", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  constexpr off_t kMebibyte = off_t{1} << 20;
  constexpr off_t kSize = 100 * kMebibyte + 12345;
  const UniqueFd file(open((plain + "/large").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  REQUIRE(ftruncate(file.get(), kSize) == 0);
  for (const off_t at :
       {off_t{0}, 8 * kMebibyte - 5, 23 * kMebibyte, 55 * kMebibyte + 1, 64 * kMebibyte - 300000}) {
    const std::string data(500000, static_cast<char>('a' + at % 26));
    REQUIRE(pwrite(file.get(), data.data(), data.size(), at) == ssize_t{500000});
  }
  const bool data_at_end = GENERATE(false, true);
  if (data_at_end) REQUIRE(pwrite(file.get(), "end", 3, kSize - 3) == 3);
  const Snapshot before = snapshot(plain);
  copy(plain, encrypted);
  CHECK(first_difference(before, snapshot(encrypted)) == kNothing);
}

TEST_CASE("an ordinary user copies what she may not write to", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  constexpr uid_t kAlice = 61001;
  const std::string home = filesystem.make_plain("home");
  const std::string plain = home + "/plain";
  const std::string other = home + "/other";
  for (const std::string& path : {plain, plain + "/d", other}) {
    REQUIRE(mkdir(path.c_str(), 0755) == 0);
  }
  for (const char* const name : {"/d/file", "/d/script"}) {
    write_file(plain + name, "contents");
    set_xattr(plain + name, "user.note", "kept");
    set_xattr(plain + name, "system.posix_acl_access", acl_value(61002, 5));
    set_times(plain + name, 1000, 2000);
  }
  REQUIRE(symlink("target", (plain + "/d/link").c_str()) == 0);
  REQUIRE(mkfifo((plain + "/d/fifo").c_str(), 0600) == 0);
  set_xattr(plain + "/d", "system.posix_acl_default", acl_value(61002, 0));
  for (const char* const name : {"/plain/d/file", "/plain/d/script", "/plain/d/link",
                                 "/plain/d/fifo", "/plain/d", "/plain", "/other", ""}) {
    REQUIRE(lchown((home + name).c_str(), kAlice, kAlice) == 0);
  }
  REQUIRE(chmod((plain + "/d/file").c_str(), 0444) == 0);
  REQUIRE(chmod((plain + "/d/script").c_str(), 06555) == 0);
  REQUIRE(chmod((plain + "/d").c_str(), 0555) == 0);
  REQUIRE(chmod(plain.c_str(), 0500) == 0);
  set_times(plain + "/d", 3000, 4000);
  const Snapshot before = snapshot(plain);
  const bool again = GENERATE(false, true);
  CHECK(run_as(kAlice, [&] {
    copy(plain, other);
    if (again) copy(plain, other, false);
    return true;
  }));
  CHECK(first_difference(before, snapshot(other)) == kNothing);
}

/// The owner of a tree that root copies puts other things in the place of files all the time.
TEST_CASE("a tree that is changed while it is copied leads nowhere else", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string outside = filesystem.make_plain("outside");
  write_file(outside + "/secret", "secret");
  REQUIRE(mkfifo((outside + "/pipe").c_str(), 0600) == 0);
  set_times(outside + "/secret", 1000, 2000);
  set_times(outside, 1000, 2000);
  const Snapshot before = snapshot(outside);
  for (int i = 0; i < 20; ++i) {
    const std::string number = std::to_string(i);
    const std::string directory = std::string(plain).append("/d").append(number);
    REQUIRE(mkdir(directory.c_str(), 0755) == 0);
    write_file(directory + "/secret", "mine");
    write_file(std::string(plain).append("/f").append(number), "mine");
  }
  std::atomic<bool> ended{false};
  std::thread owner([&] {
    for (unsigned i = 0; !ended; i = (i + 1) % 20) {
      const std::string number = std::to_string(i);
      const std::string file = std::string(plain).append("/f").append(number);
      const std::string directory = std::string(plain).append("/d").append(number);
      const std::string aside = plain + "/aside";
      if (rename(directory.c_str(), aside.c_str()) == 0) {
        static_cast<void>(symlink(outside.c_str(), directory.c_str()));
      }
      unlink(file.c_str());
      static_cast<void>(symlink((outside + "/secret").c_str(), file.c_str()));
      std::this_thread::yield();
      unlink(directory.c_str());
      static_cast<void>(rename(aside.c_str(), directory.c_str()));
      unlink(file.c_str());
      static_cast<void>(mkfifo(file.c_str(), 0600));
      std::this_thread::yield();
      unlink(file.c_str());
      write_file(file, "mine");
    }
  });
  int copied = 0;
  int noticed = 0;
  for (int i = 0; i < 300; ++i) {
    const std::string name = "copy" + std::to_string(i % 5);
    const std::string copied_to = filesystem.path(name);
    if (i < 5) static_cast<void>(filesystem.make_encrypted(name));
    try {
      copy(plain, copied_to, false);
      ++copied;
    } catch (const Error& error) {
      CAPTURE(error.what(), error.path());
      CHECK(error.code() == Errc::files_in_use);
      ++noticed;
    }
    for (const auto& [path, text] : snapshot(copied_to)) {
      CAPTURE(path);
      CHECK(text.find("contents secret") == std::string::npos);
    }
  }
  ended = true;
  owner.join();
  CHECK(copied + noticed == 300);
  CHECK(noticed > 0);
  CHECK(first_difference(before, snapshot(outside)) == kNothing);
}

TEST_CASE("a deep tree is copied, or an error says why not", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  constexpr int kLevels = 3000;
  UniqueFd level = open_directory(plain);
  for (int i = 0; i < kLevels; ++i) {
    REQUIRE(mkdirat(level.get(), "d", 0755) == 0);
    level.reset(openat(level.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(level);
  }
  level.reset();
  copy(plain, encrypted);
  level = open_directory(encrypted);
  for (int i = 0; i < kLevels; ++i) {
    level.reset(openat(level.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(level);
  }
  level.reset();
  CHECK(run_as(0, [&] {
    const rlimit limit = {200, 200};
    setrlimit(RLIMIT_NOFILE, &limit);
    try {
      copy(plain, encrypted, false);
    } catch (const Error& error) {
      return error.code() == Errc::io &&
             std::string(error.what()).find("levels") != std::string::npos;
    }
    return false;
  }));
}

}  // namespace
}  // namespace fscryptctl::test
