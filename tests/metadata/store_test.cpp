#include "fscryptctl/metadata/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "fscryptctl/kernel/linux_kernel.h"
#include "fscryptctl/metadata/yaml_codec.h"
#include "metadata/sample_records.h"
#include "support/ext4_fixture.h"
#include "support/mounts.h"
#include "support/other_process.h"
#include "support/temporary_directory.h"

using namespace fscryptctl;
using namespace fscryptctl::test;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

constexpr Identity kRoot{0, 0};
constexpr Identity kAlice{1000, 1000};
constexpr Identity kBob{1001, 1001};

/// Why `action` failed, or nullopt if it did not.
std::optional<Errc> failure(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

/// A filesystem of root's for metadata: a tmpfs, since nothing here needs encryption.
struct Disk {
  TemporaryDirectory directory;
  ScopedMount mount;
  UniqueFd fd;

  explicit Disk(const std::string& options = "mode=0755")
      : mount(ScopedMount::tmpfs(directory.path(), options)),
        fd(open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}

  [[nodiscard]] std::string at(const std::string& path) const {
    return directory.path() + "/.fscryptctl/" + path;
  }
  [[nodiscard]] MetadataRoot set_up(bool all_users = false, Identity owner = kRoot) const {
    bool changed = false;
    return MetadataRoot::create(fd.get(), owner, all_users, changed);
  }
  [[nodiscard]] UserStore store_of(Identity user) const {
    bool changed = false;
    return UserStore::create(set_up(), user, changed);
  }
  [[nodiscard]] std::optional<MetadataRoot> open_root(Identity owner = kRoot) const {
    return MetadataRoot::open(fd.get(), owner);
  }
};

mode_t mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777U;
}

uid_t owner_of(const std::string& path) {
  struct stat status {};
  REQUIRE(lstat(path.c_str(), &status) == 0);
  return status.st_uid;
}

void give(const std::string& path, Identity user) {
  REQUIRE(lchown(path.c_str(), user.uid, user.gid) == 0);
}

void put(const std::string& path, const std::string& contents, Identity user) {
  std::ofstream(path) << contents;
  fs::permissions(path, fs::perms{0600});
  give(path, user);
}

std::string get(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

struct Umask {
  explicit Umask(mode_t mask) : previous(umask(mask)) {}
  ~Umask() { umask(previous); }
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;
  mode_t previous;
};

/// The n-th of many policies.
PolicyRecord policy_number(std::uint32_t n) {
  PolicyRecord record = sample_policy();
  for (std::size_t i = 0; i < sizeof n; ++i) {
    record.summary.key_identifier.bytes.at(i) = static_cast<std::uint8_t>(n >> (24 - 8 * i));
  }
  return record;
}

std::string policy_file(const PolicyRecord& record) {
  return "policies/" + record.summary.key_identifier.hex() + ".yaml";
}

std::string protector_file(const ProtectorRecord& record) {
  return "protectors/" + record.summary.id.hex() + ".yaml";
}

void write(const UserStore& store, const PolicyRecord& record) {
  store.write(store.lock(), record);
}

std::string alices(const std::string& path) { return "users/1000/" + path; }

/// Alice's store with the sample policy in it.
UserStore store_with_policy(const Disk& disk) {
  UserStore store = disk.store_of(kAlice);
  write(store, sample_policy());
  return store;
}

const KeyIdentifier kSampleId = sample_policy().summary.key_identifier;

}  // namespace

// --- The metadata directory of a filesystem ---

TEST_CASE("a filesystem without metadata has none") {
  if (!can_mount()) return;
  const Disk disk;
  CHECK_FALSE(disk.open_root());
  fs::create_directory(disk.directory.path() + "/.fscryptctl");
  CHECK_FALSE(disk.open_root());
}

TEST_CASE("setting up makes directories that users can go through but not write") {
  if (!can_mount()) return;
  const Umask umask(GENERATE(0022U, 0777U));
  const Disk disk;
  bool changed = false;
  const MetadataRoot root = MetadataRoot::create(disk.fd.get(), kRoot, false, changed);
  CHECK(changed);
  CHECK(mode_of(disk.at("")) == 0755);
  CHECK(mode_of(disk.at("users")) == 0755);
  CHECK_FALSE(root.open_to_all());
  CHECK(root.users().empty());
  CHECK(disk.open_root());
}

TEST_CASE("setting up works from a descriptor that is for going through only") {
  if (!can_mount()) return;
  const Disk disk;
  const UniqueFd path_only(open(disk.directory.path().c_str(), O_PATH | O_CLOEXEC));
  bool changed = false;
  (void)MetadataRoot::create(path_only.get(), kRoot, false, changed);
  CHECK(MetadataRoot::open(path_only.get(), kRoot));
  MetadataRoot::remove(path_only.get(), kRoot);
  CHECK_FALSE(MetadataRoot::open(path_only.get(), kRoot));
}

TEST_CASE("setting up again changes nothing and never shuts users out again") {
  if (!can_mount()) return;
  const Umask umask(0077);
  const Disk disk;
  bool changed = false;
  const auto set_up = [&](bool all_users) {
    return MetadataRoot::create(disk.fd.get(), kRoot, all_users, changed);
  };
  (void)set_up(false);
  (void)set_up(false);
  CHECK_FALSE(changed);
  CHECK(set_up(true).open_to_all());
  CHECK(changed);
  CHECK(mode_of(disk.at("users")) == 01777);
  CHECK(set_up(false).open_to_all());
  CHECK_FALSE(changed);
}

