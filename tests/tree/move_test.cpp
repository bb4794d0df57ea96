#include "fscryptctl/tree/move.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "fscryptctl/base/error.h"
#include "support/other_process.h"
#include "tree/sample_tree.h"
#include "tree/snapshot.h"

namespace fscryptctl::test {
namespace {

/// Ends at the n-th call.
Tick stop_after(int calls) {
  return [left = calls]() mutable {
    if (left-- == 0) throw Error(Errc::interrupted, "interrupted", 2);
  };
}

/// Two trees on one filesystem, and what is kept in between.
class Trees {
 public:
  Trees()
      : plain(filesystem.make_plain("plain")),
        encrypted(filesystem.make_encrypted("encrypted")),
        work(filesystem.make_plain("work")) {}

  void forward(const Tick& tick = {}) { move(plain, encrypted, tick); }
  void backward(const Tick& tick = {}) {
    if (part) {
      const UniqueFd from = open_directory(plain);
      const UniqueFd to = open_directory(encrypted);
      const UniqueFd between = open_directory(work);
      TreeProgress progress;
      finish_part(request(from.get(), to.get(), between.get()), progress, tick);
    }
    move(encrypted, plain, tick);
  }

  TreeFilesystem filesystem;
  std::string plain;
  std::string encrypted;
  std::string work;
  std::optional<PartMove> part;  ///< the journal
  std::uint64_t piece = 1 << 20;
  int journaled = 0;
  std::uint64_t files = 0;

