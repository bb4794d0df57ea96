#include "fscryptctl/tree/copy.h"

#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "fscryptctl/base/error.h"
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
  CHECK(first_difference(before, snapshot(plain)) == "");
  CHECK(first_difference(before, snapshot(encrypted)) == "");
  const std::string other = filesystem.make_encrypted("other", 2);
  copy(encrypted, other);
  const std::string back = filesystem.make_plain("back");
  copy(other, back);
  CHECK(first_difference(before, snapshot(back)) == "");
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
  CHECK(first_difference(before, snapshot(encrypted)) == "");
  CHECK(first_difference(before, snapshot(plain)) == "");
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
  CHECK(first_difference(snapshot(changed), snapshot(encrypted)) == "");
}

}  // namespace
}  // namespace fscryptctl::test
