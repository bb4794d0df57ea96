#include "secret_input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <fstream>

#include "command_child.h"
#include "support/temporary_directory.h"

namespace fscryptctl {
namespace {

using test::shown;
using test::without_terminal;

const std::string kKey = "0123456789abcdef0123456789ABCDEF";
const std::string kKeyHex = to_hex(as_bytes(kKey));

/// Files with secrets for one test.
class Files {
 public:
  std::string make(const std::string& name, const std::string& contents) {
    const std::string path = directory_.path() + "/" + name;
    std::ofstream(path, std::ios::binary) << contents;
    return path;
  }
  [[nodiscard]] std::string path(const std::string& name) const {
    return directory_.path() + "/" + name;
  }

 private:
  test::TemporaryDirectory directory_;
};

/// A run of a command with these options.
struct Run {
  explicit Run(const SecretOptions& options, Spelling spelling = Spelling::existing_and_new)
      : secrets(options, spelling, invocation) {}

  std::optional<Secret> existing(std::vector<Method> ways, const std::string& target = "/p") {
    return secrets.existing({target, std::move(ways), 0});
  }

  Output output;
  Invocation invocation{"test", {}, output};
  CommandLineSecrets secrets;
};

SecretOptions with_passphrase(const std::string& file) {
  SecretOptions options;
  options.passphrase_file = file;
  return options;
}

SecretOptions with_key(const std::string& file, KeyFormat format = KeyFormat::raw) {
  SecretOptions options;
  options.key_file = file;
  options.key_format = format;
  return options;
}

std::string existing_passphrase(const std::string& file) {
  Run run(with_passphrase(file));
  return shown(run.existing({Method::passphrase}));
}

std::string existing_key(const std::string& file, KeyFormat format = KeyFormat::raw) {
  Run run(with_key(file, format));
  return shown(run.existing({Method::raw_key}));
}

template <class Work>
std::string outcome(const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    return std::string(errc_info(error.code()).reason) + ": " + error.what();
  }
}

std::string rest_of_standard_input() {
  std::array<char, 256> buffer{};
  const ssize_t count = read(STDIN_FILENO, buffer.data(), buffer.size());
  return {buffer.data(), static_cast<std::size_t>(count)};
}

TEST_CASE("the first line of a passphrase file counts, without its newline", "[cmd][secrets]") {
  Files files;
  CHECK(existing_passphrase(files.make("a", "correct horse\n")) == "passphrase correct horse");
  CHECK(existing_passphrase(files.make("b", "no newline")) == "passphrase no newline");
  CHECK(existing_passphrase(files.make("c", "one\ntwo\n")) == "passphrase one");
  CHECK(existing_passphrase(files.make("d", " spaces \r\n")) == "passphrase  spaces \r");
  CHECK(existing_passphrase(files.make("e", "\xff\xfe\n")) == "passphrase \xff\xfe");
}

TEST_CASE("a passphrase has 1 to 4096 bytes and no NUL", "[cmd][secrets]") {
  Files files;
  const auto refused = [&files](const std::string& contents) {
    return outcome([&] { return existing_passphrase(files.make("f", contents)); });
  };
  const std::string longest(4096, 'x');
  CHECK(refused(longest + "\n") == "passphrase " + longest);
  CHECK(refused(longest) == "passphrase " + longest);
  CHECK(refused(longest + "y") == "usage: a passphrase has at most 4096 bytes: " + files.path("f"));
  CHECK(refused("\nsecond line\n") == "usage: the passphrase is empty: " + files.path("f"));
  CHECK(refused("") == "missing_input: end of input: " + files.path("f"));
  CHECK(refused(std::string("a\0b", 3)) ==
        "usage: a passphrase must not hold a NUL byte: " + files.path("f"));
  CHECK(outcome([] { return existing_passphrase("/dev/zero"); }) ==
        "usage: a passphrase must not hold a NUL byte: /dev/zero");
}

TEST_CASE("a secret file that is not there is named", "[cmd][secrets]") {
  Run run(with_passphrase("/nonexistent/secret"));
  try {
    (void)run.existing({Method::passphrase});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::no_such_path);
    CHECK(error.path() == "/nonexistent/secret");
  }
}