TEST_CASE("setting up completes what a crash left half made") {
  if (!can_mount()) return;
  const Disk disk;
  REQUIRE(mkdir(disk.at("").c_str(), 0700) == 0);
  SECTION("without users") {}
  SECTION("with users of a mode that nobody can use") {
    REQUIRE(mkdir(disk.at("users").c_str(), 0700) == 0);
  }
  bool changed = false;
  (void)MetadataRoot::create(disk.fd.get(), kRoot, true, changed);
  CHECK(changed);
  CHECK(mode_of(disk.at("")) == 0755);
  CHECK(mode_of(disk.at("users")) == 01777);
}

TEST_CASE("what somebody else put in the place of the metadata directory is refused") {
  if (!can_mount()) return;
  const Disk disk("mode=01777");  // where users may make entries, /tmp for example
  const std::string place = disk.directory.path() + "/.fscryptctl";
  SECTION("a directory of a user's") {
    REQUIRE(mkdir(place.c_str(), 0755) == 0);
    REQUIRE(mkdir((place + "/users").c_str(), 0755) == 0);
    give(place, kBob);
  }
  SECTION("a symlink to a directory of root's") { fs::create_directory_symlink("/etc", place); }
  SECTION("a file") { put(place, "", kRoot); }
  SECTION("a directory that others may write") {
    REQUIRE(mkdir(place.c_str(), 0755) == 0);
    fs::permissions(place, fs::perms{0775});
  }
  SECTION("users of a user's") {
    REQUIRE(mkdir(place.c_str(), 0755) == 0);
    REQUIRE(mkdir((place + "/users").c_str(), 0755) == 0);
    give(place + "/users", kBob);
  }
  SECTION("users that others may write without a sticky bit") {
    REQUIRE(mkdir(place.c_str(), 0755) == 0);
    REQUIRE(mkdir((place + "/users").c_str(), 0755) == 0);
    fs::permissions(place + "/users", fs::perms{0777});
  }
  SECTION("users as a symlink") {
    REQUIRE(mkdir(place.c_str(), 0755) == 0);
    fs::create_directory_symlink("/etc", place + "/users");
  }
  CHECK(failure([&] { (void)disk.open_root(); }) == Errc::untrusted_metadata);
  CHECK(failure([&] { (void)disk.set_up(); }) == Errc::untrusted_metadata);
}

TEST_CASE("metadata is not set up where others could replace it, or where it would be locked") {
  if (!can_mount()) return;
  SECTION("in a root directory that others may write") {
    const Disk disk("mode=0777");
    CHECK(failure([&] { (void)disk.set_up(); }) == Errc::untrusted_metadata);
  }
  SECTION("in a root directory of another user's") {
    const Disk disk("mode=0755,uid=1001");
    CHECK(failure([&] { (void)disk.set_up(); }) == Errc::untrusted_metadata);
  }
}

TEST_CASE("root may mount something at the metadata directory") {
  if (!can_mount()) return;
  const Disk disk;
  REQUIRE(mkdir(disk.at("").c_str(), 0755) == 0);
  const ScopedMount mount = ScopedMount::tmpfs(disk.at(""), "mode=0755");
  bool changed = false;
  (void)MetadataRoot::create(disk.fd.get(), kRoot, false, changed);
  CHECK(disk.open_root());
  CHECK(failure([&] { MetadataRoot::remove(disk.fd.get(), kRoot); }) == Errc::untrusted_metadata);
  CHECK(disk.open_root());
}

TEST_CASE("a mount below the metadata directory is refused") {
  if (!can_mount()) return;
  const Disk disk;
  (void)disk.set_up();
  const ScopedMount mount = ScopedMount::tmpfs(disk.at("users"), "mode=0755");
  CHECK(failure([&] { (void)disk.open_root(); }) == Errc::untrusted_metadata);
}

TEST_CASE("a hanging FUSE mount at the metadata directory is refused without waiting for it") {
  if (!can_mount()) return;
  const Disk disk("mode=01777");
  REQUIRE(mkdir(disk.at("").c_str(), 0755) == 0);
  const ScopedMount mount = ScopedMount::hanging(disk.at(""), kAlice.uid);
  CHECK(run_as(
      0, [&] { return failure([&] { (void)disk.open_root(); }) == Errc::untrusted_metadata; }));
}

TEST_CASE("an ordinary user cannot set up root's filesystem, but can look") {
  if (!can_mount()) return;
  const Disk disk;
  CHECK(run_as(kAlice.uid, [&] {
    return failure([&] { (void)disk.set_up(); }) == Errc::permission && !disk.open_root();
  }));
  (void)disk.set_up();
  CHECK(run_as(kAlice.uid, [&] { return disk.open_root().has_value(); }));
}

