#include "command_line.h"

#include <fcntl.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "captured_output.h"
#include "invocation.h"

namespace fscryptctl {
namespace {

using test::CapturedOutput;

int run_show(Invocation& invocation) {
  CLI::App app("shows its arguments");
  std::vector<std::string> paths;
  std::optional<std::string> name;
  add_text(app, "PATH", "", paths, "paths")->required();
  add_text(app, "--name", "NAME", name, "a name");
  invocation.add_mount_option(app);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);
  const GlobalOptions& globals = invocation.globals;
  Output& out = invocation.out;
  for (const std::string& path : paths) out.data(printable(path) + "\n");
  out.data("user " + globals.user.value_or("-") + ", config " + globals.config_path + ", mount " +
           globals.mount.value_or("-") + ", limit " +
           std::to_string(globals.kdf_limit_mib.value_or(0)) + ", name " + name.value_or("-") +
           "\n");
  if (globals.quiet) out.data("quiet\n");
  if (globals.verbose) out.data("verbose\n");
  if (globals.yes) out.data("yes\n");
  if (globals.no_prompt) out.data("no prompt\n");
  out.json()["paths"] = paths;
  return out.exit_code();
}

int run_fail(Invocation& invocation) {
  CLI::App app("fails");
  std::string how;
  add_text(app, "HOW", "", how, "how")->required();
  invocation.parse(app);
  if (how == "memory") throw std::bad_alloc();
  if (how == "bug") throw std::logic_error("unexpected");
  if (how == "signal") throw Error(Errc::interrupted, "interrupted", SIGINT);
  throw Error(Errc::not_empty, "/p already has files").with_path("/p");
}

std::vector<std::string> raw_arguments;

int run_raw(int argc, char** argv) {
  raw_arguments.assign(argv, argv + argc);
  return argv[argc] == nullptr ? 42 : 1;
}

constexpr Command kCommands[] = {
    {"show", "show arguments", CommandGroup::everyday, run_show},
    {"fail", "fail", CommandGroup::everyday, run_fail},
    {"protector list", "list protectors", CommandGroup::protectors, run_show},
    {"raw", "get everything untouched", CommandGroup::low_level, nullptr, run_raw},
};

struct Result {
  int exit_code;
  std::string out;
  std::string err;

  [[nodiscard]] Json json() const { return Json::parse(out); }
};

Result run(std::vector<std::string> words) {
  words.insert(words.begin(), "fscryptctl");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  CapturedOutput captured;
  const int exit_code =
      run_command_line(kCommands, static_cast<int>(words.size()), argv.data(), captured.output);
  return {exit_code, captured.out(), captured.err()};
}

const std::string kDefaults = "user -, config /etc/fscryptctl.yaml, mount -, limit 0, name -\n";

TEST_CASE("global options stand before or after the command", "[cmd][command-line]") {
  unsetenv("FSCRYPTCTL_CONFIG");
  CHECK(run({"show", "a"}).out == "a\n" + kDefaults);
  const std::vector<std::string> options = {"--user", "alice",       "--config=/c", "--mount",
                                            "/m",     "--kdf-limit", "512",         "-q",
                                            "-y",     "--verbose",   "--no-input"};
  std::vector<std::string> before = options;
  before.insert(before.end(), {"show", "a"});
  std::vector<std::string> after = {"show", "a"};
  after.insert(after.end(), options.begin(), options.end());
  const std::string expected =
      "a\nuser alice, config /c, mount /m, limit 512, name -\nquiet\nverbose\nyes\nno prompt\n";
  CHECK(run(before).out == expected);
  CHECK(run(after).out == expected);
}

TEST_CASE("the value of an option is not taken for the command", "[cmd][command-line]") {
  for (const char* option : {"--user", "--config", "--mount", "--kdf-limit"}) {
    CAPTURE(option);
    const Result result = run({option, "7", "show", "a"});
    CHECK(result.exit_code == 0);
  }
}

TEST_CASE("the environment names the configuration, the option wins", "[cmd][command-line]") {
  setenv("FSCRYPTCTL_CONFIG", "/env", 1);
  CHECK(run({"show", "a"}).out.find("config /env,") != std::string::npos);
  CHECK(run({"show", "a", "--config", "/opt"}).out.find("config /opt,") != std::string::npos);
  setenv("FSCRYPTCTL_CONFIG", "", 1);
  CHECK(run({"show", "a"}).out.find("config /etc/fscryptctl.yaml,") != std::string::npos);
  unsetenv("FSCRYPTCTL_CONFIG");
}

TEST_CASE("an unknown command is an error", "[cmd][command-line]") {
  const Result result = run({"frobnicate", "x"});
  CHECK(result.exit_code == 2);
  CHECK(result.err == "error: invalid command: frobnicate\n");
  CHECK(result.out.empty());
  CHECK(run({""}).exit_code == 2);
  CHECK(run({"\x1b[2J"}).err == "error: invalid command: \\x1b[2J\n");
}

TEST_CASE("without a command the usage comes on standard error", "[cmd][command-line]") {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{}, {"--quiet"}, {"--"}, {"--user", "alice"}}) {
    const Result result = run(words);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    CHECK(result.err.find("Usage: fscryptctl") == 0);
    CHECK(result.err.find("error: no command given\n") != std::string::npos);
  }
}

