#include "fscryptctl/tree/remove.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fscryptctl/base/error.h"
#include "support/mounts.h"
#include "support/other_process.h"
#include "tree/sample_tree.h"
#include "tree/snapshot.h"

namespace fscryptctl::test {
namespace {

constexpr uid_t kAlice = 61001;

bool exists(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0;
}

/// From now on, by a copy in which there is nothing.
Replaced later(const TreeFilesystem& filesystem) {
  const int directory = filesystem.ext4().fd();
  const FileTime before = filesystem_now(directory);
  FileTime now = before;
  while (now == before) now = filesystem_now(directory);
  static const UniqueFd nothing = open_directory("/proc/self/fdinfo");
  return {now, nothing.get()};
}

std::string remove(
    const TreeFilesystem& filesystem, const std::string& name,
    const std::optional<Replaced>& replaced = std::nullopt, const Tick& tick = [] {}) {
  std::set<std::string> lines;
  TreeProgress progress;
  for (const auto& finding : remove_tree(filesystem.ext4().fd(), name, replaced, progress, tick)) {
    lines.insert(finding.path + ": " + finding.what + '\n');
  }
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

TEST_CASE("a tree is removed with all that is in it", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const unsigned seed = GENERATE(range(0U, 8U));
  const std::string plain = filesystem.make_plain("plain");
  make_sample_tree(plain, seed);
  CHECK(remove(filesystem, "plain") == kNothing);
  CHECK_FALSE(exists(plain));
  CHECK(remove(filesystem, "plain") == kNothing);
}

TEST_CASE("a locked tree is removed", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  REQUIRE(mkdir((encrypted + "/d").c_str(), 0500) == 0);
  write_file(encrypted + "/d/file", "secret");
  write_file(encrypted + "/" + std::string(200, 'n'), "secret");
  REQUIRE(symlink("target", (encrypted + "/l").c_str()) == 0);
  const Replaced since = later(filesystem);
  filesystem.remove_key(1);
  REQUIRE_FALSE(exists(encrypted + "/d/file"));
  SECTION("at once") { CHECK(remove(filesystem, "encrypted") == kNothing); }
  SECTION("unless it was changed") { CHECK(remove(filesystem, "encrypted", since) == kNothing); }
  CHECK_FALSE(exists(encrypted));
}

TEST_CASE("an owner removes what she may not write to", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string home = filesystem.make_plain("home");
  REQUIRE(mkdir((home + "/tree").c_str(), 0755) == 0);
  REQUIRE(mkdir((home + "/tree/d").c_str(), 0755) == 0);
  write_file(home + "/tree/d/file", "x", 0000);
  REQUIRE(chown((home + "/tree/d").c_str(), kAlice, kAlice) == 0);
  REQUIRE(chown((home + "/tree").c_str(), kAlice, kAlice) == 0);
  REQUIRE(chown(home.c_str(), kAlice, kAlice) == 0);
  REQUIRE(chmod((home + "/tree/d").c_str(), 0000) == 0);
  REQUIRE(chmod((home + "/tree").c_str(), 0555) == 0);
  CHECK(run_as(kAlice, [&] {
    const UniqueFd parent = open_directory(home);
    TreeProgress progress;
    return remove_tree(parent.get(), "tree", std::nullopt, progress, [] {}).empty() &&
           progress.files == 2;
  }));
  CHECK_FALSE(exists(home + "/tree"));
}

TEST_CASE("several threads at once open up what forbids to remove its entries", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  for (int number = 0; number < 1000; ++number) {
    const std::string directory = plain + "/d" + std::to_string(number);
    REQUIRE(mkdir(directory.c_str(), 0755) == 0);
    write_file(directory + "/a", "contents");
    REQUIRE(link((directory + "/a").c_str(), (directory + "/b").c_str()) == 0);
    set_flags(directory + "/a", FS_IMMUTABLE_FL);
    write_file(directory + "/c", "contents");
    write_file(directory + "/d", "contents");
    set_flags(directory, FS_IMMUTABLE_FL);
  }
  CHECK(remove(filesystem, "plain") == kNothing);
  CHECK_FALSE(exists(plain));
}

TEST_CASE("what was changed meanwhile is not removed", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  for (const char* const name : {"/d", "/d/e", "/gone"}) {
    REQUIRE(mkdir((plain + name).c_str(), 0755) == 0);
  }
  for (const char* const name : {"/d/e/changed", "/d/e/old", "/open", "/gone/old"}) {
    write_file(plain + name, "contents");
  }
  // The first name that goes changes the time of the others.
  for (const char* const name : {"/second", "/d/third", "/gone/fourth"}) {
    REQUIRE(link((plain + "/gone/old").c_str(), (plain + name).c_str()) == 0);
  }
  const Replaced since = later(filesystem);
  write_file(plain + "/d/e/changed", "new");
  UniqueFd writer(open((plain + "/open").c_str(), O_WRONLY));
  CHECK(remove(filesystem, "plain", since).find("d/e/changed: changed\n") != std::string::npos);
  CHECK(read_file(plain + "/d/e/changed") == "new");
  CHECK(exists(plain + "/open"));
  CHECK_FALSE(exists(plain + "/gone"));
  CHECK_FALSE(exists(plain + "/second"));
  CHECK_FALSE(exists(plain + "/d/third"));
  CHECK_FALSE(exists(plain + "/d/e/old"));
  CHECK(remove(filesystem, "plain", since) == "d/e/changed: changed\nopen: open for writing\n");
  CHECK(remove(filesystem, "plain") == kNothing);
  CHECK_FALSE(exists(plain));
}

TEST_CASE("what is new is not removed, however old it looks", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const Replaced since = later(filesystem);
  write_file(plain + "/unpacked", "contents");
  set_times(plain + "/unpacked", 1000, 2000);
  CHECK(remove(filesystem, "plain", since) == "unpacked: changed\n");
  CHECK(exists(plain + "/unpacked"));
}

TEST_CASE("what somebody has written to and closed is not removed", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const auto path_of = [&](std::size_t number) { return plain + "/f" + std::to_string(number); };
  for (int round = 0; round < 12; ++round) {
    std::vector<char> written(3000);
    REQUIRE((mkdir(plain.c_str(), 0755) == 0 || errno == EEXIST));
    for (std::size_t i = 0; i < written.size(); ++i) write_file(path_of(i), "contents");
    const Replaced since = later(filesystem);
    std::atomic<bool> ended{false};
    std::thread writer([&] {
      for (std::size_t i = 0; !ended; i = (i + 1237) % written.size()) {
        const UniqueFd file(open(path_of(i).c_str(), O_WRONLY | O_APPEND));
        struct stat status {};
        // Once its name is gone it is too late to open it.
        written[i] |= file && write(file.get(), "new", 3) == 3 && fstat(file.get(), &status) == 0 &&
                      status.st_nlink > 0;
      }
    });
    remove(filesystem, "plain", since);
    ended = true;
    writer.join();
    for (std::size_t i = 0; i < written.size(); ++i) {
      if (written[i] != 0) REQUIRE(exists(path_of(i)));
    }
    CHECK(remove(filesystem, "plain") == kNothing);
  }
}

TEST_CASE("what somebody puts in the place of a file is not removed", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string edited = filesystem.make_plain("edited");
  const auto name_of = [&](std::size_t number) { return "/f" + std::to_string(number); };
  constexpr std::size_t kFiles = 3000;
  std::size_t replaced = 0;
  for (int round = 0; round < 12; ++round) {
    std::vector<char> saved(kFiles);
    REQUIRE((mkdir(plain.c_str(), 0755) == 0 || errno == EEXIST));
    for (std::size_t i = 0; i < kFiles; ++i) {
      write_file(plain + name_of(i), "old");
      write_file(edited + name_of(i), "new");
      // Nothing of the file itself tells that it is new here.
      REQUIRE(rename((edited + name_of(i)).c_str(), (edited + name_of(i) + "~").c_str()) == 0);
    }
    const Replaced since = later(filesystem);
    std::atomic<bool> ended{false};
    // As an editor saves: what stands there is exchanged for what is new.
    std::thread editor([&] {
      for (std::size_t i = 0; !ended; i = (i + 1237) % kFiles) {
        if (saved[i] != 0) continue;
        saved[i] = renameat2(AT_FDCWD, (edited + name_of(i) + "~").c_str(), AT_FDCWD,
                             (plain + name_of(i)).c_str(), RENAME_EXCHANGE) == 0;
      }
    });
    const std::string findings = remove(filesystem, "plain", since);
    ended = true;
    editor.join();
    for (std::size_t i = 0; i < kFiles; ++i) {
      if (saved[i] == 0) continue;
      ++replaced;
      INFO(findings);
      REQUIRE(read_file(plain + name_of(i)) == "new");
    }
    CHECK(remove(filesystem, "plain") == kNothing);
  }
  CHECK(replaced > 100);
}

TEST_CASE("what is moved here is not removed, however old it is", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string outside = filesystem.path("outside");
  write_file(outside, "the only one");
  const std::string copied = filesystem.make_plain("copied");
  const bool is_in_copy = GENERATE(false, true);
  if (is_in_copy) write_file(copied + "/here", "old");
  const UniqueFd copy = open_directory(copied);
  if (is_in_copy) set_times(copied + "/here", 1000, 2000);
  const Replaced since = {later(filesystem).since, copy.get()};
  REQUIRE(rename(outside.c_str(), (plain + "/here").c_str()) == 0);
  CHECK(remove(filesystem, "plain", since) == "here: changed\n");
  CHECK(read_file(plain + "/here") == "the only one");
}

TEST_CASE("what an earlier run has changed goes if the copy has it", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string copied = filesystem.make_plain("copied");
  for (const std::string& root : {plain, copied}) {
    REQUIRE(mkdir((root + "/d").c_str(), 0755) == 0);
    write_file(root + "/d/file", "contents");
    write_file(root + "/d/other", root == plain ? "contents" : "contentS");
    REQUIRE(symlink("target", (root + "/link").c_str()) == 0);
    REQUIRE(symlink(root.c_str(), (root + "/other link").c_str()) == 0);
    for (const char* const name : {"/d/file", "/d/other", "/link", "/other link"}) {
      set_times(root + name, 1000, 2000);
    }
  }
  const UniqueFd copy = open_directory(copied);
  const Replaced since = {later(filesystem).since, copy.get()};
  for (const char* const name : {"/d/file", "/d/other", "/link", "/other link"}) {
    REQUIRE(link((plain + name).c_str(), (plain + "/name").c_str()) == 0);
    REQUIRE(unlink((plain + "/name").c_str()) == 0);
  }
  CHECK(remove(filesystem, "plain", since) == "d/other: changed\nother link: changed\n");
}

TEST_CASE("what was on its way out goes, and nothing that was put in its place", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  write_file(plain + "/old", "old");
  write_file(plain + "/open", "old");
  write_file(filesystem.path("other"), "however old it is");
  const auto aside_of = [&](const std::string& name, const std::string& number) {
    struct stat status {};
    REQUIRE(lstat((plain + name).c_str(), &status) == 0);
    return filesystem.path("removing-" + std::to_string(status.st_ino) + number);
  };
  const std::string checked = aside_of("/old", "-0");
  const std::string open_one = aside_of("/open", "-1");
  const std::string other = aside_of("/old", "0-0");
  const Replaced since = later(filesystem);
  REQUIRE(rename((plain + "/old").c_str(), checked.c_str()) == 0);
  REQUIRE(rename((plain + "/open").c_str(), open_one.c_str()) == 0);
  REQUIRE(rename(filesystem.path("other").c_str(), other.c_str()) == 0);
  const UniqueFd writer(open(open_one.c_str(), O_WRONLY));
  const auto name_of = [](const std::string& path) { return path.substr(path.rfind('/')); };
  const std::set<std::string> expected = {".." + name_of(open_one) + ": open for writing\n",
                                          ".." + name_of(other) + ": changed\n"};
  std::string text;
  for (const std::string& line : expected) text += line;
  // However often it is tried.
  for (int round = 0; round < 2; ++round) {
    CHECK(remove(filesystem, "plain", since) == text);
    CHECK_FALSE(exists(plain));
    CHECK_FALSE(exists(checked));
    CHECK(exists(open_one));
    CHECK(read_file(other) == "however old it is");
  }
}

TEST_CASE("work that goes on in the copy does not keep the original", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string copied = filesystem.make_plain("copied");
  for (const std::string& root : {plain, copied}) {
    write_file(root + "/file", "contents");
    set_times(root + "/file", 1000, 2000);
  }
  const UniqueFd copy = open_directory(copied);
  const Replaced since = {later(filesystem).since, copy.get()};
  REQUIRE(chmod((plain + "/file").c_str(), 0600) == 0);
  write_file(copied + "/file", "edited");
  CHECK(remove(filesystem, "plain", since) == kNothing);
}

TEST_CASE("a locked directory is one also if nothing may be made in it", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string encrypted = filesystem.make_encrypted("encrypted");
  for (const char* const name : {"/a", "/b"}) REQUIRE(mkdir((encrypted + name).c_str(), 0755) == 0);
  write_file(encrypted + "/a/x", "contents");
  REQUIRE(link((encrypted + "/a/x").c_str(), (encrypted + "/b/y").c_str()) == 0);
  const Replaced since = later(filesystem);
  REQUIRE(unlink((encrypted + "/a/x").c_str()) == 0);
  set_flags(encrypted + "/b", FS_IMMUTABLE_FL);
  filesystem.remove_key(1);
  CHECK(remove(filesystem, "encrypted", since) == kNothing);
}

TEST_CASE("the names of a file go one after the other, whatever its time of modification",
          "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::vector<std::string> directories = {"/a", "/b", "/c"};
  for (const std::string& name : directories) REQUIRE(mkdir((plain + name).c_str(), 0755) == 0);
  constexpr std::int64_t kFarFuture = 4'000'000'000;
  for (int number = 0; number < 300; ++number) {
    const std::string name = "/file" + std::to_string(number);
    write_file(plain + directories[0] + name, "contents");
    set_times(plain + directories[0] + name, kFarFuture, kFarFuture);
    REQUIRE(link((plain + "/a" + name).c_str(), (plain + "/b" + name).c_str()) == 0);
    REQUIRE(link((plain + "/a" + name).c_str(), (plain + "/c" + name).c_str()) == 0);
  }
  const Replaced since = later(filesystem);
  CHECK(remove(filesystem, "plain", since) == kNothing);
  CHECK_FALSE(exists(plain));
}

TEST_CASE("what comes while a tree is removed goes with it, unless that is forbidden", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  REQUIRE(mkdir((plain + "/d").c_str(), 0755) == 0);
  for (const char* const name : {"/d/old", "/old"}) write_file(plain + name, "contents");
  const Replaced since = later(filesystem);
  // Once its listing has begun.
  const Tick tick = [&, calls = 0]() mutable {
    if (++calls == 2) write_file(plain + "/new", "contents");
  };
  SECTION("all of it") { CHECK(remove(filesystem, "plain", std::nullopt, tick) == kNothing); }
  SECTION("what is old") {
    CHECK(remove(filesystem, "plain", since, tick) == "new: changed\n");
    CHECK(read_file(plain + "/new") == "contents");
    CHECK_FALSE(exists(plain + "/d"));
    CHECK(remove(filesystem, "plain") == kNothing);
  }
  CHECK_FALSE(exists(plain));
}

TEST_CASE("an error is about the right path, also in what came late", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string outside = filesystem.make_plain("outside");
  REQUIRE(mkdir((plain + "/d").c_str(), 0755) == 0);
  write_file(plain + "/d/old", "contents");
  const std::string late = plain + "/d/late";
  // When all of the directory's entries are listed.
  const Tick tick = [&, calls = 0]() mutable {
    if (++calls != 3) return;
    REQUIRE(mkdir(late.c_str(), 0755) == 0);
    REQUIRE(mount(outside.c_str(), late.c_str(), nullptr, MS_BIND, nullptr) == 0);
  };
  try {
    remove(filesystem, "plain", std::nullopt, tick);
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::files_in_use);
    CHECK(error.path() == "d/late");
  }
  REQUIRE(umount(late.c_str()) == 0);
}

TEST_CASE("nothing behind a symlink or a mount is removed", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  const std::string outside = filesystem.make_plain("outside");
  write_file(outside + "/kept", "x");
  REQUIRE(symlink(outside.c_str(), (plain + "/link").c_str()) == 0);
  REQUIRE(mkdir((plain + "/mount").c_str(), 0755) == 0);
  REQUIRE(mount(outside.c_str(), (plain + "/mount").c_str(), nullptr, MS_BIND, nullptr) == 0);
  try {
    remove(filesystem, "plain");
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::files_in_use);
    CHECK(error.path() == "mount");
  }
  REQUIRE(umount((plain + "/mount").c_str()) == 0);
  REQUIRE(mount(outside.c_str(), plain.c_str(), nullptr, MS_BIND, nullptr) == 0);
  try {
    remove(filesystem, "plain");
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::files_in_use);
    CHECK(error.path() == ".");
  }
  REQUIRE(umount(plain.c_str()) == 0);
  CHECK(remove(filesystem, "plain") == kNothing);
  CHECK(exists(outside + "/kept"));
}

}  // namespace
}  // namespace fscryptctl::test