TEST_CASE("a removable disk's owner sets it up, and root does so as the owner") {
  if (!can_mount()) return;
  const uid_t caller = GENERATE(kRoot.uid, kAlice.uid);
  const Disk disk("mode=0755,uid=1000,gid=1000");
  CHECK(run_as(caller, [&] {
    const MetadataRoot root = disk.set_up(false, kAlice);
    bool changed = false;
    (void)UserStore::create(root, kAlice, changed);
    return changed && disk.open_root(kAlice).has_value();
  }));
  CHECK(owner_of(disk.at("")) == kAlice.uid);
  CHECK(owner_of(disk.at("users")) == kAlice.uid);
  CHECK(owner_of(disk.at("users/1000")) == kAlice.uid);
  CHECK(failure([&] { (void)disk.open_root(kRoot); }) == Errc::untrusted_metadata);
  MetadataRoot::remove(disk.fd.get(), kAlice);
  CHECK_FALSE(disk.open_root(kAlice));
}

TEST_CASE("users are those whose name and owner agree") {
  if (!can_mount()) return;
  const Disk disk;
  const MetadataRoot root = disk.set_up();
  const auto entry = [&](const char* name, Identity owner) {
    REQUIRE(mkdir(disk.at("users/" + std::string(name)).c_str(), 0700) == 0);
    give(disk.at("users/" + std::string(name)), owner);
  };
  entry("1001", kBob);
  entry("1000", kAlice);
  entry("0", kRoot);
  entry("1002", kAlice);                   // squatted
  entry("01000", kAlice);                  // written otherwise
  entry("alice", kAlice);                  // a name
  entry(".squatted-1", kBob);              // moved aside
  entry("65534", Identity{65534, 65534});  // nobody in particular
  entry("99999999999", kAlice);            // no uid
  std::vector<uid_t> uids;
  for (const Identity user : root.users()) uids.push_back(user.uid);
  CHECK(uids == std::vector<uid_t>{0, 1000, 1001});
}

TEST_CASE("a user's mount over her directory hides neither her nor the others") {
  if (!can_mount()) return;
  const Disk disk;
  (void)disk.store_of(kAlice);
  (void)disk.store_of(kBob);
  const ScopedMount mount = ScopedMount::hanging(disk.at("users/1000"), kAlice.uid);
  CHECK(run_as(0, [&] {
    const MetadataRoot root = disk.open_root().value();
    const std::vector<Identity> users = root.users();
    return users.size() == 2 && users[0].uid == kAlice.uid &&
           failure([&] { (void)UserStore::open(root, users[0]); }) == Errc::untrusted_metadata &&
           UserStore::open(root, users[1]).has_value();
  }));
}

TEST_CASE("removing takes all metadata away") {
  if (!can_mount()) return;
  const Disk disk;
  (void)store_with_policy(disk);
  (void)disk.store_of(kBob);
  put(disk.at("users/stray"), "", kBob);
  fs::create_directories(disk.at("users/1001/policies/deeper/still"));
  give(disk.at("users/1001/policies"), kBob);
  give(disk.at("users/1001/policies/deeper"), kBob);
  MetadataRoot::remove(disk.fd.get(), kRoot);
  CHECK_FALSE(fs::exists(disk.at("")));
  MetadataRoot::remove(disk.fd.get(), kRoot);  // again is no mistake
}

TEST_CASE("removing follows no symlink and enters no mount") {
  if (!can_mount()) return;
  const Disk disk;
  (void)disk.store_of(kAlice);
  const std::string precious = disk.directory.path() + "/precious";
  fs::create_directory(precious);
  put(precious + "/file", "precious", kAlice);
  give(precious, kAlice);
  SECTION("a symlink") {
    fs::create_directory_symlink(precious, disk.at("users/1000/policies"));
    fs::create_directory_symlink(precious, disk.at("users/1001"));
    MetadataRoot::remove(disk.fd.get(), kRoot);
    CHECK_FALSE(fs::exists(disk.at("")));
  }
  SECTION("a mount") {
    fs::create_directory(disk.at("users/1000/policies"));
    const ScopedMount mount = ScopedMount::tmpfs(disk.at("users/1000/policies"), "mode=0777");
    put(disk.at("users/1000/policies/file"), "precious", kAlice);
    CHECK(failure([&] { MetadataRoot::remove(disk.fd.get(), kRoot); }) == Errc::untrusted_metadata);
    CHECK(get(disk.at("users/1000/policies/file")) == "precious");
  }
  CHECK(get(precious + "/file") == "precious");
}

TEST_CASE("removing uses no rights that the user does not have") {
  if (!can_mount()) return;
  const Disk disk;
  (void)disk.store_of(kAlice);
  // What Bob keeps in a directory that Alice could move, but not empty.
  fs::create_directories(disk.at("users/1000/policies/bobs"));
  give(disk.at("users/1000/policies"), kAlice);
  put(disk.at("users/1000/policies/bobs/file"), "precious", kBob);
  give(disk.at("users/1000/policies/bobs"), kBob);
  CHECK(failure([&] { MetadataRoot::remove(disk.fd.get(), kRoot); }) == Errc::permission);
  CHECK(get(disk.at("users/1000/policies/bobs/file")) == "precious");
}

// --- A user's directory ---