TEST_CASE("a given secret is tried once", "[cmd][secrets]") {
  Files files;
  Run run(with_passphrase(files.make("f", "secret\n")));
  CHECK(shown(run.existing({Method::passphrase})) == "passphrase secret");
  CHECK(shown(run.existing({Method::passphrase})) == "none");
  CHECK(shown(run.existing({Method::login}, "/other")) == "none");
}

TEST_CASE("a recovery key file holds a key and explanations", "[cmd][secrets][recovery]") {
  Files files;
  const auto given = [&files](const std::string& contents) {
    SecretOptions options;
    options.recovery_key_file = files.make("r", contents);
    Run run(options);
    const std::optional<Secret> secret = run.existing({Method::passphrase, Method::recovery_key});
    REQUIRE(secret);
    CHECK(secret->recovery_key);
    return std::string(secret->bytes.view().begin(), secret->bytes.view().end());
  };
  CHECK(given("ABC-DEF\n") == "ABC-DEF\n");
  CHECK(given("# made by\n#\n\nABC\nDEF\n# end") == "\nABC\nDEF\n");
}

TEST_CASE("a recovery key is handed out first, and whatever opens", "[cmd][secrets][recovery]") {
  Files files;
  SecretOptions options = with_passphrase(files.make("p", "secret\n"));
  options.recovery_key_file = files.make("r", "KEY\n");
  Run run(options);
  CHECK(run.existing({Method::passphrase})->recovery_key);
  CHECK(shown(run.existing({Method::passphrase})) == "passphrase secret");
  CHECK(shown(run.existing({Method::passphrase})) == "none");

  SecretOptions alone;
  alone.recovery_key_file = files.path("r");
  Run raw(alone);
  CHECK(raw.existing({Method::raw_key})->recovery_key);
  CHECK(shown(raw.existing({Method::raw_key})) == "none");
}

TEST_CASE("of standard input a recovery key takes its line, behind the other existing secrets",
          "[cmd][secrets][recovery]") {
  const std::string input = "secret\n# explanation\n\nKEY\nnew one\nrest\n";
  CHECK(without_terminal(input, [] {
          SecretOptions options;
          options.passphrase_file = "-";
          options.recovery_key_file = "-";
          options.new_passphrase_file = "-";
          Run run(options);
          const Secret fresh = run.secrets.fresh(Source::passphrase, "/p");
          const std::string first = shown(run.existing({Method::passphrase}));
          const std::string second = shown(run.existing({Method::passphrase}));
          return first + ";" + second + ";" +
                 shown(Secret{fresh.kind, SecretBytes(fresh.bytes.view())}) + ";" +
                 rest_of_standard_input();
        }) == "passphrase KEY;passphrase secret;passphrase new one;rest\n");
}

TEST_CASE("a line of standard input opens what has a raw key and a recovery key",
          "[cmd][secrets][recovery]") {
  CHECK(without_terminal("KEY\n", [] {
          Run run({});
          return shown(run.existing({Method::raw_key, Method::recovery_key}));
        }) == "passphrase KEY");
}

TEST_CASE("a recovery key is never a new secret", "[cmd][secrets][recovery]") {
  Files files;
  SecretOptions options = with_passphrase(files.make("p", "secret\n"));
  options.recovery_key_file = files.make("r", "KEY\n");
  Run run(options, Spelling::all_new);
  CHECK(shown(run.secrets.fresh(Source::passphrase, "/p")) == "passphrase secret");
}

TEST_CASE("a passphrase opens login protectors too", "[cmd][secrets]") {
  Files files;
  Run run(with_passphrase(files.make("f", "secret\n")));
  CHECK(shown(run.existing({Method::login})) == "passphrase secret");
}

TEST_CASE("secrets come through pipes and FIFOs", "[cmd][secrets]") {
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  REQUIRE(write(write_end.get(), "secret\nmore\n", 12) == 12);
  CHECK(existing_passphrase("/dev/fd/" + std::to_string(read_end.get())) == "passphrase secret");
  REQUIRE(write(write_end.get(), kKey.data(), kKey.size()) == 32);
  write_end.reset();
  std::array<char, 5> more{};
  REQUIRE(read(read_end.get(), more.data(), more.size()) == 5);  // it was left there
  CHECK(existing_key("/dev/fd/" + std::to_string(read_end.get())) == "raw-key " + kKeyHex);
}

