// Each way to keep a key busy is first proven to do so by the kernel, and then has to be found.
#include "fscryptctl/kernel/holders.h"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "fscryptctl/base/file.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "support/ext4_fixture.h"
#include "support/mounts.h"
#include "support/other_process.h"
#include "support/temporary_directory.h"

namespace fscryptctl::test {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kAlice = 61001;

std::string describe(const HolderScan& scan) {
  std::ostringstream text;
  for (const Holder& holder : scan.holders) {
    text << holder.pid << ' ' << holder.uid << ' ' << holder.command << ' ' << holder.kind << ' '
         << holder.path << '\n';
  }
  return text.str();
}

UniqueFd open_directory(const std::string& path) {
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(directory);
  return directory;
}

/// A filesystem with "private" and "other", encrypted with different keys and open to everybody,
/// and "plain". In each of them a file and a directory "sub".
class World {
 public:
  World() {
    key_ = make_directory("private", 1);
    make_directory("other", 2);
    make_directory("plain", 0);
  }

  const std::string& path() const { return filesystem_.path(); }
  std::string in_private(const std::string& name) const { return path() + "/private/" + name; }

  HolderScan scan() { return find_holders(kernel_, filesystem_.fd(), key_); }
  /// Locks "private".
  RemoveOutcome lock() {
    return kernel_.remove_key(filesystem_.fd(), key_, RemoveScope::own_claim);
  }
  LinuxKernel& kernel() { return kernel_; }
  int fs_fd() const { return filesystem_.fd(); }
  const KeyIdentifier& key() const { return key_; }

 private:
  KeyIdentifier make_directory(const std::string& name, std::uint8_t key_byte) {
    const std::string directory = path() + "/" + name;
    REQUIRE(mkdir(directory.c_str(), 0755) == 0);
    KeyIdentifier key;
    if (key_byte != 0) {
      SecretBytes raw_key(64);
      std::ranges::fill(raw_key.writable(), key_byte);
      key = kernel_.add_key(filesystem_.fd(), raw_key);
      kernel_.set_policy(open_directory(directory).get(), {key, {}});
    }
    REQUIRE(mkdir((directory + "/sub").c_str(), 0755) == 0);
    std::ofstream(directory + "/file") << std::string(8192, 'x');
    REQUIRE(chmod(directory.c_str(), 0777) == 0);
    REQUIRE(chmod((directory + "/file").c_str(), 0666) == 0);
    return key;
  }

  LinuxKernel kernel_;
  Ext4 filesystem_;
  KeyIdentifier key_;
};

/// Whether every process can be looked at: even root is refused one that has more capabilities.
bool everybody_is_visible() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::array<char, 1> text{};
    const std::string link = entry.path() / "cwd";
    if (readlink(link.c_str(), text.data(), text.size()) < 0 && errno == EACCES) return false;
  }
  return true;
}

/// After a change of user the kernel would show a process only to root.
bool be_ordinary() { return prctl(PR_SET_DUMPABLE, 1) == 0; }

/// A process that does `hold` (false if it could not) and then waits for its end.
OtherProcess holder_process(const std::function<bool()>& hold, uid_t uid = 0) {
  return OtherProcess(uid, [&](const OtherProcess::Ready& ready) {
    if (!be_ordinary() || !hold()) return false;
    ready();
    while (true) pause();
  });
}

/// What is shown of a file that is in use without a name, as it is once its directory is locked.
std::string inode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(stat(path.c_str(), &status) == 0);
  return "inode " + std::to_string(status.st_ino);
}

struct Case {
  std::string kind;
  std::string path;  ///< below the filesystem; empty for the inode of "private/file"
  std::function<bool(const std::string& filesystem)> hold;
};

int keep_open(const std::string& path, int flags) { return open(path.c_str(), flags, 0600); }

bool map_and_close(const std::string& path) {
  const UniqueFd file(keep_open(path, O_RDONLY | O_CLOEXEC));
  return file && mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0) != MAP_FAILED;
}