TEST_CASE("root makes a user's directory, and it is the user's alone") {
  if (!can_mount()) return;
  const Umask umask(GENERATE(0U, 0077U));
  const Disk disk;
  const MetadataRoot root = disk.set_up(GENERATE(false, true));
  CHECK_FALSE(UserStore::open(root, kAlice));
  bool changed = false;
  (void)UserStore::create(root, kAlice, changed);
  CHECK(changed);
  CHECK(owner_of(disk.at("users/1000")) == kAlice.uid);
  CHECK(mode_of(disk.at("users/1000")) == 0700);
  CHECK(UserStore::open(root, kAlice));
  (void)UserStore::create(root, kAlice, changed);
  CHECK_FALSE(changed);
  CHECK(std::distance(fs::directory_iterator(disk.at("users")), fs::directory_iterator()) == 1);
}

TEST_CASE("a user makes her own directory where that is open to all, and only her own") {
  if (!can_mount()) return;
  const Disk disk;
  (void)disk.set_up(false);
  const auto create = [&](Identity user) {
    bool changed = false;
    return failure([&] { (void)UserStore::create(disk.open_root().value(), user, changed); });
  };
  CHECK(run_as(kAlice.uid, [&] { return create(kAlice) == Errc::not_set_up; }));
  (void)disk.set_up(true);
  CHECK(run_as(kAlice.uid, [&] { return !create(kAlice); }));
  CHECK(run_as(kAlice.uid, [&] { return create(kBob) == Errc::permission; }));
  CHECK(owner_of(disk.at("users/1000")) == kAlice.uid);
  CHECK(mode_of(disk.at("users/1000")) == 0700);
}

TEST_CASE("another user's records are not hers to read") {
  if (!can_mount()) return;
  const Disk disk;
  (void)store_with_policy(disk);
  CHECK(run_as(kBob.uid, [&] {
    return failure([&] { (void)UserStore::open(disk.open_root().value(), kAlice); }) ==
           Errc::permission;
  }));
}

TEST_CASE("a squatted entry is moved aside by root and refused to the user") {
  if (!can_mount()) return;
  const Disk disk;
  const MetadataRoot root = disk.set_up(true);
  const std::string entry = disk.at("users/1000");
  SECTION("a directory of Bob's") {
    REQUIRE(mkdir(entry.c_str(), 0700) == 0);
    put(entry + "/file", "bob's", kBob);
    give(entry, kBob);
  }
  SECTION("an empty directory of root's") { REQUIRE(mkdir(entry.c_str(), 0700) == 0); }
  SECTION("a file of Bob's") { put(entry, "bob's", kBob); }
  SECTION("a symlink of Bob's") {
    fs::create_directory_symlink("/etc", entry);
    give(entry, kBob);
  }
  SECTION("a FIFO of Bob's") {
    REQUIRE(mkfifo(entry.c_str(), 0600) == 0);
    give(entry, kBob);
  }
  CHECK(failure([&] { (void)UserStore::open(root, kAlice); }) == Errc::untrusted_metadata);
  CHECK(run_as(kAlice.uid, [&] {
    bool changed = false;
    return failure([&] { (void)UserStore::create(disk.open_root().value(), kAlice, changed); }) ==
           Errc::untrusted_metadata;
  }));
  bool changed = false;
  write(UserStore::create(root, kAlice, changed), sample_policy());
  CHECK(changed);
  CHECK(owner_of(entry) == kAlice.uid);
  int aside = 0;
  for (const auto& found : fs::directory_iterator(disk.at("users"))) {
    if (found.path().filename().string().starts_with(".squatted-")) ++aside;
  }
  CHECK(aside == 1);
}

TEST_CASE("a user's directory that is open to others is not trusted") {
  if (!can_mount()) return;
  const Disk disk;
  (void)store_with_policy(disk);
  fs::permissions(disk.at("users/1000"), fs::perms{GENERATE(0750U, 0701U)});
  CHECK(failure([&] { (void)UserStore::open(disk.open_root().value(), kAlice); }) ==
        Errc::untrusted_metadata);
}

TEST_CASE("the id that stands for unknown users has no directory") {
  if (!can_mount()) return;
  const Disk disk;
  const MetadataRoot root = disk.set_up();
  CHECK(failure([&] {
          (void)UserStore::open(root, Identity{65534, 65534});
        }) == Errc::untrusted_metadata);
}

TEST_CASE(
    "while another user keeps taking the place of her directory, root still makes the right one") {
  if (!can_mount()) return;
  const Disk disk;
  const MetadataRoot root = disk.set_up(true);
  const std::string place = disk.at("users/1000");
  const Repeatedly squat(kBob.uid, [&] {
    static int round = 0;
    if (++round % 2 == 0) {
      mkdir(place.c_str(), 0777);
      rmdir(place.c_str());
    } else {
      (void)!symlink("/etc", place.c_str());
      unlink(place.c_str());
    }
  });
  int made = 0;
  const auto attempt = [&] {
    bool changed = false;
    const auto refused = failure([&] {
      write(UserStore::create(root, kAlice, changed), sample_policy());
      ++made;
    });
    if (refused) {
      REQUIRE(refused == Errc::untrusted_metadata);
      return;
    }
    REQUIRE(owner_of(place) == kAlice.uid);
    REQUIRE(mode_of(place) == 0700);
    REQUIRE(UserStore::open(root, kAlice).value().policy(kSampleId));
    fs::remove_all(place);
  };
  race(attempt, [&] { return made > 0; });
  CHECK(made > 0);
}

