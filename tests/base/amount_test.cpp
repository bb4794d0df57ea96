#include "fscryptctl/base/amount.h"

#include <catch2/catch.hpp>
#include <limits>

namespace fscryptctl {
namespace {

TEST_CASE("sizes are in decimal units with one digit", "[base][amount]") {
  CHECK(human_size(0) == "0 bytes");
  CHECK(human_size(999) == "999 bytes");
  CHECK(human_size(1000) == "1.0 kB");
  CHECK(human_size(1'234'567) == "1.2 MB");
  CHECK(human_size(250'000'000'000) == "250.0 GB");
  CHECK(human_size(3'000'000'000'000) == "3.0 TB");
}

TEST_CASE("a size that rounds up to a thousand takes the next unit", "[base][amount]") {
  CHECK(human_size(999'949) == "999.9 kB");
  CHECK(human_size(999'950) == "1.0 MB");
}

TEST_CASE("beyond the largest unit the number grows", "[base][amount]") {
  CHECK(human_size(std::numeric_limits<std::uint64_t>::max()) == "18446.7 PB");
}

}  // namespace
}  // namespace fscryptctl
