// How the low-level commands read their arguments and standard input; what they do with a kernel
// stands in tests/system.
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "cmd/captured_output.h"
#include "cmd/command_child.h"
#include "commands.h"
#include "fscryptctl/base/error.h"
#include "low_level_call.h"

namespace fscryptctl::test {
namespace {

struct Seen {
  std::string options;
  std::vector<std::string> operands;
  bool worked = false;
};

LowLevelCommand sample(Seen& seen) {
  const auto note = [&seen](const char* name) {
    return [&seen, name](std::string_view value) {
      if (value == "bad") throw Error(Errc::usage, "invalid thing: bad");
      seen.options += std::string(name) + "(" + std::string(value) + ")";
    };
  };
  return {"does something",
          "A B",
          2,
          "must specify A and B",
          {{"flag", nullptr, "a flag", note("flag")},
           {"flat", nullptr, "another", note("flat")},
           {"value", "N", "a value", note("value")}},
          [&seen](const std::vector<std::string>& operands) {
            seen.operands = operands;
            seen.worked = true;
            print_lines({"worked"});
          }};
}

/// The call's exit code and all it wrote, "CODE|stdout|stderr", with `input` as standard input.
template <class Call>
std::string outcome(const std::string& input, const Call& call) {
  return without_terminal(input, [&] {
    const CapturedStream out;
    const CapturedStream err;
    dup2(out.fd(), STDOUT_FILENO);
    dup2(err.fd(), STDERR_FILENO);
    const int code = call();
    return std::to_string(code) + "|" + out.text() + "|" + err.text();
  });
}

template <class Function>
int with_arguments(std::vector<std::string> words, const Function& run) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  return run(static_cast<int>(words.size()), argv.data());
}

std::string parsed(const std::vector<std::string>& words) {
  std::vector<std::string> all = {"sample"};
  all.insert(all.end(), words.begin(), words.end());
  Seen seen;
  const std::string result = without_terminal("", [&] {
    const CapturedStream out;
    const CapturedStream err;
    dup2(out.fd(), STDOUT_FILENO);
    dup2(err.fd(), STDERR_FILENO);
    const int code = with_arguments(
        all, [&](int argc, char** argv) { return run_low_level(sample(seen), argc, argv); });
    std::string text = std::to_string(code) + " " + seen.options;
    for (const std::string& operand : seen.operands) text += " <" + operand + ">";
    return text + (seen.worked ? "" : " " + err.text());
  });
  return result;
}

TEST_CASE("options are read as getopt_long reads them", "[cmd][low-level]") {
  CHECK(parsed({"a", "b"}) == "0  <a> <b>");
  CHECK(parsed({"a", "--flag", "b"}) == "0 flag() <a> <b>");
  CHECK(parsed({"a", "b", "--value", "1"}) == "0 value(1) <a> <b>");
  CHECK(parsed({"--val=1", "a", "--v", "2", "b"}) == "0 value(1)value(2) <a> <b>");
  CHECK(parsed({"--value=", "a", "b"}) == "0 value() <a> <b>");
  CHECK(parsed({"--value", "--flag", "a", "b"}) == "0 value(--flag) <a> <b>");
  CHECK(parsed({"--", "--flag", "-x"}) == "0  <--flag> <-x>");
  CHECK(parsed({"a", "--flat", "--", "--flag"}) == "0 flat() <a> <--flag>");
  CHECK(parsed({"-", ""}) == "0  <-> <>");
}

TEST_CASE("mistakes in options are one line", "[cmd][low-level]") {
  CHECK(parsed({"--fla", "a", "b"}) == "1  error: option '--fla' is ambiguous\n");
  CHECK(parsed({"--nothing=x"}) == "1  error: unrecognized option '--nothing'\n");
  CHECK(parsed({"--flag=x"}) == "1  error: option '--flag' doesn't allow an argument\n");
  CHECK(parsed({"a", "b", "--value"}) == "1  error: option '--value' requires an argument\n");
  CHECK(parsed({"-x", "a"}) == "1  error: invalid option -- 'x'\n");
  CHECK(parsed({"a"}) == "1  error: must specify A and B\n");
  CHECK(parsed({"a", "b", "c"}) == "1  error: must specify A and B\n");
  // In the order in which they stand.
  CHECK(parsed({"--flag", "--value=bad", "--nothing"}) == "1 flag() error: invalid thing: bad\n");
}

TEST_CASE("one parse does not disturb the next", "[cmd][low-level]") {
  CHECK(without_terminal("", [&] {
          std::string all;
          for (const char* operand : {"1", "2"}) {
            Seen seen;
            const CapturedStream out;
            dup2(out.fd(), STDOUT_FILENO);
            (void)with_arguments({"sample", operand, "--flag", "b"}, [&](int argc, char** argv) {
              return run_low_level(sample(seen), argc, argv);
            });
            all += seen.options + seen.operands.at(0);
          }
          return all;
        }) == "flag()1flag()2");
}

TEST_CASE("a key is all of standard input, within its bounds", "[cmd][low-level]") {
  const auto size_of = [](std::size_t given, std::size_t longest) {
    return without_terminal(std::string(given, 'k'), [&] {
      const SecretBytes key = read_key_bytes(longest);
      return std::string(key.view().begin(), key.view().end()) == std::string(given, 'k')
                 ? std::to_string(key.size())
                 : "other bytes";
    });
  };
  CHECK(size_of(16, 64) == "16");
  CHECK(size_of(64, 64) == "64");
  CHECK(size_of(128, 128) == "128");
  CHECK(size_of(15, 64) == "error usage: key was too short; it must be at least 16 bytes");
  CHECK(size_of(65, 64) == "error usage: key was too long; it can be at most 64 bytes");
  CHECK(size_of(129, 128) == "error usage: key was too long; it can be at most 128 bytes");
}

TEST_CASE("the hardware-wrapped-key commands read their arguments before all else",
          "[cmd][low-level]") {
  const std::string key(32, 'k');
  using Run = int (*)(int, char**);
  for (const Run run :
       {run_import_hw_wrapped_key, run_generate_hw_wrapped_key, run_prepare_hw_wrapped_key}) {
    const auto result = [&](const std::vector<std::string>& words, const std::string& input) {
      return outcome(input, [&] { return with_arguments(words, run); });
    };
    CHECK(result({"x"}, "") == "1||error: must specify a single block device\n");
    CHECK(result({"x", "a", "b"}, "") == "1||error: must specify a single block device\n");
    CHECK(result({"x", "--hw-wrapped-key", "a"}, "") ==
          "1||error: unrecognized option '--hw-wrapped-key'\n");
    CHECK(result({"x", "/missing"}, key) ==
          "1||error: opening /missing: No such file or directory\n");
    CHECK(result({"x", "/dev/null"}, key).find("hardware-wrapped key: not a block device") !=
          std::string::npos);
    CHECK(result({"x", "--help"}, "").starts_with("0|"));
  }
  // Only what needs a key reads one.
  const auto with_nothing = [&](Run run) {
    return outcome("", [&] { return with_arguments({"x", "/missing"}, run); });
  };
  const std::string too_short = "1||error: key was too short; it must be at least 16 bytes\n";
  CHECK(with_nothing(run_import_hw_wrapped_key) == too_short);
  CHECK(with_nothing(run_prepare_hw_wrapped_key) == too_short);
  CHECK(with_nothing(run_generate_hw_wrapped_key) ==
        "1||error: opening /missing: No such file or directory\n");
}

}  // namespace
}  // namespace fscryptctl::test