// --- Records ---

TEST_CASE("records are read as they were written") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  CHECK(store.policies().records.empty());
  CHECK_FALSE(store.policy(kSampleId));
  CHECK_FALSE(store.protector(sample_protector().summary.id));
  const UserStore::Lock lock = store.lock();
  store.write(lock, sample_policy());
  store.write(lock, sample_protector());
  CHECK(store.policy(kSampleId) == sample_policy());
  CHECK(store.protector(sample_protector().summary.id) == sample_protector());
  CHECK(store.policies().records == std::vector<PolicySummary>{sample_policy().summary});
  CHECK(store.protectors().records == std::vector<ProtectorSummary>{sample_protector().summary});
  CHECK(store.policies().damaged.empty());
  for (const std::string& path :
       {alices(policy_file(sample_policy())), alices(protector_file(sample_protector()))}) {
    CHECK(mode_of(disk.at(path)) == 0600);
    CHECK(owner_of(disk.at(path)) == kAlice.uid);
  }
  CHECK(mode_of(disk.at("users/1000/policies")) == 0700);
  CHECK(owner_of(disk.at("users/1000/policies")) == kAlice.uid);
}

TEST_CASE("a record is replaced whole") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  PolicyRecord changed = sample_policy();
  changed.summary.paths = {"alice/elsewhere"};
  write(store, changed);
  CHECK(store.policy(kSampleId) == changed);
  CHECK(store.policies().records.size() == 1);
}

TEST_CASE("what a record's summary repeats is derived from its wrappings") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  PolicyRecord policy = sample_policy();
  policy.summary.protectors.clear();
  ProtectorRecord protector = sample_protector();
  protector.summary.ways.clear();
  const UserStore::Lock lock = store.lock();
  store.write(lock, policy);
  store.write(lock, protector);
  CHECK(store.policy(kSampleId) == sample_policy());
  CHECK(store.protector(protector.summary.id) == sample_protector());
}

TEST_CASE("path hints that do not fit are left out of what is written") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  PolicyRecord record = sample_policy();
  record.summary.paths.assign(kMaxPaths, std::string(2000, 'x'));
  write(store, record);
  const auto written = store.policy(kSampleId);
  REQUIRE(written);
  CHECK_FALSE(written->summary.paths.empty());
  CHECK(written->summary.paths.size() < kMaxPaths);
}

TEST_CASE("a removed record is gone") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  const UserStore::Lock lock = store.lock();
  CHECK(store.remove(lock, kSampleId));
  CHECK_FALSE(store.remove(lock, kSampleId));
  CHECK_FALSE(store.remove(lock, sample_protector().summary.id));
  CHECK_FALSE(store.policy(kSampleId));
}

TEST_CASE("listings are sorted and end at their limit") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  const UserStore::Lock lock = store.lock();
  for (const std::uint32_t n : {5U, 3U, 4U}) store.write(lock, policy_number(n));
  const Listing<PolicySummary> all = store.policies();
  REQUIRE(all.records.size() == 3);
  CHECK(all.complete);
  CHECK(all.records[0].key_identifier == policy_number(3).summary.key_identifier);
  CHECK(all.records[2].key_identifier == policy_number(5).summary.key_identifier);
  CHECK(store.policy_ids() == std::vector{all.records[0].key_identifier,
                                          all.records[1].key_identifier,
                                          all.records[2].key_identifier});
  CHECK(store.policy_ids(2).size() == 2);
  CHECK(store.protector_ids().empty());
  const Listing<PolicySummary> some = store.policies(2);
  CHECK(some.records.size() == 2);
  CHECK_FALSE(some.complete);
}

TEST_CASE("one bad record stands beside the good ones") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  const std::string bad = policy_file(policy_number(1));
  const std::string path = disk.at(alices(bad));
  Errc expected = Errc::untrusted_metadata;
  SECTION("garbage") {
    put(path, "garbage", kAlice);
    expected = Errc::corrupt_metadata;
  }
  SECTION("an empty file") {
    put(path, "", kAlice);
    expected = Errc::corrupt_metadata;
  }
  SECTION("a huge file") {
    put(path, "", kAlice);
    fs::resize_file(path, std::uintmax_t{1} << 40U);
    expected = Errc::corrupt_metadata;
  }
  SECTION("a record of a later format") {
    put(path, "---\nformat: fscryptctl-policy-2\n", kAlice);
    expected = Errc::newer_format;
  }
  SECTION("a good record under another's name") {
    put(path, emit(sample_policy()), kAlice);
    expected = Errc::corrupt_metadata;
  }
  SECTION("a FIFO") {
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    give(path, kAlice);
  }
  SECTION("a device") {
    REQUIRE(mknod(path.c_str(), S_IFCHR | 0600, makedev(1, 5)) == 0);
    give(path, kAlice);
  }
  SECTION("a directory") {
    REQUIRE(mkdir(path.c_str(), 0700) == 0);
    give(path, kAlice);
  }
  SECTION("a symlink to root's file") {
    fs::create_symlink("/etc/shadow", path);
    give(path, kAlice);
  }
  SECTION("a hard link to root's file") {
    put(disk.at("roots"), emit(policy_number(1)), kRoot);
    fs::create_hard_link(disk.at("roots"), path);
  }
  SECTION("a hard link to a file of her own") {
    put(disk.at("hers"), emit(policy_number(1)), kAlice);
    fs::create_hard_link(disk.at("hers"), path);
  }
  SECTION("a good record of Bob's") { put(path, emit(policy_number(1)), kBob); }
  SECTION("a good record that others may write") {
    put(path, emit(policy_number(1)), kAlice);
    fs::permissions(path, fs::perms{0620});
  }
  const Listing<PolicySummary> listing = store.policies();
  CHECK(listing.records.size() == 1);
  REQUIRE(listing.damaged.size() == 1);
  CHECK(listing.damaged[0].file == alices(bad));
  CHECK(listing.damaged[0].uid == kAlice.uid);
  CHECK(listing.damaged[0].code == expected);
  CHECK_FALSE(listing.damaged[0].reason.empty());
  try {
    (void)store.policy(policy_number(1).summary.key_identifier);
    FAIL("the bad record was read");
  } catch (const Error& error) {
    CHECK(error.code() == expected);
    CHECK(error.path() == alices(bad));
  }
}