TEST_CASE("a key file holds exactly 32 bytes", "[cmd][secrets]") {
  Files files;
  CHECK(existing_key(files.make("k", kKey)) == "raw-key " + kKeyHex);
  const auto refused = [&files](const std::string& contents) {
    return outcome([&] { return existing_key(files.make("k", contents)); });
  };
  const std::string name = "usage: key file " + files.path("k");
  CHECK(refused(kKey + "\n") == name + " has 33 bytes, expected 32");
  CHECK(refused(kKey.substr(1)) == name + " has 31 bytes, expected 32");
  CHECK(refused("") == name + " has 0 bytes, expected 32");
  CHECK(refused(std::string(1 << 20, 'x')) == name + " has 1048576 bytes, expected 32");
  CHECK(outcome([] { return existing_key("/dev/zero"); }) ==
        "usage: key file /dev/zero has 4096 bytes, expected 32");
}

TEST_CASE("a key file of the wrong size brings advice", "[cmd][secrets]") {
  Files files;
  Run run(with_key(files.make("k", kKey + "\n")));
  CHECK_THROWS_AS(run.existing({Method::raw_key}), Error);
  CHECK(run.output.hints.malformed_key_file);
}

TEST_CASE("a key may be written in hex or base64", "[cmd][secrets]") {
  Files files;
  const std::string hex = files.make("hex", kKeyHex + "\n");
  const std::string base64 = files.make("base64", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY=\n");
  CHECK(existing_key(hex, KeyFormat::hex) == "raw-key " + kKeyHex);
  CHECK(existing_key(base64, KeyFormat::base64) == "raw-key " + kKeyHex);
  CHECK(outcome([&] { return existing_key(base64, KeyFormat::hex); }) ==
        "usage: key file " + base64 + " does not hold 32 bytes as hex");
  CHECK(outcome([&] { return existing_key(hex, KeyFormat::raw); }) ==
        "usage: key file " + hex + " has 65 bytes, expected 32");
}

TEST_CASE("the options are understood", "[cmd][secrets]") {
  CLI::App app;
  SecretOptions options;
  add_existing_secret_options(app, options);
  add_new_secret_options(app, options);
  app.parse(
      "--passphrase-file a --key-file b --new-passphrase-file c --new-key-file d "
      "--key-format base64");
  CHECK(options.passphrase_file == "a");
  CHECK(options.key_file == "b");
  CHECK(options.new_passphrase_file == "c");
  CHECK(options.new_key_file == "d");
  CHECK(options.key_format == KeyFormat::base64);
  CHECK_THROWS_WITH(app.parse("--key-format pem"), "invalid key format: pem");
}

TEST_CASE("standard input holds one line for each dash, existing before new", "[cmd][secrets]") {
  const auto work = [](bool new_first) {
    return [new_first]() -> std::string {
      SecretOptions options = with_passphrase("-");
      options.new_passphrase_file = "-";
      Run run(options);
      std::string fresh;
      if (new_first) fresh = shown(run.secrets.fresh(Source::passphrase, "/p"));
      const std::string existing = shown(run.existing({Method::passphrase}));
      if (!new_first) fresh = shown(run.secrets.fresh(Source::passphrase, "/p"));
      return existing + ", " + fresh + ", rest " + rest_of_standard_input();
    };
  };
  CHECK(without_terminal("old\nnew\nrest", work(false)) ==
        "passphrase old, passphrase new, rest rest");
  CHECK(without_terminal("old\nnew\nrest", work(true)) ==
        "passphrase old, passphrase new, rest rest");
  CHECK(without_terminal("old\n", work(false)) ==
        "error missing_input: end of input: standard input");
  CHECK(without_terminal("old\n\n", work(false)) ==
        "error usage: the passphrase is empty: standard input");
}

TEST_CASE("a raw key on standard input is its first 32 bytes", "[cmd][secrets]") {
  const auto then_passphrase = [] {
    SecretOptions options = with_key("-");
    options.new_passphrase_file = "-";
    Run run(options);
    const std::string key = shown(run.existing({Method::raw_key}));
    return key + ", " + shown(run.secrets.fresh(Source::passphrase, "/p"));
  };
  CHECK(without_terminal(kKey + "new\n", then_passphrase) ==
        "raw-key " + kKeyHex + ", passphrase new");
  CHECK(without_terminal(kKey.substr(2), [] { return existing_key("-"); }) ==
        "error usage: key file standard input has 30 bytes, expected 32");
  CHECK(without_terminal(kKeyHex + "\nrest", [] {
          const std::string key = existing_key("-", KeyFormat::hex);
          return key + ", rest " + rest_of_standard_input();
        }) == "raw-key " + kKeyHex + ", rest rest");
}

TEST_CASE("a file as standard input that holds more than the key is refused", "[cmd][secrets]") {
  Files files;
  const auto key_from = [](const std::string& file) {
    return without_terminal("", [&file] {
      dup2(open(file.c_str(), O_RDONLY | O_CLOEXEC), STDIN_FILENO);
      return existing_key("-");
    });
  };
  CHECK(key_from(files.make("right", kKey)) == "raw-key " + kKeyHex);
  CHECK(key_from(files.make("newline", kKey + "\n")) ==
        "error usage: key file standard input has 33 bytes, expected 32");
}

TEST_CASE("without an option standard input opens, one line for all paths", "[cmd][secrets]") {
  const auto work = []() -> std::string {
    Run run({});
    const std::string first = shown(run.existing({Method::passphrase}));
    const std::string second = shown(run.existing({Method::passphrase}));
    const std::string other = shown(run.existing({Method::passphrase}, "/other"));
    return first + ", " + second + ", " + other + ", rest " + rest_of_standard_input();
  };
  CHECK(without_terminal("secret\nrest\n", work) == "passphrase secret, none, none, rest rest\n");
  CHECK(without_terminal("", work) == "error missing_input: end of input: standard input");
  CHECK(without_terminal("\n", work) == "error usage: the passphrase is empty: standard input");
}

TEST_CASE("a new secret is never taken from a standard input that nobody spoke of",
          "[cmd][secrets]") {
  const auto work = [](Source kind, Spelling spelling) {
    return [kind, spelling] {
      Run run({}, spelling);
      return shown(run.secrets.fresh(kind, "/p"));
    };
  };
  CHECK(without_terminal("new\nnew\n", work(Source::passphrase, Spelling::existing_and_new)) ==
        "error missing_input: no new passphrase: give --new-passphrase-file");
  CHECK(without_terminal("new\nnew\n", work(Source::passphrase, Spelling::all_new)) ==
        "error missing_input: no new passphrase: give --passphrase-file");
  CHECK(without_terminal(kKey, work(Source::raw_key, Spelling::existing_and_new)) ==
        "error missing_input: no new raw key: give --new-key-file");
  CHECK(without_terminal(kKey, work(Source::raw_key, Spelling::all_new)) ==
        "error missing_input: no new raw key: give --key-file");
}

TEST_CASE("where only a raw key opens, standard input is left alone", "[cmd][secrets]") {
  CHECK(without_terminal("secret\n", [] {
          Run run({});
          const std::string key = outcome([&] { return shown(run.existing({Method::raw_key})); });
          return key + ", rest " + rest_of_standard_input();
        }) == "missing_input: /p opens with a raw key: give --key-file, rest secret\n");
}

TEST_CASE("a secret of the wrong kind is not tried", "[cmd][secrets]") {
  Files files;
  Run key(with_key(files.make("k", kKey)));
  CHECK(outcome([&] { return shown(key.existing({Method::passphrase})); }) ==
        "missing_input: /p opens with a passphrase: give --passphrase-file");
  Run passphrase(with_passphrase(files.make("p", "secret\n")));
  CHECK(outcome([&] { return shown(passphrase.existing({Method::raw_key})); }) ==
        "missing_input: /p opens with a raw key: give --key-file");
}

TEST_CASE("a passphrase and a key are tried in turn where both could open", "[cmd][secrets]") {
  Files files;
  SecretOptions options = with_key(files.make("k", kKey));
  options.passphrase_file = files.make("p", "secret\n");
  Run run(options);
  CHECK(shown(run.existing({Method::raw_key, Method::passphrase})) == "passphrase secret");
  CHECK(shown(run.existing({Method::raw_key, Method::passphrase})) == "raw-key " + kKeyHex);
  CHECK(shown(run.existing({Method::raw_key, Method::passphrase})) == "none");
}

TEST_CASE("--new-... make what is new, the others open", "[cmd][secrets]") {
  Files files;
  SecretOptions options = with_passphrase(files.make("old", "old\n"));
  options.new_key_file = files.make("new", kKey);
  Run run(options);
  CHECK(shown(run.secrets.fresh(Source::raw_key, "/p")) == "raw-key " + kKeyHex);
  CHECK(shown(run.existing({Method::passphrase})) == "passphrase old");
  CHECK(outcome([&] { return shown(run.secrets.fresh(Source::passphrase, "/p")); }) ==
        "usage: --new-key-file does not fit: a new passphrase is needed");
}

TEST_CASE("where nothing exists yet both spellings make what is new", "[cmd][secrets]") {
  Files files;
  const std::string file = files.make("f", "secret\n");
  Run plain(with_passphrase(file), Spelling::all_new);
  CHECK(shown(plain.secrets.fresh(Source::passphrase, "/p")) == "passphrase secret");
  SecretOptions options;
  options.new_passphrase_file = file;
  Run with_new(options, Spelling::all_new);
  CHECK(shown(with_new.secrets.fresh(Source::passphrase, "/p")) == "passphrase secret");
  Run key(with_key(files.make("k", kKey)), Spelling::all_new);
  CHECK(outcome([&] { return shown(key.secrets.fresh(Source::passphrase, "/p")); }) ==
        "usage: --key-file does not fit: a new passphrase is needed");
}

TEST_CASE("a new secret from a pipe also opens what is found to exist already", "[cmd][secrets]") {
  CHECK(without_terminal("secret\nrest", [] {
          Run run(with_passphrase("-"), Spelling::all_new);
          const std::string existing = shown(run.existing({Method::passphrase}));
          const std::string again = shown(run.existing({Method::passphrase}));
          return existing + ", " + again + ", " +
                 shown(run.secrets.fresh(Source::passphrase, "/p"));
        }) == "passphrase secret, none, passphrase secret");
}

TEST_CASE("the kind of a new secret is the one asked for", "[cmd][secrets]") {
  Files files;
  Run run(with_passphrase(files.make("f", "secret\n")), Spelling::all_new);
  CHECK(run.secrets.fresh(Source::login, "/p").kind == Source::login);
}

TEST_CASE("options that contradict each other are refused before anything is read",
          "[cmd][secrets]") {
  const auto refused = [](const SecretOptions& options, Spelling spelling) {
    return outcome([&]() -> std::string {
      const Run run(options, spelling);
      return "accepted";
    });
  };
  SecretOptions same = with_passphrase("f");
  same.key_file = "f";
  CHECK(refused(same, Spelling::existing_and_new) ==
        "usage: --passphrase-file and --key-file name the same file");
  same.key_file = "-";
  same.passphrase_file = "-";
  CHECK(refused(same, Spelling::existing_and_new) == "accepted");

  SecretOptions twice = with_passphrase("f");
  twice.new_passphrase_file = "g";
  CHECK(refused(twice, Spelling::existing_and_new) == "accepted");
  CHECK(refused(twice, Spelling::all_new) ==
        "usage: --passphrase-file and --new-passphrase-file both give the new secret");

  SecretOptions both;
  both.new_passphrase_file = "f";
  both.new_key_file = "g";
  CHECK(refused(both, Spelling::existing_and_new) ==
        "usage: --new-passphrase-file and --new-key-file both give the new secret");
}

}  // namespace
}  // namespace fscryptctl