TEST_CASE("help lists everyday commands first and low-level ones last", "[cmd][command-line]") {
  for (const char* option : {"-h", "--help"}) {
    const Result result = run({option});
    CHECK(result.exit_code == 0);
    CHECK(result.err.empty());
    const std::size_t everyday = result.out.find("Everyday commands:\n  show ");
    const std::size_t protectors = result.out.find("Protectors and policies:\n  protector list ");
    const std::size_t low_level = result.out.find("Low-level commands");
    REQUIRE(low_level != std::string::npos);
    CHECK(everyday < protectors);
    CHECK(protectors < low_level);
  }
}

TEST_CASE("a command's help shows its options, wherever it is asked for", "[cmd][command-line]") {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"show", "--help"},
                                                {"--help", "show"},
                                                {"show", "a", "-h"},
                                                {"-qh", "show"}}) {
    const Result result = run(words);
    CHECK(result.exit_code == 0);
    CHECK(result.out.find("fscryptctl show [OPTIONS] PATH") != std::string::npos);
    CHECK(result.out.find("--name NAME") != std::string::npos);
    CHECK(result.out.find("--no-prompt") != std::string::npos);
  }
}

TEST_CASE("the version is shown with or without a command", "[cmd][command-line]") {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"-v"}, {"--version"}, {"show", "-v"}, {"--version", "fail"}}) {
    const Result result = run(words);
    CHECK(result.exit_code == 0);
    CHECK(result.out == "fscryptctl 0.1.0\n");
  }
  const Result verbose = run({"--version", "--verbose"});
  CHECK(verbose.out.find("fscryptctl 0.1.0\nOpenSSL ") == 0);
  CHECK(verbose.out.find(", libargon2 ") != std::string::npos);
  CHECK(verbose.out.find(", yaml-cpp ") != std::string::npos);
}

TEST_CASE("help and version behind a value or a double dash are not options",
          "[cmd][command-line]") {
  CHECK(run({"show", "a", "--name", "--version"}).out.find("name --version") != std::string::npos);
  CHECK(run({"show", "--", "--help"}).out == "--help\n" + kDefaults);
}

TEST_CASE("with JSON there is one object whatever happens", "[cmd][command-line][json]") {
  const Json shown = run({"--json", "show", "a"}).json();
  CHECK(shown["command"] == "show");
  CHECK(shown["ok"] == true);
  CHECK(shown["paths"] == Json::array({"a"}));
  CHECK(run({"--json", "--version"}).json()["version"] == "0.1.0");
  CHECK(run({"show", "--json", "--help"}).json()["help"].get<std::string>().find("PATH") !=
        std::string::npos);
  for (const std::vector<std::string>& words : {std::vector<std::string>{"--json"},
                                                {"frobnicate", "--json"},
                                                {"show", "--json"},
                                                {"show", "--bogus", "--json"},
                                                {"show", "a", "--kdf-limit", "x", "--json"},
                                                {"protector", "--json"},
                                                {"--json", "raw"}}) {
    const Result result = run(words);
    CHECK(result.exit_code == 2);
    CHECK(result.err.empty());
    CHECK(result.json()["ok"] == false);
    CHECK(result.json()["error"]["code"] == "usage");
  }
  CHECK(run({"fail", "now", "--json"}).json()["error"]["path"] == "/p");
}