TEST_CASE("files that are no records are not looked at") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  const std::string id = kSampleId.hex();
  for (const std::string& name : {std::string(".tmp-0123"), id, id + ".yaml~", id + ".yaml.bak",
                                  id.substr(2) + ".yaml", std::string("README")}) {
    put(disk.at("users/1000/policies/" + name), "garbage", kAlice);
  }
  const Listing<PolicySummary> listing = store.policies();
  CHECK(listing.records.size() == 1);
  CHECK(listing.damaged.empty());
}

TEST_CASE("a record directory that is not hers alone is refused, and nothing is lost") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  const std::string policies = disk.at("users/1000/policies");
  const std::string before = get(disk.at(alices(policy_file(sample_policy()))));
  const std::string kept = disk.at("users/1000/kept");
  std::optional<ScopedMount> mount;
  SECTION("a symlink to root's directory") {
    fs::rename(policies, kept);
    fs::create_directory_symlink("/etc", policies);
  }
  SECTION("a symlink to a directory of her own") {
    fs::rename(policies, kept);
    fs::create_directory_symlink("kept", policies);
  }
  SECTION("a mount") { mount.emplace(ScopedMount::bind(policies)); }
  SECTION("a directory of Bob's") { give(policies, kBob); }
  SECTION("a directory that is open to others") { fs::permissions(policies, fs::perms{0770}); }
  SECTION("a file") {
    fs::rename(policies, kept);
    put(policies, "", kAlice);
  }
  const Listing<PolicySummary> listing = store.policies();
  CHECK(listing.records.empty());
  REQUIRE(listing.damaged.size() == 1);
  CHECK(listing.damaged[0].file == "users/1000/policies");
  CHECK(listing.damaged[0].code == Errc::untrusted_metadata);
  CHECK(failure([&] { (void)store.policy(kSampleId); }) == Errc::untrusted_metadata);
  CHECK(failure([&] { write(store, sample_policy()); }) == Errc::untrusted_metadata);
  CHECK(store.protectors().damaged.empty());
  mount.reset();
  const std::string file = kSampleId.hex() + ".yaml";
  CHECK(get((fs::exists(kept) ? kept : policies) + '/' + file) == before);
  CHECK_FALSE(fs::exists("/etc/" + file));
}

TEST_CASE("records are not written into an encrypted directory, where they would be locked") {
  if (!can_mount()) return;
  const Ext4 ext4;
  bool changed = false;
  const UserStore store =
      UserStore::create(MetadataRoot::create(ext4.fd(), kRoot, false, changed), kAlice, changed);
  const std::string policies = ext4.path() + "/.fscryptctl/users/1000/policies";
  REQUIRE(mkdir(policies.c_str(), 0700) == 0);
  LinuxKernel kernel;
  SecretBytes key(64);
  std::fill(key.writable().begin(), key.writable().end(), std::uint8_t{7});
  const KeyIdentifier id = kernel.add_key(ext4.fd(), key);
  kernel.set_policy(open_named(policies).fd.get(), {id, EncryptionOptions{}});
  give(policies, kAlice);
  const auto refuses = [&] {
    return failure([&] { write(store, sample_policy()); }) == Errc::untrusted_metadata;
  };
  CHECK(refuses());
  REQUIRE(kernel.remove_key(ext4.fd(), id, RemoveScope::own_claim) == RemoveOutcome::removed);
  CHECK(refuses());
}