bool bind_socket(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

bool mount_privately(const std::string& source, const std::string& target) {
  return unshare(CLONE_NEWNS) == 0 &&
         mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount(source.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) == 0;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"open file", "/private/file",
       [](const std::string& fs) { return keep_open(fs + "/private/file", O_RDWR) >= 0; }},
      {"open file", "/private/sub",
       [](const std::string& fs) { return keep_open(fs + "/private/sub", O_RDONLY) >= 0; }},
      {"open file", "/private",
       [](const std::string& fs) { return keep_open(fs + "/private", O_RDONLY) >= 0; }},
      {"open file", "/private/file",
       [](const std::string& fs) { return keep_open(fs + "/private/file", O_PATH) >= 0; }},
      {"open file", "/private/gone (deleted)",
       [](const std::string& fs) {
         const std::string path = fs + "/private/gone";
         return keep_open(path, O_RDWR | O_CREAT) >= 0 && unlink(path.c_str()) == 0;
       }},
      {"open file", "/private/odd\nname (deleted)\xff",
       [](const std::string& fs) {
         return keep_open(fs + "/private/odd\nname (deleted)\xff", O_RDWR | O_CREAT) >= 0;
       }},
      {"open file", "/private/fifo",
       [](const std::string& fs) {
         const std::string path = fs + "/private/fifo";
         return mkfifo(path.c_str(), 0600) == 0 && keep_open(path, O_RDWR) >= 0;
       }},
      {"open file", "/private/link",
       [](const std::string& fs) {
         const std::string path = fs + "/private/link";
         return symlink("nowhere", path.c_str()) == 0 && keep_open(path, O_PATH | O_NOFOLLOW) >= 0;
       }},
      {"open file", "/plain/moved-out",
       [](const std::string& fs) {
         const std::string path = fs + "/plain/moved-out";
         return rename((fs + "/private/file").c_str(), path.c_str()) == 0 &&
                keep_open(path, O_RDWR) >= 0;
       }},
      {"socket", "/private/socket",
       [](const std::string& fs) { return bind_socket(fs + "/private/socket"); }},
      {"working directory", "/private/sub",
       [](const std::string& fs) { return chdir((fs + "/private/sub").c_str()) == 0; }},
      {"root directory", "/private",
       [](const std::string& fs) { return chroot((fs + "/private").c_str()) == 0; }},
      {"mapped file", "/private/file",
       [](const std::string& fs) { return map_and_close(fs + "/private/file"); }},
      {"mapped file", "/private/file (deleted)",
       [](const std::string& fs) {
         return map_and_close(fs + "/private/file") && unlink((fs + "/private/file").c_str()) == 0;
       }},
      {"inotify watch", "",
       [](const std::string& fs) {
         return inotify_add_watch(inotify_init(), (fs + "/private/file").c_str(), IN_ALL_EVENTS) >=
                0;
       }},
      {"inotify watch", "/private",
       [](const std::string& fs) {
         return inotify_add_watch(inotify_init(), (fs + "/private").c_str(), IN_CREATE) >= 0;
       }},
      {"mount", "/plain/sub",
       [](const std::string& fs) {
         return mount_privately(fs + "/private/sub", fs + "/plain/sub");
       }},
  };
  return all;
}

TEST_CASE("whatever a process does to keep files in use is found, and by whom", "[kernel]") {
  if (!can_mount()) return;
  for (const Case& each : cases()) {
    World world;
    CAPTURE(each.kind, each.path);
    const std::string inode = inode_of(world.in_private("file"));
    const OtherProcess process = holder_process([&] { return each.hold(world.path()); });
    CHECK(world.lock() == RemoveOutcome::files_busy);

    const HolderScan scan = world.scan();
    CAPTURE(describe(scan));
    CHECK(scan.complete == everybody_is_visible());
    REQUIRE(scan.holders.size() == 1);
    CHECK(scan.holders[0].pid == process.pid());
    CHECK(scan.holders[0].uid == 0);
    CHECK_FALSE(scan.holders[0].command.empty());
    CHECK(scan.holders[0].kind == each.kind);
    CHECK(scan.holders[0].path == (each.path.empty() ? inode : world.path() + each.path));
  }
}

TEST_CASE("files are found before locking just as after it", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const OtherProcess process =
      holder_process([&] { return keep_open(world.in_private("file"), O_RDONLY) >= 0; }, kAlice);
  const HolderScan scan = world.scan();
  CAPTURE(describe(scan));
  REQUIRE(scan.holders.size() == 1);
  CHECK(scan.holders[0].pid == process.pid());
  CHECK(scan.holders[0].uid == kAlice);
}

