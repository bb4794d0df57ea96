#include "recovery_key_output.h"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "captured_output.h"
#include "command_child.h"
#include "secret_file.h"
#include "support/temporary_directory.h"

namespace fscryptctl {
namespace {

const std::string kUnused = "# fscryptctl recovery key, NOT IN USE YET";

RecoveryKeyKeeper::Label label() {
  RecoveryKeyKeeper::Label made{"/home/alice/private", {}, "/home"};
  made.protector.name = "private";
  return made;
}

std::string contents_of(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string hex_of(const std::optional<RecoveryKey>& key) {
  return key ? to_hex(key->view()) : "none";
}

/// The key that a file holds.
std::string key_in(const std::string& file) {
  const std::string text = contents_of(file);
  return hex_of(read_recovery_key(without_comments(SecretBytes(as_bytes(text))).view()).key);
}

template <class Work>
std::string outcome(const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    return std::string(errc_info(error.code()).reason) + ": " + error.what();
  }
}

/// One command that makes a recovery key.
struct Run {
  explicit Run(const RecoveryKeyOptions& options,
               RecoveryKeyOutput::Wish wish = RecoveryKeyOutput::Wish::required,
               bool json = false) {
    captured.output.set({.json = json});
    invocation.globals.no_prompt = true;
    keeper.emplace(options, wish, invocation);
  }
  std::string keep() {
    return outcome([this] { return hex_of(keeper->keep(label())); });
  }

