#include "fscryptctl/crypto/version.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

namespace fscryptctl {
namespace {

TEST_CASE("the version of the library inside is told, as security notices name it") {
  const std::string version = crypto_versions();
  CAPTURE(version);
  REQUIRE(version.starts_with("OpenSSL 3."));
  const std::string numbers = version.substr(8);
  CHECK(numbers.find_first_not_of("0123456789.") == std::string::npos);
  CHECK(std::count(numbers.begin(), numbers.end(), '.') == 2);
}

}  // namespace
}  // namespace fscryptctl