TEST_CASE("nobody is accused of what is in plain directories or under another key", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const OtherProcess process = holder_process([&] {
    const std::string other = world.path() + "/other";
    const std::string plain = world.path() + "/plain";
    return keep_open(other + "/file", O_RDONLY) >= 0 && keep_open(other + "/file", O_PATH) >= 0 &&
           chdir((other + "/sub").c_str()) == 0 && map_and_close(other + "/file") &&
           inotify_add_watch(inotify_init(), other.c_str(), IN_CREATE) >= 0 &&
           bind_socket(other + "/socket") && keep_open(plain + "/file", O_RDWR) >= 0 &&
           map_and_close(plain + "/file") && bind_socket(plain + "/socket") &&
           inotify_add_watch(inotify_init(), plain.c_str(), IN_CREATE) >= 0;
  });
  CHECK(world.lock() == RemoveOutcome::removed);
  const HolderScan scan = world.scan();
  CAPTURE(describe(scan));
  CHECK(scan.holders.empty());
  CHECK(scan.complete == everybody_is_visible());
}

TEST_CASE("one process appears once for each thing and way, however often it has it", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const OtherProcess process = holder_process([&] {
    const std::string file = world.in_private("file");
    return keep_open(file, O_RDONLY) >= 0 && keep_open(file, O_RDWR) >= 0 && map_and_close(file) &&
           chdir(world.in_private("sub").c_str()) == 0 &&
           keep_open(world.in_private("sub"), O_RDONLY) >= 0;
  });
  HolderScan scan = world.scan();
  CAPTURE(describe(scan));
  std::vector<std::string> kinds;
  for (const Holder& holder : scan.holders) kinds.push_back(holder.kind + " " + holder.path);
  CHECK(kinds == std::vector<std::string>{"open file " + world.in_private("file"),
                                          "open file " + world.in_private("sub"),
                                          "working directory " + world.in_private("sub")});
}

TEST_CASE("what this process itself has in use is no exception", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const UniqueFd file(open(world.in_private("file").c_str(), O_RDONLY | O_CLOEXEC));
  const HolderScan scan = world.scan();
  CAPTURE(describe(scan));
  REQUIRE(scan.holders.size() == 1);
  CHECK(scan.holders[0].pid == getpid());
}

TEST_CASE("looking for holders does not hold anything", "[kernel]") {
  if (!can_mount()) return;
  World world;
  {
    const OtherProcess process =
        holder_process([&] { return keep_open(world.in_private("file"), O_RDONLY) >= 0; });
    CHECK(world.lock() == RemoveOutcome::files_busy);
    CHECK(world.scan().holders.size() == 1);
  }
  CHECK(world.lock() == RemoveOutcome::removed);
  CHECK(world.scan().holders.empty());
}

TEST_CASE("a running program is found", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const std::string program = world.in_private("sleep");
  std::filesystem::copy_file("/bin/sleep", program);
  std::string name = "sleep";
  std::string duration = "60";
  std::array<char*, 3> arguments = {name.data(), duration.data(), nullptr};
  pid_t pid = 0;
  REQUIRE(posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments.data(), environ) == 0);
  const HolderScan scan = world.scan();
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  CAPTURE(describe(scan));
  REQUIRE(scan.holders.size() == 1);
  CHECK(scan.holders[0].kind == "executable");
  CHECK(scan.holders[0].path == program);
  CHECK(scan.holders[0].command == "sleep");
}

TEST_CASE("a fanotify mark on a file is found", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const OtherProcess process = holder_process([&] {
    const int group = fanotify_init(FAN_CLASS_NOTIF, O_RDONLY);
    return fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD,
                         world.in_private("file").c_str()) == 0 &&
           fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD,
                         world.path().c_str()) == 0;
  });
  const std::string inode = inode_of(world.in_private("file"));
  CHECK(world.lock() == RemoveOutcome::files_busy);
  const HolderScan scan = world.scan();
  CAPTURE(describe(scan));
  CHECK(scan.complete == everybody_is_visible());
  REQUIRE(scan.holders.size() == 1);
  CHECK(scan.holders[0].kind == "fanotify mark");
  CHECK(scan.holders[0].path == inode);
}