  test::CapturedOutput captured;
  Invocation invocation{"test", {}, captured.output};
  std::optional<RecoveryKeyOutput> keeper;
};

RecoveryKeyOptions to(const std::string& file) {
  RecoveryKeyOptions options;
  options.output = file;
  return options;
}

std::string keep_in(const std::string& file) {
  return outcome([&file] { return Run(to(file)).keep(); });
}

struct Place {
  test::TemporaryDirectory directory;
  std::string file = directory.path() + "/key";
};

TEST_CASE("a file with a recovery key is private and says what it is", "[cmd][recovery]") {
  const Place place;
  Run run(to(place.file));
  const std::string key = run.keep();
  CHECK(key_in(place.file) == key);
  struct stat info {};
  REQUIRE(stat(place.file.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  CHECK(contents_of(place.file).starts_with(kUnused));
  CHECK(contents_of(place.file).find("\"private\"") != std::string::npos);

  run.keeper->set_in_use(true);
  run.keeper->finish();
  CHECK(contents_of(place.file).find("NOT IN USE") == std::string::npos);
  CHECK(key_in(place.file) == key);
  run.keeper.reset();
  CHECK(key_in(place.file) == key);
}

TEST_CASE("the file of a key that opens nothing goes", "[cmd][recovery]") {
  const Place place;
  {
    Run run(to(place.file));
    CHECK(run.keep().size() == 64);
  }
  CHECK_FALSE(std::filesystem::exists(place.file));
  {
    Run run(to(place.file));
    CHECK(run.keep().size() == 64);
    run.keeper->set_in_use(true);
    run.keeper->set_in_use(false);
  }
  CHECK_FALSE(std::filesystem::exists(place.file));
}

TEST_CASE("a file that took the place of ours stays", "[cmd][recovery]") {
  const Place place;
  {
    Run run(to(place.file));
    CHECK(run.keep().size() == 64);
    std::filesystem::remove(place.file);
    std::ofstream(place.file) << "somebody else's";
  }
  CHECK(contents_of(place.file) == "somebody else's");
}

TEST_CASE("nothing that exists is overwritten", "[cmd][recovery]") {
  const Place place;
  const std::string exists = "usage: " + place.file + " exists already, and is not overwritten";
  SECTION("a file") {
    std::ofstream(place.file) << "precious";
    CHECK(keep_in(place.file) == exists);
    CHECK(contents_of(place.file) == "precious");
  }
  SECTION("a symbolic link") {
    std::filesystem::create_symlink(place.directory.path() + "/elsewhere", place.file);
    CHECK(keep_in(place.file) == exists);
    CHECK_FALSE(std::filesystem::exists(place.directory.path() + "/elsewhere"));
  }
  SECTION("a directory") {
    std::filesystem::create_directory(place.file);
    CHECK(keep_in(place.file) == exists);
  }
  SECTION("a FIFO, which would be waited for") {
    REQUIRE(mkfifo(place.file.c_str(), 0600) == 0);
    CHECK(keep_in(place.file) == exists);
  }
  SECTION("a finished recovery key") {
    {
      Run run(to(place.file));
      CHECK(run.keep().size() == 64);
      run.keeper->set_in_use(true);
      run.keeper->finish();
    }
    CHECK(keep_in(place.file) == exists);
  }
}

TEST_CASE("what an interrupted run left is taken up, and never removed", "[cmd][recovery]") {
  const Place place;
  std::string key;
  {
    Run run(to(place.file));
    key = run.keep();
    run.keeper->set_in_use(true);
  }
  {
    Run run(to(place.file));
    CHECK(outcome([&run] { return hex_of(run.keeper->left_over()); }) == key);
    CHECK(run.keep() == key);
  }
  CHECK(key_in(place.file) == key);
  CHECK(contents_of(place.file).find("also of") == std::string::npos);
  SECTION("for another protector it gets another label") {
    Run run(to(place.file));
    RecoveryKeyKeeper::Label other = label();
    other.protector.id.bytes[0] = 0xab;
    CHECK(outcome([&] { return hex_of(run.keeper->keep(other)); }) == key);
    CHECK(contents_of(place.file).find("# also of protector \"private\" (ab00") !=
          std::string::npos);
    CHECK(key_in(place.file) == key);
  }
  SECTION("unless somebody else could have written it") {
    std::filesystem::permissions(place.file, std::filesystem::perms{0640});
    CHECK(keep_in(place.file).starts_with("usage: "));
  }
  SECTION("unless it has another name, too") {
    std::filesystem::create_hard_link(place.file, place.file + "2");
    CHECK(keep_in(place.file).starts_with("usage: "));
  }
  SECTION("unless it was cut off") {
    std::filesystem::resize_file(place.file, contents_of(place.file).size() - 5);
    CHECK(keep_in(place.file).starts_with("usage: "));
  }
}

TEST_CASE("the empty file of a run that was killed at once is made anew", "[cmd][recovery]") {
  const Place place;
  std::ofstream(place.file).flush();
  CHECK(keep_in(place.file).starts_with("usage: "));  // not private: anybody's
  std::filesystem::permissions(place.file, std::filesystem::perms{0600});
  Run run(to(place.file));
  const std::string key = run.keep();
  CHECK(key_in(place.file) == key);
}

TEST_CASE("a place that cannot be written is an error", "[cmd][recovery]") {
  CHECK(keep_in("/nonexistent/key") == "path: writing /nonexistent/key: No such file or directory");
  CHECK(keep_in("/tmp/") == "usage: /tmp/ is not the name of a file");
  CHECK(keep_in("/dev/null/key").starts_with("not_a_directory: "));
}

TEST_CASE("the mask for new files does not matter", "[cmd][recovery]") {
  const Place place;
  const mode_t before = umask(0777);
  Run run(to(place.file));
  const std::string key = run.keep();
  umask(before);
  struct stat info {};
  REQUIRE(stat(place.file.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
}

TEST_CASE("a QR code in a file does not hide the key", "[cmd][recovery]") {
  const Place place;
  RecoveryKeyOptions options = to(place.file);
  options.qr_code = true;
  Run run(options);
  const std::string key = run.keep();
  CHECK(key_in(place.file) == key);
}

TEST_CASE("a recovery key on standard output is a line, or the last field of the object",
          "[cmd][recovery]") {
  Run text(to("-"));
  const std::string key = text.keep();
  CHECK(text.captured.out().size() == kRecoveryKeyTextSize + 1);
  CHECK(hex_of(read_recovery_key(as_bytes(text.captured.out())).key) == key);

  Run json(to("-"), RecoveryKeyOutput::Wish::required, true);
  const std::string other = json.keep();
  json.keeper->set_in_use(true);
  json.keeper.reset();
  json.captured.output.json()["x"] = 1;
  json.captured.output.finish(0);
  const std::string shown = json.captured.json()["recovery_key"].get<std::string>();
  CHECK(hex_of(read_recovery_key(as_bytes(shown)).key) == other);
  CHECK(json.captured.json()["x"] == 1);
}

TEST_CASE("a key that opens nothing is not in the object", "[cmd][recovery]") {
  Run run(to("-"), RecoveryKeyOutput::Wish::required, true);
  CHECK(run.keep().size() == 64);
  run.keeper.reset();
  run.captured.output.finish(1);
  CHECK_FALSE(run.captured.json().contains("recovery_key"));
}

TEST_CASE("without a terminal a recovery key needs a place, and is not offered",
          "[cmd][recovery]") {
  CHECK(outcome([] { return Run({}).keep(); }) ==
        "missing_input: no terminal to show the recovery key on: say with --output where it goes");
  CHECK(Run({}, RecoveryKeyOutput::Wish::offered).keep() == "none");
  RecoveryKeyOptions both = to("-");
  both.none = true;
  CHECK(outcome([&both] { return Run(both).keep(); }) ==
        "usage: --recovery-key-output and --no-recovery-key contradict each other");
}

}  // namespace
}  // namespace fscryptctl