 private:
  MoveRequest request(int from, int to, int between) {
    return {.source = from,
            .destination = to,
            .work = between,
            .piece = piece,
            .journal =
                [this](const std::optional<PartMove>& state) {
                  part = state;
                  ++journaled;
                },
            .resumed = part};
  }
  void move(const std::string& source, const std::string& destination, const Tick& tick) {
    const UniqueFd from = open_directory(source);
    const UniqueFd to = open_directory(destination);
    const UniqueFd between = open_directory(work);
    TreeProgress progress;
    move_tree(request(from.get(), to.get(), between.get()), progress, tick);
    files = progress.files;
  }
};

bool was_interrupted(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    CAPTURE(error.what(), error.path());
    REQUIRE(error.code() == Errc::interrupted);
    return true;
  }
  return false;
}

std::size_t entries(const std::string& path) { return snapshot(path).size() - 1; }

TEST_CASE("a tree that was moved has everything, and back again", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  const unsigned seed = GENERATE(range(0U, 12U));
  CAPTURE(seed);
  make_sample_tree(trees.plain, seed);
  const Snapshot before = snapshot(trees.plain);
  trees.forward();
  CHECK(first_difference(before, snapshot(trees.encrypted)) == kNothing);
  CHECK(entries(trees.plain) == 0);
  CHECK(trees.files == before.size() - 1);
  trees.backward();
  CHECK(first_difference(before, snapshot(trees.plain)) == kNothing);
  CHECK(entries(trees.encrypted) == 0);
}

TEST_CASE("a move that was interrupted anywhere is finished by the next one", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  const unsigned seed = GENERATE(range(0U, 4U));
  CAPTURE(seed);
  make_sample_tree(trees.plain, seed);
  const Snapshot before = snapshot(trees.plain);
  int interruptions = 0;
  for (int calls = 0; was_interrupted([&] { trees.forward(stop_after(calls)); }); ++calls) {
    ++interruptions;
  }
  CHECK(interruptions > 3);
  CHECK(first_difference(before, snapshot(trees.encrypted)) == kNothing);
  CHECK(entries(trees.plain) == 0);
}

TEST_CASE("a move that was interrupted anywhere is taken back", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  const unsigned seed = GENERATE(range(0U, 4U));
  CAPTURE(seed);
  make_sample_tree(trees.plain, seed);
  const Snapshot before = snapshot(trees.plain);
  bool interrupted = true;
  for (int calls = 1; interrupted; calls += 17) {
    CAPTURE(calls);
    interrupted = was_interrupted([&] { trees.forward(stop_after(calls)); });
    for (int back = calls; was_interrupted([&] { trees.backward(stop_after(back)); });) ++back;
    REQUIRE(first_difference(before, snapshot(trees.plain)) == kNothing);
    REQUIRE(entries(trees.encrypted) == 0);
  }
}

/// Fills the filesystem but for so much.
void leave_free(const TreeFilesystem& filesystem, std::uint64_t bytes) {
  const std::string filler = filesystem.path("filler");
  struct statvfs space {};
  REQUIRE(syncfs(filesystem.ext4().fd()) == 0);
  REQUIRE(statvfs(filesystem.ext4().path().c_str(), &space) == 0);
  const std::uint64_t free = std::uint64_t{space.f_bavail} * space.f_frsize;
  REQUIRE(free > bytes);
  const UniqueFd file(open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(fallocate(file.get(), 0, 0, static_cast<off_t>(free - bytes)) == 0);
}

std::string random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

/// A large file with all attributes and holes, and small ones beside it.
void make_large_file(const Trees& trees) {
  const std::string directory = trees.plain + "/directory";
  const std::string large = directory + "/large";
  REQUIRE(mkdir(directory.c_str(), 0755) == 0);
  write_file(directory + "/small", "small");
  write_file(large, random_bytes(5000000, 1));
  const UniqueFd file(open(large.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(ftruncate(file.get(), 9000000) == 0);
  REQUIRE(pwrite(file.get(), "end", 3, 8900000) == 3);
  REQUIRE(chown(large.c_str(), 61001, 61002) == 0);
  REQUIRE(chmod(large.c_str(), 04551) == 0);
  set_xattr(large, "security.capability", capability_value());
  set_xattr(large, "user.note", "kept");
  set_times(large, 1000, 2000);
  set_flags(large, FS_IMMUTABLE_FL | FS_NODUMP_FL);
  set_times(directory, 3000, 4000);
}

TEST_CASE("a file larger than the free space is moved in parts", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  make_large_file(trees);
  const Snapshot before = snapshot(trees.plain);
  leave_free(trees.filesystem, 3 << 20);
  SECTION("in one go") {
    trees.forward();
    CHECK(trees.journaled > 5);
  }
  SECTION("interrupted anywhere") {
    int interruptions = 0;
    int journaled = 0;
    for (int calls = 0; was_interrupted([&] { trees.forward(stop_after(calls)); }); ++calls) {
      ++interruptions;
      journaled += trees.part ? 1 : 0;
    }
    CHECK(interruptions > 5);
    CHECK(journaled > 2);
  }
  CHECK(trees.part == std::nullopt);
  CHECK(first_difference(before, snapshot(trees.encrypted)) == kNothing);
  CHECK(entries(trees.plain) == 0);
  CHECK(entries(trees.work) == 1);
}

TEST_CASE("a move in parts that was interrupted anywhere is taken back", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  make_large_file(trees);
  const Snapshot before = snapshot(trees.plain);
  leave_free(trees.filesystem, 3 << 20);
  bool interrupted = true;
  for (int calls = 0; interrupted; calls += 4) {
    CAPTURE(calls);
    interrupted = was_interrupted([&] { trees.forward(stop_after(calls)); });
    trees.backward();
    REQUIRE(first_difference(before, snapshot(trees.plain)) == kNothing);
    REQUIRE(entries(trees.encrypted) == 0);
  }
}

TEST_CASE("a file in parts that somebody wrote to stays as it is", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  make_large_file(trees);
  leave_free(trees.filesystem, 3 << 20);
  int calls = 0;
  do {
    REQUIRE(was_interrupted([&] { trees.forward(stop_after(calls++)); }));
  } while (trees.journaled < 3);
  const std::string source = trees.work + '/' + kPartSource;
  {
    const UniqueFd file(open(source.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    REQUIRE(write(file.get(), "more", 4) == 4);
  }
  const std::string contents = read_file(source);
  try {
    trees.forward();
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::conflict);
  }
  CHECK(read_file(source) == contents);
}

TEST_CASE("a file with several names larger than the free space stays", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  write_file(trees.plain + "/one", random_bytes(6000000, 2));
  REQUIRE(link((trees.plain + "/one").c_str(), (trees.plain + "/two").c_str()) == 0);
  const Snapshot before = snapshot(trees.plain);
  leave_free(trees.filesystem, 3 << 20);
  try {
    trees.forward();
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::no_space);
    CHECK(error.path().size() == 3);
  }
  trees.backward();
  CHECK(first_difference(before, snapshot(trees.plain)) == kNothing);
}

TEST_CASE("what somebody has open stays, and goes with the next run", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  REQUIRE(mkdir((trees.plain + "/d").c_str(), 0755) == 0);
  for (const char* const name : {"/d/open", "/d/closed", "/mapped"}) {
    write_file(trees.plain + name, name);
  }
  UniqueFd reader(open((trees.plain + "/d/open").c_str(), O_RDONLY | O_CLOEXEC));
  const int flags = GENERATE(O_RDONLY, O_RDWR);
  UniqueFd mapped(open((trees.plain + "/mapped").c_str(), flags | O_CLOEXEC));
  void* const memory =
      mmap(nullptr, 4096, PROT_READ, flags == O_RDWR ? MAP_SHARED : MAP_PRIVATE, mapped.get(), 0);
  REQUIRE(memory != MAP_FAILED);
  mapped.reset();
  const Snapshot before = snapshot(trees.plain);
  const auto check_in_use = [&] {
    try {
      trees.forward();
      FAIL("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.code() == Errc::files_in_use);
      CHECK((error.path() == "d/open" || error.path() == "mapped"));
    }
  };
  check_in_use();
  CHECK(access((trees.plain + "/d/open").c_str(), F_OK) == 0);
  CHECK(access((trees.encrypted + "/d/closed").c_str(), F_OK) == 0);
  reader.reset();
  check_in_use();
  munmap(memory, 4096);
  trees.forward();
  CHECK(first_difference(before, snapshot(trees.encrypted)) == kNothing);
}

TEST_CASE("nothing is lost of what somebody writes while files move", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  constexpr int kFiles = 400;
  for (int i = 0; i < kFiles; ++i) write_file(trees.plain + '/' + std::to_string(i), "x");
  std::vector<std::string> expected(kFiles, "x");
  std::atomic<bool> ended{false};
  std::thread writer([&] {
    for (unsigned i = 0; !ended; i = (i + 7) % kFiles) {
      const std::string path = trees.plain + '/' + std::to_string(i);
      const UniqueFd file(open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
      if (file && write(file.get(), "+", 1) == 1) expected[i] += '+';
    }
  });
  int in_use = 0;
  for (bool moved = false; !moved;) {
    try {
      trees.forward();
      moved = true;
    } catch (const Error& error) {
      CHECK(error.code() == Errc::files_in_use);
      if (++in_use > 1000) break;
    }
  }
  ended = true;
  writer.join();
  CHECK(in_use > 0);
  int longer = 0;
  for (int i = 0; i < kFiles; ++i) {
    const auto& lines = expected[static_cast<std::size_t>(i)];
    CHECK(read_file(trees.encrypted + '/' + std::to_string(i)) == lines);
    longer += lines.size() > 1 ? 1 : 0;
  }
  CHECK(longer > 0);
}

TEST_CASE("something else in the place of the destination is no file of the tree", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  write_file(trees.plain + "/name", "ours");
  SECTION("a file") { write_file(trees.encrypted + "/name", "else"); }
  SECTION("a larger file") { write_file(trees.encrypted + "/name", "something else"); }
  SECTION("a directory") { REQUIRE(mkdir((trees.encrypted + "/name").c_str(), 0755) == 0); }
  SECTION("a link") { REQUIRE(symlink("x", (trees.encrypted + "/name").c_str()) == 0); }
  try {
    trees.forward();
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::conflict);
    CHECK(error.path() == "name");
  }
  CHECK(read_file(trees.plain + "/name") == "ours");
}

/// Like a power cut for the process: nothing of it is told.
bool killed_during(const std::function<void()>& work, std::chrono::microseconds after) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    try {
      work();
      _exit(0);
    } catch (...) {
      _exit(1);
    }
  }
  std::this_thread::sleep_for(after);
  kill(child, SIGKILL);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) return true;
  REQUIRE(WEXITSTATUS(status) == 0);
  return false;
}

TEST_CASE("a move that was killed at any moment is finished or taken back", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  const unsigned seed = GENERATE(range(0U, 5U));
  CAPTURE(seed);
  make_sample_tree(trees.plain, seed);
  const Snapshot before = snapshot(trees.plain);
  int kills = 0;
  for (int delay = 0; killed_during([&] { trees.forward(); }, std::chrono::microseconds(delay));
       delay += 1300) {
    ++kills;
    if (kills % 2 == 0) continue;
    CAPTURE(delay);
    trees.backward();
    REQUIRE(first_difference(before, snapshot(trees.plain)) == kNothing);
    REQUIRE(entries(trees.encrypted) == 0);
  }
  CHECK(kills > 3);
  CHECK(first_difference(before, snapshot(trees.encrypted)) == kNothing);
  CHECK(entries(trees.plain) == 0);
}

/// Nothing that is not on the disk yet comes there, but for what the journal already has if
/// `with_journal`, and everything fails.
void cut_power(const TreeFilesystem& filesystem, bool with_journal) {
  constexpr unsigned long kShutdown = 0x8004587d;  // EXT4_IOC_SHUTDOWN
  const std::uint32_t how = with_journal ? 1 : 2;
  REQUIRE(ioctl(filesystem.ext4().fd(), kShutdown, &how) == 0);
}

TEST_CASE("a move that ended with a power cut is finished or taken back", "[tree]") {
  if (!can_mount()) return;
  const bool large = GENERATE(false, true);
  const bool back = GENERATE(false, true);
  CAPTURE(large, back);
  bool cut = true;
  int cuts = 0;
  for (int calls = 0; cut; calls += large ? 9 : 29) {
    CAPTURE(calls);
    Trees trees;
    if (large) {
      make_large_file(trees);
      leave_free(trees.filesystem, 3 << 20);
    } else {
      make_sample_tree(trees.plain, 0);
    }
    REQUIRE(syncfs(trees.filesystem.ext4().fd()) == 0);
    const Snapshot before = snapshot(trees.plain);
    cut = false;
    try {
      trees.forward([&, left = calls]() mutable {
        if (left-- != 0) return;
        cut = true;
        cut_power(trees.filesystem, cuts % 2 == 0);
      });
    } catch (const Error& error) {
      REQUIRE(cut);
    }
    if (!cut) break;
    ++cuts;
    trees.filesystem.ext4().remount();
    trees.filesystem.add_key(1);
    if (back) {
      trees.backward();
      REQUIRE(first_difference(before, snapshot(trees.plain)) == kNothing);
      REQUIRE(entries(trees.encrypted) == 0);
    } else {
      trees.forward();
      REQUIRE(first_difference(before, snapshot(trees.encrypted)) == kNothing);
      REQUIRE(entries(trees.plain) == 0);
    }
  }
  CHECK(cuts > 3);
}

TEST_CASE("an ordinary user moves a tree and takes it back", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  constexpr uid_t kAlice = 61001;
  const std::string home = filesystem.make_plain("home");
  for (const char* const name : {"/plain", "/plain/d", "/other", "/work"}) {
    REQUIRE(mkdir((home + name).c_str(), 0700) == 0);
  }
  write_file(home + "/plain/d/file", "contents");
  set_xattr(home + "/plain/d/file", "user.note", "kept");
  set_times(home + "/plain/d/file", 1000, 2000);
  REQUIRE(link((home + "/plain/d/file").c_str(), (home + "/plain/second").c_str()) == 0);
  REQUIRE(symlink("target", (home + "/plain/d/link").c_str()) == 0);
  REQUIRE(mkfifo((home + "/plain/d/fifo").c_str(), 0600) == 0);
  for (const char* const name : {"/plain/d/file", "/plain/d/link", "/plain/d/fifo", "/plain/d",
                                 "/plain", "/other", "/work", ""}) {
    REQUIRE(lchown((home + name).c_str(), kAlice, kAlice) == 0);
  }
  REQUIRE(chmod((home + "/plain/d/file").c_str(), 0444) == 0);
  REQUIRE(chmod((home + "/plain/d").c_str(), 0555) == 0);
  set_xattr(home + "/plain/d", "user.note", "kept");
  set_times(home + "/plain/d", 3000, 4000);
  set_times(home + "/plain", 5000, 6000);
  const Snapshot before = snapshot(home + "/plain");
  const auto move = [&](const std::string& source, const std::string& destination,
                        const Tick& tick) {
    return run_as(kAlice, [&] {
      const UniqueFd from = open_directory(home + source);
      const UniqueFd to = open_directory(home + destination);
      const UniqueFd work = open_directory(home + "/work");
      TreeProgress progress;
      try {
        move_tree({.source = from.get(),
                   .destination = to.get(),
                   .work = work.get(),
                   .journal = [](const auto&) {},
                   .resumed = std::nullopt},
                  progress, tick);
      } catch (const Error& error) {
        return error.code() == Errc::interrupted;
      }
      return true;
    });
  };
  const int calls = GENERATE(range(0, 20));
  CAPTURE(calls);
  REQUIRE(move("/plain", "/other", stop_after(calls)));
  REQUIRE(move("/other", "/plain", {}));
  REQUIRE(first_difference(before, snapshot(home + "/plain")) == kNothing);
  REQUIRE(move("/plain", "/other", {}));
  REQUIRE(first_difference(before, snapshot(home + "/other")) == kNothing);
}

}  // namespace
}  // namespace fscryptctl::test
