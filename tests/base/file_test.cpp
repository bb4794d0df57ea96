#include "fscryptctl/base/file.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/mount_table.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "support/ext4_fixture.h"
#include "support/mounts.h"
#include "support/other_process.h"
#include "support/temporary_directory.h"

using namespace fscryptctl;
using namespace fscryptctl::test;
namespace fs = std::filesystem;

namespace {

constexpr uid_t kAlice = 1000;
constexpr uid_t kBob = 1001;
constexpr std::size_t kMaxSize = 100;

/// A scratch directory, with a descriptor.
struct Scratch {
  TemporaryDirectory directory;
  UniqueFd fd{open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};

  [[nodiscard]] std::string at(const std::string& name) const {
    return directory.path() + '/' + name;
  }
  void put(const std::string& name, const std::string& contents) const {
    std::ofstream(at(name)) << contents;
    fs::permissions(at(name), fs::perms{0600});
  }
  [[nodiscard]] std::string get(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(at(name)).rdbuf();
    return text.str();
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names = directory_names(fd.get(), 1000).names;
    std::sort(names.begin(), names.end());
    return names;
  }
};

/// Why `action` failed, or nullopt if it did not.
std::optional<Errc> failure(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

std::optional<Errc> read_failure(const Scratch& scratch, const std::string& name,
                                 uid_t owner = geteuid()) {
  return failure([&] { (void)read_untrusted_file(scratch.fd.get(), name, owner, kMaxSize); });
}

std::optional<Errc> open_failure(const Scratch& scratch, const std::string& name) {
  return failure([&] { (void)open_directory_beneath(scratch.fd.get(), name); });
}

struct Umask {
  explicit Umask(mode_t mask) : previous(umask(mask)) {}
  ~Umask() { umask(previous); }
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;
  mode_t previous;
};

mode_t mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777U;
}

/// In a child without openat2, as an old kernel or an old container has it.
bool holds_without_openat2(int answer, const std::function<bool()>& body) {
  return run_as(0, [&] { return refuse_system_call(SYS_openat2, answer) && body(); });
}

}  // namespace

TEST_CASE("a descriptor is closed when its owner goes") {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const UniqueFd reading(ends[0]);
  {
    UniqueFd first(ends[1]);
    const UniqueFd second = std::move(first);
    CHECK(second.get() == ends[1]);
  }
  char byte = 0;
  CHECK(read(reading.get(), &byte, 1) == 0);  // end of file: nobody can write any more
}

TEST_CASE("a file's owner, size, links and mount are told") {
  const Scratch scratch;
  scratch.put("file", "twelve bytes");
  fs::create_hard_link(scratch.at("file"), scratch.at("link"));
  const NamedFile file = open_named(scratch.at("file"));
  CHECK(S_ISREG(file.info.mode));
  CHECK(file.info.uid == geteuid());
  CHECK(file.info.size == 12);
  CHECK(file.info.links == 2);
  CHECK_FALSE(file.info.encrypted);
  CHECK(file.info.mount_id == mount_id_of(scratch.fd.get()));
}

TEST_CASE("what a user names is opened for reading if it is a file or a directory") {
  const Scratch scratch;
  scratch.put("file", "text");
  fs::create_directory(scratch.at("directory"));
  fs::create_symlink("file", scratch.at("link"));
  fs::create_symlink("directory", scratch.at("directory-link"));
  for (const char* name : {"file", "link"}) {
    const NamedFile file = open_named(scratch.at(name));
    CHECK(S_ISREG(file.info.mode));
    CHECK_FALSE(file.path_only);
    std::array<char, 4> text{};
    CHECK(read(file.fd.get(), text.data(), text.size()) == 4);
  }
  for (const char* name : {"directory", "directory-link"}) {
    const NamedFile directory = open_named(scratch.at(name));
    CHECK(S_ISDIR(directory.info.mode));
    CHECK_FALSE(directory.path_only);
    CHECK(directory_names(directory.fd.get(), 1).names.empty());
  }
}