TEST_CASE("while she swaps her record directory for others, root writes nothing elsewhere") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  const std::string roots = disk.directory.path() + "/roots";
  REQUIRE(mkdir(roots.c_str(), 0777) == 0);
  fs::permissions(roots, fs::perms{0777});
  const UniqueFd directory(open(disk.at("users/1000").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  fs::create_directory_symlink(roots, disk.at("users/1000/trap"));
  give(disk.at("users/1000/trap"), kAlice);
  const Repeatedly swap(kAlice.uid, [&] {
    renameat2(directory.get(), "policies", directory.get(), "trap", RENAME_EXCHANGE);
  });
  int written = 0;
  int refused = 0;
  const auto attempt = [&] {
    const auto refusal = failure([&] { write(store, sample_policy()); });
    ++(refusal ? refused : written);
    if (refusal) REQUIRE(refusal == Errc::untrusted_metadata);
  };
  race(attempt, [&] { return written > 0 && refused > 0; });
  CHECK(written > 0);
  CHECK(refused > 0);
  CHECK(fs::is_empty(roots));
}

TEST_CASE("while she swaps a record for links to root's file, that file stays as it is") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  put(disk.at("roots"), "root's secret", kRoot);
  const std::string file = disk.at(alices(policy_file(sample_policy())));
  const std::string trap = disk.at("users/1000/policies/trap");
  const std::string target = disk.at("roots");
  const Repeatedly swap(kAlice.uid, [&] {
    unlink(trap.c_str());
    (void)!symlink(target.c_str(), trap.c_str());
    renameat2(AT_FDCWD, file.c_str(), AT_FDCWD, trap.c_str(), RENAME_EXCHANGE);
    renameat2(AT_FDCWD, file.c_str(), AT_FDCWD, trap.c_str(), RENAME_EXCHANGE);
  });
  int trapped = 0;
  const auto attempt = [&] {
    std::optional<PolicyRecord> found;
    const auto read = failure([&] { found = store.policy(kSampleId); });
    if (read) REQUIRE(read == Errc::untrusted_metadata);
    if (read) ++trapped;
    if (!read) REQUIRE(found == sample_policy());
    // Her own trick may make the read-back find the symlink, never the write touch its target.
    const auto written = failure([&] { write(store, sample_policy()); });
    if (written) REQUIRE(written == Errc::untrusted_metadata);
  };
  race(attempt, [&] { return trapped > 0; });
  CHECK(trapped > 0);
  CHECK(get(disk.at("roots")) == "root's secret");
  CHECK(owner_of(disk.at("roots")) == kRoot.uid);
}

TEST_CASE("a record under its owner's write lease is busy") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  OtherProcess owner(kAlice.uid, [&](const OtherProcess::Ready& ready) {
    std::signal(SIGIO, SIG_IGN);
    const UniqueFd file(
        open(disk.at(alices(policy_file(sample_policy()))).c_str(), O_RDWR | O_CLOEXEC));
    if (fcntl(file.get(), F_SETLEASE, F_WRLCK) != 0) return false;
    ready();
    pause();
    return true;
  });
  CHECK(failure([&] { (void)store.policy(kSampleId); }) == Errc::metadata_locked);
  const Listing<PolicySummary> listing = store.policies();
  REQUIRE(listing.damaged.size() == 1);
  CHECK(listing.damaged[0].code == Errc::metadata_locked);
}

// --- Writers ---

TEST_CASE("a second writer waits for the first and gives up in the end") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  OtherProcess holder(kAlice.uid, [&](const OtherProcess::Ready& ready) {
    const UserStore own = UserStore::open(disk.open_root().value(), kAlice).value();
    const UserStore::Lock lock = own.lock();
    ready();
    std::this_thread::sleep_for(300ms);
    return true;
  });
  CHECK(failure([&] { (void)store.lock(50ms); }) == Errc::metadata_locked);
  CHECK(store.policy(kSampleId));  // readers wait for nobody
  CHECK_FALSE(failure([&] { (void)store.lock(10s); }));
  CHECK(holder.finish(1s));
}

TEST_CASE("a lock ends with its holder") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  { const UserStore::Lock lock = store.lock(0ms); }
  {
    const UserStore::Lock lock = store.lock(0ms);
    CHECK(failure([&] { (void)store.lock(0ms); }) == Errc::metadata_locked);
  }
  CHECK_FALSE(failure([&] { (void)store.lock(0ms); }));
}

TEST_CASE("a signal ends the wait for another writer") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  const UserStore::Lock lock = store.lock();
  OtherProcess waiting(0, [&](const OtherProcess::Ready& ready) {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigaction(SIGINT, &action, nullptr);
    ready();
    return failure([&] { (void)store.lock(10s); }) == Errc::interrupted;
  });
  // The signal may come before the wait begins, so it is sent until it has ended it.
  bool finished = false;
  for (int i = 0; i < 50 && !finished; ++i) {
    kill(waiting.pid(), SIGINT);
    finished = waiting.finish(20ms);
  }
  CHECK(finished);
}

TEST_CASE("the next writer removes what interrupted ones left") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  put(disk.at("users/1000/.tmp-0123456789abcdef"), "half", kAlice);
  put(disk.at("users/1000/other"), "kept", kAlice);
  (void)store.lock();
  CHECK_FALSE(fs::exists(disk.at("users/1000/.tmp-0123456789abcdef")));
  CHECK(fs::exists(disk.at("users/1000/other")));
  CHECK(store.policy(kSampleId));
}

