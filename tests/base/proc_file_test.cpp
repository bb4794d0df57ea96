#include "fscryptctl/base/proc_file.h"

#include <fcntl.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <string>

#include "support/temporary_directory.h"

namespace fscryptctl {
namespace {

TEST_CASE("a file whose size is not known is read to its end or to the limit") {
  const test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/file";
  const std::size_t size = GENERATE(0U, 1U, 4095U, 4096U, 4097U, 100000U);
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text.push_back(static_cast<char>('a' + i % 26));
  std::ofstream(path) << text;
  CHECK(read_proc_file(AT_FDCWD, path, 1U << 20U) == text);
  CHECK(read_proc_file(AT_FDCWD, path, 4096) == text.substr(0, 4096));
}

TEST_CASE("files that say they are empty are read all the same") {
  const auto text = read_proc_file(AT_FDCWD, "/proc/self/status", 1U << 20U);
  REQUIRE(text);
  CHECK(text->starts_with("Name:"));
  CHECK(text->ends_with("\n"));
}

TEST_CASE("what is not there or cannot be read is nothing") {
  CHECK(read_proc_file(AT_FDCWD, "/proc/self/no-such-file", 100) == std::nullopt);
  CHECK(read_proc_file(AT_FDCWD, "/proc/self", 100) == std::nullopt);
}

TEST_CASE("octal escapes become the bytes that they stand for") {
  CHECK(decode_octal_escapes("").empty());
  CHECK(decode_octal_escapes(R"(a\040b\011\012\134\377)") == "a b\t\n\\\xff");
  CHECK(decode_octal_escapes(R"(\134040)") == R"(\040)");
}

TEST_CASE("backslashes that begin no escape stay") {
  for (const std::string text : {R"(\)", R"(\0)", R"(\04)", R"(\08x)", R"(\400)", R"(a\nb)"}) {
    CHECK(decode_octal_escapes(text) == text);
  }
}

}  // namespace
}  // namespace fscryptctl
