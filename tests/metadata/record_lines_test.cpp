#include "../../lib/metadata/record_lines.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <string>

#include "../../lib/metadata/strict_yaml.h"
#include "fscryptctl/base/error.h"
#include "same_tree.h"

using namespace fscryptctl;
using yaml::Node;

namespace {

bool refused(const std::string& text) {
  try {
    (void)read_record_lines(text);
  } catch (const Error& error) {
    CHECK(error.code() == Errc::corrupt_metadata);
    return true;
  }
  return false;
}

std::string repeated(const std::string& line, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += line;
  return text;
}

}  // namespace

TEST_CASE("fields, lists and lists of maps become a tree in the order of the text") {
  const Node root = read_record_lines(
      "a: 1\nwords:\n  - x\n  - \"y \\x41\"\n  - []\nmaps:\n  - k: 2\n    l: \"e\"\n  - k: 3\nz: "
      "[]\n");
  REQUIRE(root.kind == Node::Kind::map);
  REQUIRE(root.children.size() == 4);
  CHECK(root.children[0].key == "a");
  CHECK(yaml::integer(root.children[0], 0, 9) == 1);
  CHECK(yaml::plain(yaml::list(root.children[1])[0]) == "x");
  CHECK(yaml::quoted(yaml::list(root.children[1])[1]) == "y A");
  CHECK(yaml::list(yaml::list(root.children[1])[2]).empty());
  REQUIRE(yaml::list(root.children[2]).size() == 2);
  CHECK(yaml::quoted(yaml::list(root.children[2])[0].children[1]) == "e");
  CHECK(yaml::list(root.children[2])[1].children[0].key == "k");
  CHECK(yaml::list(root.children[3]).empty());
}

TEST_CASE("escapes are code points in UTF-8") {
  const auto text = [](const std::string& quoted) {
    return yaml::quoted(read_record_lines("a: \"" + quoted + "\"\n").children[0]);
  };
  CHECK(text("\\\"\\\\") == "\"\\");
  CHECK(text("\\x7f\\xe9") == "\x7f\xc3\xa9");
  CHECK(text("\\u07ff\\u0800\\uFFFF") == "\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf");
  CHECK(text("\\U00010000\\U0010ffff") == "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
  CHECK(text("a: b - [c] #d") == "a: b - [c] #d");
  for (const char* bad : {"\\ud800", "\\uDFFF", "\\U00110000", "\\Uffffffff", "\\x4", "\\x4g",
                          "\\u12", "\\x-1", "\\x+1", "\\n", "\\", "\\U0000004"}) {
    CAPTURE(bad);
    CHECK(refused("a: \"" + std::string(bad) + "\"\n"));
  }
}

TEST_CASE("a line of any other form is refused") {
  for (const char* text :
       {"\n",          "a\n",         "a:b\n",     ": b\n",    "a:  b\n",       "a: b \n",
        " a: b\n",     "A: b\n",      "a-b: c\n",  "a: b c\n", "a: 'b'\n",      "a: \"b\n",
        "a: \"b\"c\n", "a: \"b\" \n", "a: -b\n",   "a: b:\n",  "a: &b\n",       "a: *b\n",
        "a: !b\n",     "a: [b]\n",    "a: {}\n",   "a: |\n",   "a: ~\n",        "a: null\n",
        "a: Null\n",   "a: NULL\n",   "null: a\n", "# c\n",    "a: b # c\n",    "...\n",
        "---\n",       "a: b",        "a: b\r\n",  "a:\tb\n",  "a: \xc3\xbc\n", "%YAML 1.2\n",
        "\"a\": b\n",  "? a\n",       "- a\n"}) {
    CAPTURE(text);
    CHECK(refused(text));
  }
  CHECK(refused(std::string("a: \"b\0\"\n", 9)));
}

TEST_CASE("items stand below the key of a list, and every list written so has some") {
  for (const char* text :
       {"a:\n", "a:\nb: c\n", "  - a\n", "a: b\n  - c\n", "a: []\n  - c\n", "    a: b\n",
        "a:\n    b: c\n", "a:\n  - b\n    c: d\n", "a:\n  - \"b: c\"\n    d: e\n",
        "a:\n  - []\n    b: c\n", "a:\n  -\n", "a:\n  - b:\n", "a:\n  - b: c\n    d:\n",
        "a:\n  - b: c\n      - d\n", "a:\n  - b\nc: d\n  - e\n", "a:\n   - b\n", "a:\n  - - b\n"}) {
    CAPTURE(text);
    CHECK(refused(text));
  }
}

TEST_CASE("no key stands twice in a document or item, and there are few") {
  CHECK(refused("a: 1\na: 2\n"));
  CHECK(refused("a: 1\na:\n  - b\n"));
  CHECK(refused("a:\n  - b: 1\n    b: 2\n"));
  CHECK_FALSE(refused("a:\n  - b: 1\n  - b: 2\n"));
  std::string many;
  for (int i = 0; i < 3000; ++i) many += "k" + std::to_string(i) + ": 1\n";
  CHECK(refused(many));
  CHECK_FALSE(refused("a:\n" + repeated("  - b\n", 2500)));
}

TEST_CASE("what is read is what YAML says") {
  const std::string lines[] = {"a: 1\n",
                               "bc: word-x:y\n",
                               "d:\n",
                               "  - e\n",
                               "  - \"f: \\x41\"\n",
                               "  - g: h\n",
                               "    i: 010\n",
                               "    j: \"\\u00e9\"\n",
                               "k: []\n",
                               "  - []\n",
                               "l: 2026-11-22T10:11:12Z\n",
                               "m: true\n",
                               "n: 1e5\n",
                               "    g: \"\"\n",
                               "o: 0x10\n",
                               "p: \"- [] {} # ' %\"\n"};
  std::mt19937 random(1);  // the same texts in every run
  int accepted = 0;
  for (int i = 0; i < 50000; ++i) {
    std::string text;
    for (auto left = random() % 7 + 1; left > 0; --left) text += lines[random() % std::size(lines)];
    try {
      const Node ours = read_record_lines(text);
      CAPTURE(text);
      CHECK(same_tree(ours, yaml::read_document(text)));
      ++accepted;
    } catch (const Error&) {
    }
  }
  CHECK(accepted > 1000);
}
