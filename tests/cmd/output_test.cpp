#include "output.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <csignal>

#include "captured_output.h"

namespace fscryptctl {
namespace {

using test::CapturedOutput;

const Error kBusy = Error(Errc::files_in_use, "/p is not completely locked").with_path("/p");

CapturedOutput& with(CapturedOutput& captured, Output::Settings settings) {
  captured.output.set(settings);
  captured.output.set_command("lock");
  return captured;
}

TEST_CASE("data goes to standard output, messages go to standard error", "[cmd][output]") {
  CapturedOutput captured;
  captured.output.data("data\n");
  captured.output.message("done");
  captured.output.note("by the way");
  captured.output.verbose("unseen");
  captured.output.error(kBusy);
  captured.output.finish(5);
  CHECK(captured.out() == "data\n");
  CHECK(captured.err() ==
        "done\n"
        "note: by the way\n"
        "error: /p is not completely locked\n"
        "hint: close it, then lock again; \"fscryptctl unlock /p\" undoes this\n");
}

TEST_CASE("quiet leaves data and errors", "[cmd][output]") {
  CapturedOutput captured;
  with(captured, {.quiet = true});
  captured.output.data("data\n");
  captured.output.message("done");
  captured.output.note("by the way");
  captured.output.error(Error(Errc::io, "broken"));
  CHECK(captured.out() == "data\n");
  CHECK(captured.err() == "error: broken\n");
}

TEST_CASE("verbose says what is done", "[cmd][output]") {
  CapturedOutput captured;
  with(captured, {.verbose = true});
  captured.output.verbose("looking at /p");
  CHECK(captured.err() == "looking at /p\n");
}

TEST_CASE("JSON output is one object and nothing else", "[cmd][output][json]") {
  CapturedOutput captured;
  with(captured, {.json = true});
  captured.output.data("data\n");
  captured.output.message("done");
  captured.output.json()["key_status"] = "absent";
  captured.output.set_changed();
  captured.output.finish(0);
  CHECK(captured.out() ==
        "{\"schema\":1,\"command\":\"lock\",\"ok\":true,\"changed\":true,"
        "\"key_status\":\"absent\"}\n");
  CHECK(captured.err().empty());
}

TEST_CASE("a failure in JSON keeps the data obtained so far", "[cmd][output][json]") {
  CapturedOutput captured;
  with(captured, {.json = true});
  captured.output.json()["results"] = Json::array({1});
  captured.output.note("by the way");
  captured.output.error(kBusy);
  captured.output.finish(captured.output.exit_code());
  CHECK(captured.out() ==
        "{\"schema\":1,\"command\":\"lock\",\"ok\":false,\"changed\":false,\"results\":[1],"
        "\"error\":{\"code\":\"busy\",\"reason\":\"files_in_use\","
        "\"message\":\"/p is not completely locked\","
        "\"hint\":\"close it, then lock again; \\\"fscryptctl unlock /p\\\" undoes this\","
        "\"path\":\"/p\",\"candidates\":[]}}\n");
  CHECK(captured.err() == "note: by the way\n");
}

TEST_CASE("an error in JSON has a path and a hint only where there is one, candidates always",
          "[cmd][output][json]") {
  const CapturedOutput captured;
  const Json plain = captured.output.error_json(Error(Errc::io, "broken"));
  CHECK_FALSE(plain.contains("path"));
  CHECK_FALSE(plain.contains("hint"));
  CHECK(plain["candidates"] == Json::array());
  const Json ambiguous = captured.output.error_json(
      Error(Errc::ambiguous, "\"ab\" is ambiguous").with_candidates({"abc", "a\xff"}));
  CHECK(ambiguous["code"] == "usage");
  CHECK(ambiguous["reason"] == "ambiguous");
  CHECK(ambiguous["candidates"] == Json::array({"abc", "a\\xff"}));
}

TEST_CASE("paths that are not UTF-8 are escaped and come as base64 too", "[cmd][output][json]") {
  Json object;
  put_path(object, "path", "/caf\u00e9\n");
  put_path(object, "mountpoint", "/\xff");
  CHECK(object.dump() ==
        "{\"path\":\"/caf\u00e9\\n\",\"mountpoint\":\"/\\\\xff\",\"mountpoint_base64\":\"L/8=\"}");
  const CapturedOutput captured;
  const Json error = captured.output.error_json(Error(Errc::io, "x").with_path("/\xff"));
  CHECK(error["path"] == "/\\xff");
  CHECK(error["path_base64"] == "L/8=");
}

TEST_CASE("bytes that are not UTF-8 never break the JSON", "[cmd][output][json]") {
  CapturedOutput captured;
  with(captured, {.json = true});
  captured.output.set_command("\xff");
  captured.output.json()["name"] = "a\xff";
  captured.output.error(Error(Errc::io, "\xff\n is broken"));
  captured.output.finish(1);
  const Json object = captured.json();
  CHECK(object["command"] == "\\xff");
  CHECK(object["error"]["message"] == "\\xff\\x0a is broken");
}

TEST_CASE("a message cannot start a line of its own or write to the terminal", "[cmd][output]") {
  CapturedOutput captured;
  captured.output.error(Error(Errc::io, "a\nerror: b\x1b[2J"));
  captured.output.note("a\nb");
  CHECK(captured.err() == "error: a\\x0aerror: b\\x1b[2J\nnote: a\\x0ab\n");
}

TEST_CASE("what has been made printable already stays as it is", "[cmd][output]") {
  CHECK(one_line(printable("a\\b\n\xff")) == printable("a\\b\n\xff"));
  CHECK(one_line("a\\b\n\xff\\") == "a\\b\\x0a\\xff\\");
  CHECK(one_line("").empty());
}

TEST_CASE("the first of several errors makes the exit code", "[cmd][output]") {
  CapturedOutput captured;
  with(captured, {.json = true});
  CHECK(captured.output.exit_code() == 0);
  captured.output.error(Error(Errc::wrong_key, "wrong"));
  captured.output.error(kBusy);
  CHECK(captured.output.exit_code() == 3);
  captured.output.finish(3);
  CHECK(captured.json()["error"]["reason"] == "wrong_key");
}

TEST_CASE("an interruption makes the exit code, whatever came before", "[cmd][output]") {
  CapturedOutput captured;
  captured.output.error(kBusy);
  captured.output.error(Error(Errc::interrupted, "interrupted", SIGTERM));
  CHECK(captured.output.exit_code() == 143);
  CapturedOutput other;
  other.output.error(Error(Errc::interrupted, "interrupted", SIGINT));
  CHECK(other.output.exit_code() == 130);
}

TEST_CASE("details stand between an error and its hint", "[cmd][output]") {
  CapturedOutput captured;
  captured.output.error(kBusy, "PID  USER\n1    root\n");
  CHECK(captured.err() ==
        "error: /p is not completely locked\n"
        "PID  USER\n1    root\n"
        "hint: close it, then lock again; \"fscryptctl unlock /p\" undoes this\n");
}

TEST_CASE("a full disk or a closed pipe behind standard output is an error", "[cmd][output]") {
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  Output on_full(full.get(), 2);
  CHECK_THROWS_MATCHES(on_full.data("x"), Error, Catch::Predicate<Error>([](const Error& error) {
                         return error.code() == Errc::no_space;
                       }));
  on_full.set({.json = true});
  CHECK_THROWS_AS(on_full.finish(0), Error);

  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  read_end.reset();
  const auto previous = std::signal(SIGPIPE, SIG_IGN);
  Output on_pipe(write_end.get(), 2);
  CHECK_THROWS_WITH(on_pipe.data("x"), "standard output: Broken pipe");
  std::signal(SIGPIPE, previous);
}

TEST_CASE("standard error that cannot be written to is no reason to stop", "[cmd][output]") {
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  Output output(1, full.get());
  output.note("nobody hears this");
  output.error(kBusy);
  CHECK(output.exit_code() == 5);
}

}  // namespace
}  // namespace fscryptctl
