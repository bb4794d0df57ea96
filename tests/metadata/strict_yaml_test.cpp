#include "../../lib/metadata/strict_yaml.h"

#include <catch2/catch.hpp>

using namespace fscryptctl;
using yaml::Node;

namespace {

bool refused(const std::string& text) {
  try {
    (void)yaml::read_document(text);
  } catch (const Error& error) {
    CHECK(error.code() == Errc::corrupt_metadata);
    return true;
  }
  return false;
}

}  // namespace

TEST_CASE("maps, lists and scalars become a tree in the order of the text") {
  const Node root =
      yaml::read_document("# comment\na: 1\nb:\n  - x\n  - \"y \\x41\"\nc: {d: 'e'}\n");
  REQUIRE(root.kind == Node::Kind::map);
  REQUIRE(root.children.size() == 3);
  CHECK(root.children[0].key == "a");
  CHECK(yaml::integer(root.children[0], 0, 9) == 1);
  CHECK(yaml::plain(yaml::list(root.children[1])[0]) == "x");
  CHECK(yaml::quoted(yaml::list(root.children[1])[1]) == "y A");
  CHECK(yaml::quoted(root.children[2].children[0]) == "e");
}

TEST_CASE("nothing but comments is an empty map") {
  for (const char* text : {"", "\n", "# nothing set\n"}) {
    const Node root = yaml::read_document(text);
    CHECK(root.kind == Node::Kind::map);
    CHECK(root.children.empty());
  }
}

TEST_CASE("what yaml-cpp would let through is refused") {
  for (const char* text : {"a: 1\na: 2\n",
                           "a: &x 1\n",
                           "a: &x 1\nb: *x\n",
                           "a: !!int 1\n",
                           "a: !local 1\n",
                           "%YAML 1.2\n---\na: 1\n",
                           "%UNKNOWN\n---\na: 1\n",
                           "a: 1\n---\nb: 2\n",
                           "a:\n",
                           "a: ~\n",
                           "a: null\n",
                           "\"a\": 1\n",
                           "? [a]\n: 1\n",
                           "{a: 1}: 2\n",
                           "a:\tb\n",
                           "a: 1\r\n",
                           "a: \xc3\xbc\n",
                           "\xef\xbb\xbfkey: 1\n",
                           "a: [1\n",
                           "a: \"\\ud800\"\n",
                           "a: b: c\n",
                           "a: @b\n"}) {
    CAPTURE(text);
    CHECK(refused(text));
  }
  CHECK(refused(std::string("a: \0\n", 5)));
}

TEST_CASE("depth, number of values and size are bounded") {
  CHECK_FALSE(refused("a: [[[[1]]]]\n"));
  CHECK(refused("a: [[[[[1]]]]]\n"));
  CHECK(refused("a: " + std::string(8000, '[')));
  std::string many = "a: [1";
  for (int i = 0; i < 600; ++i) many += ",1";
  CHECK(refused(many + "]\n"));
  const std::string key = "a: ";
  CHECK_FALSE(refused(key + std::string(yaml::kMaxTextSize - key.size(), 'b')));
  CHECK(refused(key + std::string(yaml::kMaxTextSize - key.size() + 1, 'b')));
}

TEST_CASE("a map is read completely or refused") {
  const Node root = yaml::read_document("a: 1\nb: 2\n");
  SECTION("all asked for") {
    yaml::Fields fields(root);
    (void)fields.required("b");
    CHECK(fields.optional("a") != nullptr);
    CHECK(fields.optional("c") == nullptr);
    CHECK_NOTHROW(fields.finish());
  }
  SECTION("one left over") {
    yaml::Fields fields(root);
    (void)fields.required("b");
    CHECK_THROWS_AS(fields.finish(), Error);
  }
  SECTION("one missing") {
    yaml::Fields fields(root);
    CHECK_THROWS_AS((void)fields.required("c"), Error);
  }
  SECTION("not a map at all") {
    const Node scalar = yaml::read_document("word\n");
    CHECK_THROWS_AS(yaml::Fields(scalar), Error);
  }
}

TEST_CASE("numbers are decimal and in range") {
  const auto integer = [](const std::string& text) {
    const Node root = yaml::read_document("a: " + text + "\n");
    return yaml::integer(root.children.at(0), 1, 100);
  };
  CHECK(integer("1") == 1);
  CHECK(integer("100") == 100);
  for (const char* text : {"0", "101", "010", "0x10", "0o10", "1e1", "1.0", "+1", "-1", "1_0",
                           "\"1\"", "true", "99999999999999999999", "1 1", "[]"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(integer(text), Error);
  }
}

TEST_CASE("a plain scalar over several lines is not a word") {
  const Node root = yaml::read_document("a: b\n  c\n");
  CHECK_THROWS_AS((void)yaml::plain(root.children.at(0)), Error);
}
