#include "fscryptctl/tree/move.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <optional>
#include <string>

#include "fscryptctl/base/error.h"
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
  CHECK(first_difference(before, snapshot(trees.encrypted)) == "");
  CHECK(entries(trees.plain) == 0);
  CHECK(trees.files == before.size() - 1);
  trees.backward();
  CHECK(first_difference(before, snapshot(trees.plain)) == "");
  CHECK(entries(trees.encrypted) == 0);
}

TEST_CASE("a move that was interrupted anywhere is finished by the next one", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  const unsigned seed = GENERATE(range(0U, 6U));
  CAPTURE(seed);
  make_sample_tree(trees.plain, seed);
  const Snapshot before = snapshot(trees.plain);
  int interruptions = 0;
  for (int calls = 0; was_interrupted([&] { trees.forward(stop_after(calls)); }); ++calls) {
    ++interruptions;
  }
  CHECK(interruptions > 3);
  CHECK(first_difference(before, snapshot(trees.encrypted)) == "");
  CHECK(entries(trees.plain) == 0);
}

TEST_CASE("a move that was interrupted anywhere is taken back", "[tree]") {
  if (!can_mount()) return;
  Trees trees;
  const unsigned seed = GENERATE(range(0U, 6U));
  CAPTURE(seed);
  make_sample_tree(trees.plain, seed);
  const Snapshot before = snapshot(trees.plain);
  bool interrupted = true;
  for (int calls = 1; interrupted; calls += 3) {
    CAPTURE(calls);
    interrupted = was_interrupted([&] { trees.forward(stop_after(calls)); });
    for (int back = calls; was_interrupted([&] { trees.backward(stop_after(back)); });) ++back;
    REQUIRE(first_difference(before, snapshot(trees.plain)) == "");
    REQUIRE(entries(trees.encrypted) == 0);
  }
}

}  // namespace
}  // namespace fscryptctl::test