TEST_CASE("a FIFO, socket or device that a user names is never opened") {
  const Scratch scratch;
  REQUIRE(mkfifo(scratch.at("fifo").c_str(), 0600) == 0);
  const UniqueFd reader(open(scratch.at("fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  scratch.at("socket").copy(&address.sun_path[0], sizeof address.sun_path - 1);
  REQUIRE(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  for (const std::string& path :
       {scratch.at("fifo"), scratch.at("socket"), std::string("/dev/null")}) {
    const NamedFile file = open_named(path);
    CHECK(file.path_only);
    CHECK((fcntl(file.fd.get(), F_GETFL) & O_PATH) != 0);
  }
}

TEST_CASE("a path that leads nowhere is told as such") {
  const Scratch scratch;
  scratch.put("file", "text");
  fs::create_symlink("nowhere", scratch.at("dangling"));
  for (const char* name : {"missing", "missing/below", "file/below", "dangling"}) {
    try {
      (void)open_named(scratch.at(name));
      FAIL("opened " << name);
    } catch (const Error& error) {
      CHECK(error.code() == Errc::no_such_path);
      CHECK(error.path() == scratch.at(name));
    }
  }
}

TEST_CASE("a file of a locked directory is returned unopened") {
  if (!can_mount()) return;
  const Ext4 ext4;
  const std::string directory = ext4.path() + "/directory";
  REQUIRE(mkdir(directory.c_str(), 0700) == 0);
  LinuxKernel kernel;
  SecretBytes key(64);
  std::fill(key.writable().begin(), key.writable().end(), std::uint8_t{7});
  const KeyIdentifier id = kernel.add_key(ext4.fd(), key);
  kernel.set_policy(open_named(directory).fd.get(), {id, EncryptionOptions{}});
  std::ofstream(directory + "/file") << "text";
  CHECK(open_named(directory).info.encrypted);
  REQUIRE(kernel.remove_key(ext4.fd(), id, RemoveScope::own_claim) == RemoveOutcome::removed);
  const UniqueFd locked(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::vector<std::string> names = directory_names(locked.get(), 10).names;
  REQUIRE(names.size() == 1);
  const NamedFile file = open_named(directory + '/' + names[0]);
  CHECK(file.path_only);
  CHECK(S_ISREG(file.info.mode));
  CHECK(file.info.encrypted);
}

TEST_CASE("a directory is opened only as what it is") {
  const Scratch scratch;
  fs::create_directory(scratch.at("directory"));
  fs::create_directory_symlink("directory", scratch.at("link"));
  scratch.put("file", "text");
  REQUIRE(mkfifo(scratch.at("fifo").c_str(), 0600) == 0);
  const auto directory = open_directory_beneath(scratch.fd.get(), "directory");
  REQUIRE(directory);
  CHECK(directory_names(directory->get(), 1).names.empty());
  CHECK_FALSE(open_directory_beneath(scratch.fd.get(), "missing"));
  CHECK(open_failure(scratch, "link") == Errc::untrusted_metadata);
  CHECK(open_failure(scratch, "file") == Errc::untrusted_metadata);
  CHECK(open_failure(scratch, "fifo") == Errc::untrusted_metadata);
  CHECK(open_failure(scratch, "..") == Errc::internal);
  CHECK(open_failure(scratch, "directory/below") == Errc::internal);
  CHECK(open_failure(scratch, "") == Errc::internal);
}

TEST_CASE("a mount is refused, whatever is on it") {
  if (!can_mount()) return;
  const Scratch scratch;
  fs::create_directory(scratch.at("directory"));
  scratch.put("file", "text");
  const ScopedMount on_directory = ScopedMount::bind(scratch.at("directory"));
  const ScopedMount on_file = ScopedMount::bind(scratch.at("file"));
  CHECK(open_failure(scratch, "directory") == Errc::untrusted_metadata);
  CHECK(read_failure(scratch, "file") == Errc::untrusted_metadata);
  CHECK(failure([&] { (void)entry_info(scratch.fd.get(), "file"); }) == Errc::untrusted_metadata);
}

TEST_CASE("a user's hanging FUSE mount is refused without waiting for it") {
  if (!can_mount()) return;
  const Scratch scratch;
  fs::create_directory(scratch.at("directory"));
  scratch.put("file", "text");
  const ScopedMount on_directory = ScopedMount::hanging(scratch.at("directory"), kAlice);
  const ScopedMount on_file = ScopedMount::hanging(scratch.at("file"), kAlice);
  const auto refuses = [&] {
    return open_failure(scratch, "directory") == Errc::untrusted_metadata &&
           read_failure(scratch, "file") == Errc::untrusted_metadata &&
           failure([&] { (void)entry_info(scratch.fd.get(), "directory"); }) ==
               Errc::untrusted_metadata;
  };
  CHECK(run_as(0, refuses));
  CHECK(holds_without_openat2(ENOSYS, refuses));
  // The mount does hang whoever asks it anything.
  OtherProcess victim(0, [&](const OtherProcess::Ready& ready) {
    ready();
    struct stat status {};
    return stat(scratch.at("directory").c_str(), &status) == 0;
  });
  CHECK_FALSE(victim.finish(std::chrono::milliseconds(100)));
}

TEST_CASE("without openat2 the same is opened and the same refused") {
  if (!can_mount()) return;
  const int answer = GENERATE(ENOSYS, EPERM);
  const Scratch scratch;
  fs::create_directory(scratch.at("directory"));
  fs::create_directory(scratch.at("mounted"));
  fs::create_directory_symlink("directory", scratch.at("link"));
  scratch.put("file", "text");
  fs::create_symlink("file", scratch.at("file-link"));
  const ScopedMount mounted = ScopedMount::bind(scratch.at("mounted"));
  CHECK(holds_without_openat2(answer, [&] {
    const auto directory = open_directory_beneath(scratch.fd.get(), "directory");
    return directory && directory_names(directory->get(), 1).names.empty();
  }));
  CHECK(holds_without_openat2(answer, [&] {
    return !open_directory_beneath(scratch.fd.get(), "missing") &&
           open_failure(scratch, "link") == Errc::untrusted_metadata &&
           open_failure(scratch, "file") == Errc::untrusted_metadata &&
           open_failure(scratch, "mounted") == Errc::untrusted_metadata;
  }));
  CHECK(holds_without_openat2(answer, [&] {
    return read_untrusted_file(scratch.fd.get(), "file", 0, kMaxSize) == "text" &&
           read_failure(scratch, "file-link") == Errc::untrusted_metadata;
  }));
}

TEST_CASE("an entry is described without following it") {
  const Scratch scratch;
  fs::create_symlink("/etc/passwd", scratch.at("link"));
  CHECK(S_ISLNK(entry_info(scratch.fd.get(), "link").value().mode));
  CHECK_FALSE(entry_info(scratch.fd.get(), "missing"));
}

TEST_CASE("a record is read whole, up to the limit") {
  const Scratch scratch;
  scratch.put("small", "text");
  scratch.put("empty", "");
  scratch.put("full", std::string(kMaxSize, 'x'));
  scratch.put("over", std::string(kMaxSize + 1, 'x'));
  const auto read = [&](const std::string& name) {
    return read_untrusted_file(scratch.fd.get(), name, geteuid(), kMaxSize);
  };
  CHECK(read("small") == "text");
  CHECK(read("empty") == "");
  CHECK(read("full") == std::string(kMaxSize, 'x'));
  CHECK_FALSE(read("missing"));
  CHECK(read_failure(scratch, "over") == Errc::corrupt_metadata);
}

TEST_CASE("what is no record of its owner's alone is not trusted") {
  const Scratch scratch;
  scratch.put("file", "text");
  SECTION("a symlink, also to a good record") {
    fs::create_symlink("file", scratch.at("entry"));
    CHECK(read_failure(scratch, "entry") == Errc::untrusted_metadata);
  }
  SECTION("a directory") {
    fs::create_directory(scratch.at("entry"));
    CHECK(read_failure(scratch, "entry") == Errc::untrusted_metadata);
  }
  SECTION("a FIFO, which a plain open would wait for") {
    REQUIRE(mkfifo(scratch.at("entry").c_str(), 0600) == 0);
    CHECK(read_failure(scratch, "entry") == Errc::untrusted_metadata);
  }
  SECTION("a file that has another name as well") {
    fs::create_hard_link(scratch.at("file"), scratch.at("entry"));
    CHECK(read_failure(scratch, "entry") == Errc::untrusted_metadata);
    CHECK(read_failure(scratch, "file") == Errc::untrusted_metadata);
  }
  SECTION("a file that others may write") {
    const unsigned mode = GENERATE(0620U, 0602U);
    fs::permissions(scratch.at("file"), fs::perms{mode});
    CHECK(read_failure(scratch, "file") == Errc::untrusted_metadata);
  }
  SECTION("another user's file") {
    CHECK(read_failure(scratch, "file", geteuid() + 1) == Errc::untrusted_metadata);
  }
  SECTION("a device") {
    if (!can_mount()) return;
    REQUIRE(mknod(scratch.at("entry").c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0);
    CHECK(read_failure(scratch, "entry", 0) == Errc::untrusted_metadata);
  }
}

TEST_CASE("a record under its owner's write lease is busy, and nobody waits for it") {
  if (!can_mount()) return;
  const Scratch scratch;
  scratch.put("file", "text");
  REQUIRE(chown(scratch.at("file").c_str(), kAlice, kAlice) == 0);
  OtherProcess owner(kAlice, [&](const OtherProcess::Ready& ready) {
    std::signal(SIGIO, SIG_IGN);  // the kernel's request to give the lease up
    const UniqueFd file(open(scratch.at("file").c_str(), O_RDWR | O_CLOEXEC));
    if (fcntl(file.get(), F_SETLEASE, F_WRLCK) != 0) return false;
    ready();
    pause();
    return true;
  });
  CHECK(read_failure(scratch, "file", kAlice) == Errc::metadata_locked);
}

TEST_CASE("a missing /proc is said plainly") {
  if (!can_mount()) return;
  const Scratch scratch;
  scratch.put("file", "text");
  const ScopedMount over_proc = ScopedMount::tmpfs("/proc", "");
  try {
    (void)read_untrusted_file(scratch.fd.get(), "file", geteuid(), kMaxSize);
    FAIL("read without /proc");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::io);
    CHECK(std::string(error.what()) == "/proc is not mounted");
  }
}

TEST_CASE("while its owner swaps a record for a symlink, only the owner's records are read") {
  if (!can_mount()) return;
  const Scratch scratch;
  scratch.put("secret", "root's secret");
  REQUIRE(chown(scratch.directory.path().c_str(), kAlice, kAlice) == 0);
  scratch.put("entry", "alice's");
  REQUIRE(chown(scratch.at("entry").c_str(), kAlice, kAlice) == 0);
  fs::create_symlink("secret", scratch.at("trap"));
  const Repeatedly swap(kAlice, [&] {
    renameat2(scratch.fd.get(), "entry", scratch.fd.get(), "trap", RENAME_EXCHANGE);
  });
  int refused = 0;
  int read = 0;
  const auto attempt = [&] {
    try {
      const auto text = read_untrusted_file(scratch.fd.get(), "entry", kAlice, kMaxSize);
      REQUIRE(text == "alice's");
      ++read;
    } catch (const Error& error) {
      REQUIRE(error.code() == Errc::untrusted_metadata);
      ++refused;
    }
  };
  race(attempt, [&] { return read > 0 && refused > 0; });
  CHECK(read > 0);
  CHECK(refused > 0);
}

TEST_CASE("a file is made and replaced whole, with the mode that was asked for") {
  const Scratch scratch;
  const mode_t mask = GENERATE(0U, 0077U, 0777U);
  const Umask umask(mask);
  write_file_durably(scratch.fd.get(), "file", "first", 0640);
  CHECK(scratch.get("file") == "first");
  CHECK(mode_of(scratch.at("file")) == 0640);
  write_file_durably(scratch.fd.get(), "file", "second, longer", 0600);
  CHECK(scratch.get("file") == "second, longer");
  CHECK(mode_of(scratch.at("file")) == 0600);
  CHECK(scratch.names() == std::vector<std::string>{"file"});
}

TEST_CASE("a large file is written whole") {
  const Scratch scratch;
  const std::string contents(3'000'000, 'x');
  write_file_durably(scratch.fd.get(), "file", contents, 0600);
  CHECK(scratch.get("file") == contents);
}

TEST_CASE("writing replaces a symlink, not what it leads to") {
  const Scratch scratch;
  scratch.put("precious", "precious");
  fs::create_symlink("precious", scratch.at("file"));
  write_file_durably(scratch.fd.get(), "file", "text", 0600);
  CHECK(scratch.get("precious") == "precious");
  CHECK(fs::symlink_status(scratch.at("file")).type() == fs::file_type::regular);
}

TEST_CASE("a new file takes the place of nothing") {
  const Scratch scratch;
  const Umask umask(0);
  const auto write = [&](const char* name) {
    return failure([&] { write_new_file_durably(scratch.fd.get(), name, "text"); });
  };
  CHECK(write("file") == std::nullopt);
  CHECK(scratch.get("file") == "text");
  CHECK(mode_of(scratch.at("file")) == 0600);
  scratch.put("precious", "precious");
  fs::create_symlink("precious", scratch.at("link"));
  fs::create_symlink("nothing", scratch.at("dangling"));
  for (const char* name : {"precious", "link", "dangling"}) CHECK(write(name) == Errc::exists);
  CHECK(scratch.get("precious") == "precious");
  CHECK(scratch.names() == std::vector<std::string>{"dangling", "file", "link", "precious"});
}

TEST_CASE("a failed write leaves the old file and nothing else") {
  if (!can_mount()) return;
  const TemporaryDirectory directory;
  ScopedMount tmpfs = ScopedMount::tmpfs(directory.path(), "size=16k,mode=0755");
  const UniqueFd fd(open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  write_file_durably(fd.get(), "file", "old", 0600);
  const auto write_failure = [&](const std::string& name, const std::string& contents) {
    return failure([&] { write_file_durably(fd.get(), name, contents, 0600); });
  };
  SECTION("on a full disk") {
    CHECK(write_failure("file", std::string(100'000, 'x')) == Errc::no_space);
  }
  SECTION("on a disk that has become read-only") {
    tmpfs.make_read_only();
    CHECK(write_failure("file", "new") == Errc::io);
  }
  SECTION("where a directory has the name") {
    fs::remove(directory.path() + "/file");
    fs::create_directory(directory.path() + "/file");
    write_file_durably(fd.get(), "other", "old", 0600);
    CHECK(write_failure("file", "new") == Errc::io);
    CHECK(directory_names(fd.get(), 10).names.size() == 2);
    return;
  }
  CHECK(directory_names(fd.get(), 10).names == std::vector<std::string>{"file"});
  std::string text;
  std::ifstream(directory.path() + "/file") >> text;
  CHECK(text == "old");
}

TEST_CASE("writing into another user's directory is a matter of permission") {
  if (!can_mount()) return;
  const Scratch scratch;
  CHECK(run_as(kBob, [&] {
    return failure([&] { write_file_durably(scratch.fd.get(), "file", "text", 0600); }) ==
           Errc::permission;
  }));
}

TEST_CASE("a directory is made with the mode that was asked for") {
  const Scratch scratch;
  const mode_t mask = GENERATE(0U, 0077U);
  const bool in_setgid_directory = GENERATE(false, true);
  if (in_setgid_directory) fs::permissions(scratch.directory.path(), fs::perms{02755});
  const Umask umask(mask);
  CHECK(make_directory_durably(scratch.fd.get(), "directory", 0755));
  CHECK(mode_of(scratch.at("directory")) == 0755);
  CHECK_FALSE(make_directory_durably(scratch.fd.get(), "directory", 0700));
  CHECK(mode_of(scratch.at("directory")) == 0755);
}

TEST_CASE("the names in a directory are read, each time from the beginning") {
  const Scratch scratch;
  CHECK(scratch.names().empty());
  constexpr std::size_t kCount = 2000;  // more than one system call returns
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::string name = "a-rather-long-name-" + std::to_string(i);
    const UniqueFd made(open(scratch.at(name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    REQUIRE(made);
  }
  for (int round = 0; round < 2; ++round) {
    const DirectoryNames all = directory_names(scratch.fd.get(), kCount);
    CHECK(all.names.size() == kCount);
    CHECK(all.complete);
  }
  const DirectoryNames some = directory_names(scratch.fd.get(), kCount - 1);
  CHECK(some.names.size() == kCount - 1);
  CHECK_FALSE(some.complete);
}