TEST_CASE("mounts of, in and made from the directory are found, though no process has them",
          "[kernel]") {
  if (!can_mount()) return;
  World world;
  const TemporaryDirectory elsewhere;
  const std::string bound = elsewhere.path() + "/with blank";
  REQUIRE(mkdir(bound.c_str(), 0755) == 0);
  std::vector<std::string> expected;

  SECTION("a part of it, mounted elsewhere") {
    REQUIRE(mount(world.in_private("sub").c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) == 0);
    expected = {bound};
  }
  SECTION("a file of it, mounted elsewhere") {
    std::ofstream(elsewhere.path() + "/target") << "";
    expected = {elsewhere.path() + "/target"};
    REQUIRE(mount(world.in_private("file").c_str(), expected[0].c_str(), nullptr, MS_BIND,
                  nullptr) == 0);
  }
  SECTION("another filesystem, mounted inside it") {
    expected = {world.in_private("sub")};
    REQUIRE(mount("tmpfs", expected[0].c_str(), "tmpfs", 0, nullptr) == 0);
  }
  SECTION("another filesystem, covering it") {
    expected = {world.path() + "/private"};
    REQUIRE(mount("tmpfs", expected[0].c_str(), "tmpfs", 0, nullptr) == 0);
  }
  SECTION("an overlay on top of it") {
    expected = {bound};
    const std::string layers = "lowerdir=" + world.path() + "/plain:" + world.path() + "/private";
    REQUIRE(mount("overlay", bound.c_str(), "overlay", 0, layers.c_str()) == 0);
  }
  CHECK(world.lock() == RemoveOutcome::files_busy);
  const HolderScan scan = world.scan();
  for (const std::string& path : expected) umount2(path.c_str(), MNT_DETACH);
  CAPTURE(describe(scan));
  REQUIRE(scan.holders.size() == 1);
  CHECK(scan.holders[0].pid == 0);
  CHECK(scan.holders[0].kind == "mount");
  CHECK(scan.holders[0].path == expected[0]);
}

TEST_CASE("mounts that have nothing to do with the directory are not named", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const ScopedMount tmpfs = ScopedMount::tmpfs(world.path() + "/plain/sub", "");
  const ScopedMount bound = ScopedMount::bind(world.path() + "/plain");
  const ScopedMount other = ScopedMount::bind(world.path() + "/other");
  const HolderScan scan = world.scan();
  CAPTURE(describe(scan));
  CHECK(scan.holders.empty());
}

TEST_CASE("a loop device on an encrypted image is found", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const std::string image = world.in_private("image");
  std::ofstream(image) << std::string(65536, '\0');
  std::string device;
  UniqueFd loop;
  {
    const UniqueFd file(open(image.c_str(), O_RDWR | O_CLOEXEC));
    loop = attach_loop_device(file.get(), device);
  }
  CHECK(world.lock() == RemoveOutcome::files_busy);
  const HolderScan scan = world.scan();
  loop.reset();
  CAPTURE(describe(scan));
  REQUIRE(scan.holders.size() == 1);
  CHECK(scan.holders[0].pid == 0);
  CHECK(scan.holders[0].kind == "loop device");
  CHECK("/dev/" + scan.holders[0].command == device);
  CHECK(scan.holders[0].path == image);
}

/// What mkswap(8) writes.
void write_swap_file(const std::string& path) {
  constexpr std::size_t kPage = 4096;
  constexpr std::uint32_t kPages = 256;
  std::string image(kPages * kPage, '\0');
  const std::array<std::uint32_t, 2> version_and_last_page = {1, kPages - 1};
  std::memcpy(image.data() + 1024, version_and_last_page.data(), sizeof version_and_last_page);
  image.replace(kPage - 10, 10, "SWAPSPACE2");
  std::ofstream(path) << image;
  REQUIRE(chmod(path.c_str(), 0600) == 0);
}

