#include "arguments.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

using Texts = std::vector<std::string>;

/// A command with one of everything.
struct Sample {
  Texts paths;
  std::optional<std::string> name;
  std::string config = "default";
  Texts protectors;
  bool all = false;
  bool yes = false;
  unsigned padding = 32;
  std::optional<std::uint64_t> limit;

  void parse(const Texts& tokens) {
    CLI::App app;
    add_text(app, "PATH", "", paths, "paths");
    add_text(app, "-n,--name", "NAME", name, "a name");
    add_text(app, "--config", "FILE", config, "a file");
    add_text(app, "--protector", "P", protectors, "may be repeated");
    app.add_flag("-a,--all", all, "a flag");
    app.add_flag("-y,--yes", yes, "another flag");
    add_number(app, "--padding", "N", padding, "a number");
    add_number(app, "--limit", "N", limit, "an optional number");
    decode_values(app);
    Texts protected_tokens = protect_tokens(app, tokens);
    std::reverse(protected_tokens.begin(), protected_tokens.end());
    app.parse(std::move(protected_tokens));
  }
};

Sample parsed(const Texts& tokens) {
  Sample sample;
  sample.parse(tokens);
  return sample;
}

std::string usage_error(const Texts& tokens) {
  try {
    (void)parsed(tokens);
  } catch (const Error& error) {
    REQUIRE(error.code() == Errc::usage);
    return error.what();
  }
  return "no error";
}

// Everything that CLI11 is known to change, drop, split or take for something else, and more.
const Texts kHostileNames = {
    "[x]",  "[a,b]", "[]",   "[",     "{}",       "%%",       "++",       "+",
    "=",    "==x",   "=[x]", "a=b",   "a,b",      "'quoted'", "\"q\"",    "-",
    "a b",  " ",     "\n",   "a\nb",  "\t",       "\\",       "\\x41",    "/x:y",
    "/h",   "#x",    ";x",   "@file", "~",        "$HOME",    "*",        "default",
    "true", "false", "1",    "0x10",  "\xff\xfe", "\xc3\xa9", "\x1b[31m", "./x",
};

TEST_CASE("a path may have any name", "[cmd][arguments]") {
  for (const std::string& name : kHostileNames) {
    CAPTURE(name);
    CHECK(parsed({name}).paths == Texts{name});
    CHECK(parsed({"--", name}).paths == Texts{name});
    CHECK(parsed({"first", name, "last"}).paths == Texts{"first", name, "last"});
  }
}

TEST_CASE("an option's value may be anything", "[cmd][arguments]") {
  Texts values = kHostileNames;
  values.insert(values.end(), {"--", "--name", "-n", "--all", "-5", "--name=x"});
  for (const std::string& value : values) {
    CAPTURE(value);
    CHECK(parsed({"--name", value}).name == value);
    CHECK(parsed({"--name=" + value}).name == value);
    CHECK(parsed({"-n", value}).name == value);
    CHECK(parsed({"-n" + value}).name == value);
    CHECK(parsed({"--config", value}).config == value);
    CHECK(parsed({"--protector", value, "--protector", value}).protectors == Texts{value, value});
  }
}

TEST_CASE("all hostile paths together stay apart and in order", "[cmd][arguments]") {
  CHECK(parsed(kHostileNames).paths == kHostileNames);
}

TEST_CASE("names that start with a dash are paths after a double dash", "[cmd][arguments]") {
  for (const char* name : {"-x", "--all", "--name=x", "--", "-5", "---"}) {
    CAPTURE(name);
    const Sample sample = parsed({"--", name});
    CHECK(sample.paths == Texts{name});
    CHECK_FALSE(sample.all);
  }
}

TEST_CASE("an empty argument is refused, not dropped", "[cmd][arguments]") {
  CHECK(usage_error({""}) == "an argument is empty");
  CHECK(usage_error({"a", "", "b"}) == "an argument is empty");
  CHECK(usage_error({"--", ""}) == "an argument is empty");
  CHECK(usage_error({"--name", ""}) == "an argument is empty");
  CHECK(usage_error({"--name=", "x"}) == "an argument is empty");
  CHECK(usage_error({"--padding", ""}) == "an argument is empty");
}

TEST_CASE("options may stand before, between and after paths", "[cmd][arguments]") {
  const Sample sample = parsed({"--all", "a", "--protector", "p", "b", "-y", "--protector=q", "c"});
  CHECK(sample.paths == Texts{"a", "b", "c"});
  CHECK(sample.protectors == Texts{"p", "q"});
  CHECK(sample.all);
  CHECK(sample.yes);
}

TEST_CASE("short options may be joined", "[cmd][arguments]") {
  const Sample flags = parsed({"-ay", "x"});
  CHECK(flags.all);
  CHECK(flags.yes);
  CHECK(flags.paths == Texts{"x"});
  const Sample with_value = parsed({"-anNAME"});
  CHECK(with_value.all);
  CHECK(with_value.name == "NAME");
}

TEST_CASE("mistakes are named as they were typed", "[cmd][arguments]") {
  CHECK(usage_error({"--bogus"}) == "unknown option: --bogus");
  CHECK(usage_error({"--bogus=1"}) == "unknown option: --bogus");
  CHECK(usage_error({"--al"}) == "unknown option: --al");
  CHECK(usage_error({"-ax"}) == "unknown option: -x");
  CHECK(usage_error({"-5"}) == "unknown option: -5");
  CHECK(usage_error({"--name"}) == "option --name needs a value");
  CHECK(usage_error({"-n"}) == "option -n needs a value");
  CHECK(usage_error({"--all=no"}) == "option --all takes no value");
  CHECK(usage_error({"--name", "a", "-n", "b"}) == "option -n is given twice");
}

TEST_CASE("numbers are plain decimal", "[cmd][arguments]") {
  CHECK(parsed({"--padding", "010"}).padding == 10);
  CHECK(parsed({"--padding=4"}).padding == 4);
  CHECK(parsed({"--limit", "18446744073709551615"}).limit == 18446744073709551615U);
  for (const char* text : {"0x10", "-1", "+1", " 1", "1 ", "1.5", "1e3", "4k", "", "eight"}) {
    CAPTURE(text);
    CHECK(usage_error({"--padding", text}) != "no error");
  }
  CHECK(usage_error({"--padding", "4294967296"}) == "invalid number for --padding: 4294967296");
  CHECK(usage_error({"--limit", "18446744073709551616"}) ==
        "invalid number for --limit: 18446744073709551616");
}

TEST_CASE("in protected tokens an option is nothing but an option", "[cmd][arguments]") {
  CLI::App app;
  bool json = false;
  std::string name;
  app.add_flag("-j,--json", json, "a flag");
  add_text(app, "--name", "NAME", name, "a name");
  CHECK(protect_tokens(app, {"--name", "--json", "-j", "--", "--json"}) ==
        Texts{"--name==--json", "--json", "=--json"});
}

}  // namespace
}  // namespace fscryptctl
