#include "progress_display.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <thread>

#include "captured_output.h"
#include "command_child.h"

namespace fscryptctl {
namespace {

constexpr std::uint64_t kMega = 1'000'000;
constexpr ConversionProgress kHalf{"copying", 50 * kMega, 100 * kMega, 5, 10};

/// What a display writes to a standard error that is no terminal.
std::string shown_off_terminal(Output::Settings settings) {
  return test::without_terminal("", [&] {
    const test::CapturedStream stream;
    dup2(stream.fd(), STDERR_FILENO);
    Output out;
    out.set(settings);
    ProgressDisplay display(out);
    display.show(kHalf);
    display.show(kHalf);  // too soon
    display.show({"removing", 0, 0, 3, 0});
    display.clear();
    return stream.text();
  });
}

TEST_CASE("a terminal gets one line that is drawn again and taken away", "[cmd][progress]") {
  test::TerminalSession session([] {
    Output out;
    ProgressDisplay display(out);
    display.show(kHalf);
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    display.show(kHalf);
    display.show({"checking", 0, 0, 3, 0});
    display.clear();
    return std::string();
  });
  CHECK(session.shows("\rcopying    [############............]  50%\033[K"));
  CHECK(session.shows("\rcopying    [############............]  50%  4"));
  CHECK(session.shows(" MB/s  2 seconds left\033[K\r"));
  CHECK(session.shows("checking   3 files\033[K\r\033[K"));
  CHECK(session.result() == "");
}

TEST_CASE("with --json each phase, and each second, is an object a line", "[cmd][progress]") {
  const std::string half = R"({"phase":"copying","bytes_done":50000000,"bytes_total":100000000,)"
                           R"("files_done":5,"files_total":10})";
  const std::string next =
      R"({"phase":"removing","bytes_done":0,"bytes_total":0,"files_done":3,"files_total":0})";
  CHECK(shown_off_terminal({.json = true}) == half + "\n" + next + "\n");
}

TEST_CASE("a file and a quiet command get no progress", "[cmd][progress]") {
  CHECK(shown_off_terminal({}).empty());
  CHECK(shown_off_terminal({.quiet = true}).empty());
}

TEST_CASE("durations are rounded up to what people say", "[cmd][progress]") {
  CHECK(human_time(0) == "1 second");
  CHECK(human_time(2.1) == "3 seconds");
  CHECK(human_time(89) == "89 seconds");
  CHECK(human_time(91) == "about 2 minutes");
  CHECK(human_time(3600) == "about 60 minutes");
  CHECK(human_time(6000) == "about 2 hours");
}

}  // namespace
}  // namespace fscryptctl