TEST_CASE("mistakes in arguments are told", "[cmd][command-line]") {
  const auto error = [](const std::vector<std::string>& words) {
    const Result result = run(words);
    CHECK(result.exit_code == 2);
    return result.err;
  };
  CHECK(error({"show"}) == "error: PATH is required\n");
  CHECK(error({"show", "a", "--bogus"}) == "error: unknown option: --bogus\n");
  CHECK(error({"show", "a", "--name"}) == "error: option --name needs a value\n");
  CHECK(error({"show", ""}) == "error: an argument is empty\n");
  CHECK(error({"fail", "now", "[too]"}) == "error: unexpected argument: [too]\n");
  CHECK(error({"--bogus", "show", "a"}) == "error: unknown option: --bogus\n");
}

TEST_CASE("commands of two words", "[cmd][command-line]") {
  CHECK(run({"protector", "list", "a"}).out == "a\n" + kDefaults);
  CHECK(run({"-q", "protector", "--user", "x", "list", "a"}).exit_code == 0);
  CHECK(run({"protector", "list", "a", "--json"}).json()["command"] == "protector list");
  const Result unknown = run({"protector", "frobnicate"});
  CHECK(unknown.exit_code == 2);
  CHECK(unknown.err == "error: invalid command: protector frobnicate\n");
  const Result alone = run({"protector"});
  CHECK(alone.exit_code == 2);
  CHECK(alone.err.find("protector list") != std::string::npos);
  const Result help = run({"protector", "--help"});
  CHECK(help.exit_code == 0);
  CHECK(help.out.find("protector list") != std::string::npos);
  CHECK(help.out.find("show") == help.out.rfind("shows a command's options"));
}

TEST_CASE("a raw command gets its arguments untouched", "[cmd][command-line]") {
  const std::vector<std::string> words = {"raw", "--json", "[x]", "--", "-v", "", "++"};
  const Result result = run(words);
  CHECK(result.exit_code == 42);
  CHECK(raw_arguments == words);
  CHECK(result.out.empty());
  CHECK(result.err.empty());
}

TEST_CASE("before a raw command only help and version may stand", "[cmd][command-line]") {
  CHECK(run({"-v", "raw"}).out == "fscryptctl 0.1.0\n");
  CHECK(run({"-h", "raw"}).out.find("Usage: fscryptctl") == 0);
  const Result result = run({"--quiet", "raw"});
  CHECK(result.exit_code == 2);
  CHECK(result.err == "error: raw takes no global options\n");
}

TEST_CASE("every failure has its exit code", "[cmd][command-line]") {
  const Result refused = run({"fail", "now"});
  CHECK(refused.exit_code == 9);
  CHECK(refused.err.find("error: /p already has files\nhint: ") == 0);
  CHECK(run({"fail", "signal"}).exit_code == 130);
  const Result memory = run({"fail", "memory"});
  CHECK(memory.exit_code == 1);
  CHECK(memory.err == "error: out of memory\n");
  const Result bug = run({"fail", "bug"});
  CHECK(bug.exit_code == 1);
  CHECK(bug.err.find("error: internal error: unexpected\nhint: ") == 0);
}

TEST_CASE("a JSON object that cannot be written is an error on standard error",
          "[cmd][command-line][json]") {
  test::CapturedStream err;
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  Output output(full.get(), err.fd());
  std::string words[] = {"fscryptctl", "--json", "--version"};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  CHECK(run_command_line(kCommands, 3, argv, output) == 1);
  CHECK(err.text() == "error: standard output: No space left on device\n");
}

}  // namespace
}  // namespace fscryptctl
