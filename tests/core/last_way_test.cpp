#include "fscryptctl/core/last_way.h"

#include <catch2/catch.hpp>

using namespace fscryptctl;

TEST_CASE("directories are named in a sentence, a few of many") {
  CHECK(enumerate({}).empty());
  CHECK(enumerate({"/a"}) == "/a");
  CHECK(enumerate({"/a", "/b"}) == "/a and /b");
  CHECK(enumerate({"/a", "/b", "/c"}) == "/a, /b and /c");
  CHECK(enumerate({"/a", "/b", "/c", "/d", "/e"}) == "/a, /b, /c, /d and /e");
  CHECK(enumerate({"/a", "/b", "/c", "/d", "/e", "/f"}) == "/a, /b, /c, /d and 2 more");
}

TEST_CASE("names from elsewhere cannot move the cursor") {
  CHECK(enumerate({"/a\x1b[2J", "/b"}) == "/a\\x1b[2J and /b");
  CHECK(in_quotes("mine\n") == "\"mine\\x0a\"");
}