TEST_CASE("a writer does not clean up for as long as a user likes") {
  if (!can_mount()) return;
  constexpr std::size_t kFolders = 3;
  constexpr std::size_t kEach = 2000;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  std::vector<std::string> folders;
  for (std::size_t i = 0; i < kFolders; ++i) {
    folders.push_back(disk.at("users/1000/.tmp-" + std::to_string(i)));
    fs::create_directory(folders.back());
    for (std::size_t j = 0; j < kEach; ++j) {
      put(folders.back() + "/" + std::to_string(j), "", kAlice);
    }
    REQUIRE(chown(folders.back().c_str(), kAlice.uid, kAlice.gid) == 0);
  }
  const auto left = [&] {
    std::size_t count = 0;
    for (const std::string& folder : folders) {
      if (!fs::exists(folder)) continue;
      count += static_cast<std::size_t>(
          std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
    }
    return count;
  };
  REQUIRE(left() == kFolders * kEach);
  (void)store.lock();
  const std::size_t after_one = left();
  CHECK(after_one > 0);
  CHECK(after_one < kFolders * kEach);
  (void)store.lock();
  CHECK(left() == 0);
}

TEST_CASE("a directory of records that was left half made is finished by the next writer") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  const std::string policies = disk.at("users/1000/policies");
  fs::create_directory(policies);
  REQUIRE(chown(policies.c_str(), kAlice.uid, kAlice.gid) == 0);
  fs::permissions(policies, fs::perms(01700));
  CHECK(store.policies().damaged.empty());
  write(store, sample_policy());
  CHECK(fs::status(policies).permissions() == fs::perms(0700));
  CHECK(store.policy(kSampleId));
}

TEST_CASE("the lock of one user's records does not permit writing another's") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore alice = disk.store_of(kAlice);
  const UserStore bob = disk.store_of(kBob);
  const UserStore::Lock lock = bob.lock();
  CHECK(failure([&] { alice.write(lock, sample_policy()); }) == Errc::internal);
  CHECK(failure([&] { (void)alice.remove(lock, kSampleId); }) == Errc::internal);
}

TEST_CASE("writers in several processes lose nothing of each other's") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = disk.store_of(kAlice);
  constexpr std::uint32_t kEach = 20;
  const auto writer = [&](std::uint32_t first) {
    return [&disk, first](const OtherProcess::Ready& ready) {
      const UserStore own = UserStore::open(disk.open_root().value(), kAlice).value();
      ready();
      for (std::uint32_t n = first; n < first + kEach; ++n) write(own, policy_number(n));
      return true;
    };
  };
  OtherProcess first(kAlice.uid, writer(0));
  OtherProcess second(kRoot.uid, writer(kEach));
  CHECK(first.finish(10s));
  CHECK(second.finish(10s));
  CHECK(store.policies().records.size() == 2 * kEach);
  CHECK(store.policies().damaged.empty());
}

TEST_CASE("a write that fails leaves the old record") {
  if (!can_mount()) return;
  Disk disk("mode=0755,size=64k");
  const UserStore store = store_with_policy(disk);
  PolicyRecord changed = sample_policy();
  changed.summary.paths = {std::string(4000, 'x')};
  SECTION("on a full disk") {
    std::ofstream(disk.directory.path() + "/filler") << std::string(1'000'000, 'x');
    CHECK(failure([&] { write(store, changed); }) == Errc::no_space);
  }
  SECTION("on a disk that has become read-only") {
    disk.mount.make_read_only();
    CHECK(failure([&] { write(store, changed); }) == Errc::io);
    CHECK(failure([&] { (void)store.remove(store.lock(), kSampleId); }) == Errc::io);
  }
  CHECK(store.policy(kSampleId) == sample_policy());
  CHECK(store.policies().records.size() == 1);
  CHECK(directory_names(open_named(disk.at("users/1000/policies")).fd.get(), 10).names.size() == 1);
}

TEST_CASE("a record that breaks the format's limits is not written over a good one") {
  if (!can_mount()) return;
  const Disk disk;
  const UserStore store = store_with_policy(disk);
  PolicyRecord broken = sample_policy();
  broken.wrappings.clear();
  CHECK(failure([&] { write(store, broken); }) == Errc::internal);
  CHECK(store.policy(kSampleId) == sample_policy());
}

// --- Cost; not run by default ---

TEST_CASE("listing thousands of records", "[.benchmark]") {
  if (!can_mount()) return;
  const Ext4 ext4("encrypt,^has_journal");
  constexpr std::uint32_t kCount = 7000;  // as many as the inodes of the scratch filesystem allow
  bool changed = false;
  const UserStore store =
      UserStore::create(MetadataRoot::create(ext4.fd(), kRoot, false, changed), kAlice, changed);
  write(store, sample_policy());
  const std::string policies = ext4.path() + "/.fscryptctl/users/1000/";
  std::vector<std::string> texts;
  for (std::uint32_t n = 0; n < kCount; ++n) {
    texts.push_back(emit(policy_number(n)));
    put(policies + policy_file(policy_number(n)), texts.back(), kAlice);
  }
  const auto microseconds = [](std::clock_t processor_time) {
    return 1e6 * static_cast<double>(processor_time) / CLOCKS_PER_SEC / kCount;
  };
  for (int round = 0; round < 5; ++round) {
    const auto start = std::clock();
    const Listing<PolicySummary> listing = store.policies();
    const auto listed = std::clock();
    for (const std::string& text : texts) (void)parse_policy_summary(text);
    const auto parsed = std::clock();
    REQUIRE(listing.records.size() == kCount + 1);
    WARN("per record: " << microseconds(listed - start) << " us, of these parsing "
                        << microseconds(parsed - listed) << " us");
  }
}