TEST_CASE("an encrypted swap file is found", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const std::string swap = world.in_private("swap file");
  write_swap_file(swap);
  REQUIRE(swapon(swap.c_str(), 0) == 0);
  CHECK(world.lock() == RemoveOutcome::files_busy);
  const HolderScan scan = world.scan();
  CHECK(swapoff(swap.c_str()) == 0);
  CAPTURE(describe(scan));
  REQUIRE(scan.holders.size() == 1);
  CHECK(scan.holders[0].pid == 0);
  CHECK(scan.holders[0].kind == "swap file");
  CHECK(scan.holders[0].path == swap);
}

TEST_CASE("an ordinary user sees what is theirs, and that there may be more", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const std::string file = world.in_private("file");
  const auto is_found = [&](const HolderScan& scan, pid_t pid, const std::string& kind) {
    return std::ranges::any_of(scan.holders, [&](const Holder& holder) {
      return holder.pid == pid && holder.kind == kind && holder.path == file &&
             holder.uid == kAlice;
    });
  };
  const OtherProcess roots = holder_process([&] { return keep_open(file, O_RDONLY) >= 0; });
  const OtherProcess reader =
      holder_process([&] { return keep_open(file, O_RDONLY) >= 0; }, kAlice);
  const OtherProcess mapper = holder_process([&] { return map_and_close(file); }, kAlice);
  CHECK(run_as(kAlice, [&] {
    if (!be_ordinary()) return false;
    const HolderScan scan = world.scan();
    return !scan.complete && scan.holders.size() == 2 &&
           is_found(scan, reader.pid(), "open file") && is_found(scan, mapper.pid(), "mapped file");
  }));
}

TEST_CASE("a server that never answers is not asked", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const TemporaryDirectory stuck;
  const ScopedMount hanging = ScopedMount::hanging(stuck.path(), kAlice);
  const OtherProcess holding = holder_process([&] {
    return keep_open(stuck.path(), O_PATH) >= 0 &&
           keep_open(world.in_private("file"), O_RDONLY) >= 0;
  });
  const OtherProcess waiting(0, [&](const OtherProcess::Ready& ready) {
    ready();
    return keep_open(stuck.path(), O_RDONLY) >= 0;  // for ever
  });
  CHECK(run_as(0, [&] { return world.scan().holders.size() == 1; }));
}

TEST_CASE("processes that come and go meanwhile are passed over", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const Repeatedly forking(0, [] {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
  });
  for (int i = 0; i < 20; ++i) {
    const HolderScan scan = world.scan();
    CAPTURE(describe(scan));
    CHECK(scan.holders.empty());
  }
}

TEST_CASE("the directory may lie on a part of the filesystem that is mounted alone", "[kernel]") {
  if (!can_mount()) return;
  World world;
  const TemporaryDirectory elsewhere;
  REQUIRE(mount(world.path().c_str(), elsewhere.path().c_str(), nullptr, MS_BIND, nullptr) == 0);
  UniqueFd fd = open_directory(elsewhere.path() + "/plain/sub");
  {
    const OtherProcess process = holder_process([&] {
      return mkfifo(world.in_private("fifo").c_str(), 0600) == 0 &&
             keep_open(world.in_private("fifo"), O_RDWR) >= 0;
    });
    const HolderScan scan = find_holders(world.kernel(), fd.get(), world.key());
    CAPTURE(describe(scan));
    CHECK(scan.holders.size() == 1);
  }
  fd.reset();
  CHECK(umount2(elsewhere.path().c_str(), 0) == 0);
}

TEST_CASE("hundreds of processes are looked at quickly", "[kernel]") {
  if (!can_mount()) return;
  World world;
  constexpr int kProcesses = 200;
  std::vector<std::unique_ptr<OtherProcess>> processes;
  processes.reserve(kProcesses);
  for (int i = 0; i < kProcesses; ++i) {
    processes.push_back(std::make_unique<OtherProcess>(0, [](const OtherProcess::Ready& ready) {
      ready();
      while (true) pause();
      return true;
    }));
  }
  const auto start = std::chrono::steady_clock::now();
  const HolderScan scan = world.scan();
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  CAPTURE(took.count());
  CHECK(scan.complete == everybody_is_visible());
  CHECK(took < 1s);  // some ten milliseconds; the rest is for slow machines and sanitizers
}

}  // namespace
}  // namespace fscryptctl::test
