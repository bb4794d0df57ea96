#include "fscryptctl/base/terminal_size.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include <catch2/catch.hpp>

#include "fscryptctl/base/file.h"

namespace fscryptctl {
namespace {

TEST_CASE("a terminal is as wide as it says, anything else has 80 columns", "[base][terminal]") {
  const UniqueFd terminal(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(terminal);
  winsize size{};
  SECTION("one that says") {
    size.ws_col = 132;
    REQUIRE(ioctl(terminal.get(), TIOCSWINSZ, &size) == 0);
    CHECK(terminal_columns(terminal.get()) == 132);
  }
  SECTION("a serial line, say") {
    REQUIRE(ioctl(terminal.get(), TIOCSWINSZ, &size) == 0);
    CHECK(terminal_columns(terminal.get()) == 80);
  }
  SECTION("a file") {
    const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
    CHECK(terminal_columns(file.get()) == 80);
  }
  SECTION("nothing") { CHECK(terminal_columns(-1) == 80); }
}

}  // namespace
}  // namespace fscryptctl
