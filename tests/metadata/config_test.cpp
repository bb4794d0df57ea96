#include "fscryptctl/metadata/config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "fscryptctl/base/error.h"
#include "support/ext4_fixture.h"
#include "support/mounts.h"
#include "support/other_process.h"
#include "support/temporary_directory.h"

using namespace fscryptctl;
using namespace fscryptctl::test;
namespace fs = std::filesystem;

namespace {

struct File {
  TemporaryDirectory directory;
  std::string path = directory.path() + "/fscryptctl.yaml";

  void put(const std::string& text) const { std::ofstream(path) << text; }
  [[nodiscard]] std::string get() const {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
};

/// Why the file is refused, or nullopt if it is not. Its path must come with the reason.
std::optional<Errc> refusal(const std::string& path) {
  try {
    (void)read_config(path);
  } catch (const Error& error) {
    CHECK(error.path() == path);
    return error.code();
  }
  return std::nullopt;
}

std::optional<Errc> refusal_of_text(const std::string& text) {
  const File file;
  file.put(text);
  return refusal(file.path);
}

Config full_config() {
  Config config;
  config.source = Source::login;
  config.kdf = KdfCosts{3, 131072, 2};
  config.encryption.contents = Mode::adiantum;
  config.encryption.filenames = Mode::adiantum;
  config.encryption.padding_bytes = 16;
  config.kdf_limit_mib = 4096;
  return config;
}

}  // namespace

TEST_CASE("without a file there is no configuration") {
  const File file;
  CHECK_FALSE(read_config(file.path));
}

TEST_CASE("a configuration is read as it was written") {
  const File file;
  const Config config = GENERATE(Config(), full_config());
  write_config(file.path, config);
  CHECK(read_config(file.path) == config);
}

TEST_CASE("the written configuration is plain to people") {
  const File file;
  write_config(file.path, full_config());
  CHECK(file.get() ==
        R"(# This machine's defaults for new protectors and directories: fscryptctl.yaml(5)
source: login
kdf:
  passes: 3
  memory_kib: 131072
  lanes: 2
encryption:
  contents: Adiantum
  filenames: Adiantum
  padding: 16
kdf_limit_mib: 4096
)");
}

TEST_CASE("every setting may be left out, quoted or commented") {
  const File file;
  SECTION("all left out") {
    file.put(GENERATE("", "\n", "# nothing yet\n", "{}\n"));
    CHECK(read_config(file.path) == Config());
  }
  SECTION("as people write") {
    file.put(R"(---
# our site
source: "raw-key"   # keys come from the management system

encryption: {padding: 4, filenames: 'AES-256-HCTR2'}
)");
    Config expected;
    expected.source = Source::raw_key;
    expected.encryption.padding_bytes = 4;
    expected.encryption.filenames = Mode::aes_256_hctr2;
    CHECK(read_config(file.path) == expected);
  }
}

TEST_CASE("a setting that is not understood is refused, not ignored") {
  const std::string text = GENERATE(
      "sources: login\n", "source: fingerprint\n", "source:\n", "source: [login]\n",
      "source: login\nsource: login\n", "login\n", "- source: login\n", "source: login\n---\n",
      "kdf: {passes: 3, memory_kib: 1024}\n", "kdf: {passes: 0, memory_kib: 1024, lanes: 1}\n",
      "kdf: {passes: 3, memory_kib: 8, lanes: 2}\n",
      "kdf: {passes: 3, memory_kib: 131072, lanes: 256}\n",
      "kdf: {passes: 03, memory_kib: 1024, lanes: 1}\n",
      "kdf: {passes: 3, memory_kib: 1024, lanes: 1, salt: 1}\n",
      "kdf: {passes: 3, memory_kib: 4294967296, lanes: 1}\n", "kdf: fast\n",
      "encryption: {contents: AES-256-CTS}\n", "encryption: {contents: AES-128-CBC}\n",
      "encryption: {contents: aes-256-xts}\n", "encryption: {padding: 5}\n",
      "encryption: {padding: \"32\"}\n", "encryption: {flags: 8}\n", "kdf_limit_mib: 0\n",
      "kdf_limit_mib: -1\n", "kdf_limit_mib: 1e3\n", "kdf_limit_mib: 18446744073709551615\n",
      "source: &a login\n", "source: !!str login\n", "%YAML 1.2\n---\nsource: login\n",
      "source: [,,,\n", "source: login\xc3\xa9\n");
  CAPTURE(text);
  CHECK(refusal_of_text(text) == Errc::corrupt_metadata);
}

TEST_CASE("a configuration that is too long is refused") {
  CHECK(refusal_of_text("# " + std::string(16 * 1024, 'x') + "\n") == Errc::corrupt_metadata);
}

TEST_CASE("messages about the configuration do not quote it") {
  const File file;
  file.put("source: hunter2\n");
  try {
    (void)read_config(file.path);
    FAIL("read an unknown source");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("hunter2") == std::string::npos);
  }
}

TEST_CASE("a configuration may be a symlink") {
  const File file;
  write_config(file.directory.path() + "/real.yaml", full_config());
  fs::create_symlink("real.yaml", file.path);
  CHECK(read_config(file.path) == full_config());
}

TEST_CASE("a configuration that others could have written is not trusted") {
  const File file;
  file.put("source: login\n");
  SECTION("writable by group or others") {
    fs::permissions(file.path, fs::perms{GENERATE(0664U, 0646U)});
    CHECK(refusal(file.path) == Errc::untrusted_metadata);
  }
  SECTION("a directory") { CHECK(refusal(file.directory.path()) == Errc::untrusted_metadata); }
  SECTION("a FIFO, without waiting for it") {
    fs::remove(file.path);
    REQUIRE(mkfifo(file.path.c_str(), 0600) == 0);
    CHECK(refusal(file.path) == Errc::untrusted_metadata);
  }
  SECTION("another user's") {
    if (!can_mount()) return;
    fs::permissions(file.path, fs::perms{0644});
    REQUIRE(chown(file.path.c_str(), 1000, 1000) == 0);
    CHECK(refusal(file.path) == Errc::untrusted_metadata);
    CHECK(run_as(1000, [&] { return !refusal(file.path); }));
    CHECK(run_as(1001, [&] { return refusal(file.path) == Errc::untrusted_metadata; }));
  }
}

TEST_CASE("everybody can read what root configured, whatever root's umask") {
  const mode_t previous = umask(0077);
  const File file;
  write_config(file.path, Config());
  umask(previous);
  struct stat status {};
  REQUIRE(stat(file.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777U) == 0644);
}

TEST_CASE("a configuration is replaced whole or not at all") {
  if (!can_mount()) return;
  const File file;
  ScopedMount disk = ScopedMount::tmpfs(file.directory.path(), "mode=0755");
  write_config(file.path, full_config());
  write_config(file.path, Config());
  CHECK(read_config(file.path) == Config());
  CHECK(run_as(1000, [&] {
    try {
      write_config(file.path, full_config());
    } catch (const Error& error) {
      return error.code() == Errc::permission && error.path() == file.path;
    }
    return false;
  }));
  disk.make_read_only();
  CHECK_THROWS_AS(write_config(file.path, full_config()), Error);
  CHECK(read_config(file.path) == Config());
}

TEST_CASE("a configuration that cannot be read back is not written") {
  const File file;
  Config config;
  config.encryption.direct_key = true;  // belongs to a directory, not to the configuration
  CHECK_THROWS_AS(write_config(file.path, config), Error);
  CHECK_FALSE(fs::exists(file.path));
}
