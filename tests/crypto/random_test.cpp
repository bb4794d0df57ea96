#include "fscryptctl/crypto/random.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>
#include <vector>

namespace fscryptctl {
namespace {

TEST_CASE("no two random keys are the same") {
  std::set<std::vector<std::uint8_t>> seen;
  for (int i = 0; i < 100; ++i) {
    const auto key = random_key<ProtectorKey>();
    CHECK(seen.emplace(key.view().begin(), key.view().end()).second);
  }
}

TEST_CASE("random bytes fill all of what is given, however large or small") {
  // More than one system call may give at once (32 MiB). 64 zero bytes in a row do not happen.
  const std::size_t size = GENERATE(as<std::size_t>{}, 64, 257, 4096, 40 * 1024 * 1024);
  std::vector<std::uint8_t> bytes(size);
  fill_random(bytes);
  const std::vector<std::uint8_t> zeros(64);
  CHECK(std::search(bytes.begin(), bytes.end(), zeros.begin(), zeros.end()) == bytes.end());
  CHECK_NOTHROW(fill_random({}));
}

}  // namespace
}  // namespace fscryptctl
