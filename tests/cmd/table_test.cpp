#include "table.h"

#include <catch2/catch.hpp>

namespace fscryptctl {
namespace {

TEST_CASE("columns are as wide as their widest cell, the last is not padded", "[cmd][table]") {
  Table table({"FILESYSTEM", "TYPE", "SET UP"});
  table.add({"/home", "ext4", "yes"});
  table.add({"/", "f2fs", "no"});
  CHECK(table.text() ==
        "FILESYSTEM  TYPE  SET UP\n"
        "/home       ext4  yes\n"
        "/           f2fs  no\n");
}

TEST_CASE("a table may be indented and have no header", "[cmd][table]") {
  Table table;
  table.add({"opens with", "login"});
  table.add({"key", "8699"});
  CHECK(table.text("  ") ==
        "  opens with  login\n"
        "  key         8699\n");
}

TEST_CASE("a table without rows shows nothing", "[cmd][table]") {
  const Table table({"PID", "USER"});
  CHECK(table.empty());
  CHECK(table.text().empty());
}

TEST_CASE("a cell cannot write to the terminal or start a line", "[cmd][table]") {
  Table table({"PATH", "STATE"});
  table.add({"a\nb\x1b[31m", "locked"});
  table.add({"\xff", "locked"});
  CHECK(table.text() ==
        "PATH            STATE\n"
        "a\\x0ab\\x1b[31m  locked\n"
        "\\xff            locked\n");
}

TEST_CASE("columns are aligned by what a terminal shows", "[cmd][table]") {
  CHECK(display_width("") == 0);
  CHECK(display_width("abc") == 3);
  CHECK(display_width("\u00e9t\u00e9") == 3);
  CHECK(display_width("e\u0301") == 1);       // a combining accent
  CHECK(display_width("\u65e5\u672c") == 4);  // two wide characters
  Table table;
  table.add({"\u65e5\u672c", "x"});
  table.add({"caf\u00e9", "x"});
  table.add({"abcde", "x"});
  CHECK(table.text() ==
        "\u65e5\u672c   x\n"
        "caf\u00e9   x\n"
        "abcde  x\n");
}

}  // namespace
}  // namespace fscryptctl
