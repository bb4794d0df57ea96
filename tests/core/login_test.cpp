#include "fscryptctl/core/login.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <ctime>

#include "fscryptctl/core/login_keys.h"

using namespace fscryptctl;

namespace {

constexpr KdfCosts kCheap{1, 64, 1};

Secret password(std::string_view text) { return {Source::login, SecretBytes(as_bytes(text))}; }

OpenProtector login_protector() {
  OpenProtector made = make_protector(password("old"), "login", kCheap);
  made.record.summary.user = "alice";
  made.record.summary.machine_id = std::string(32, 'a');
  return made;
}

bool opens(const ProtectorRecord& record, std::string_view text) {
  return std::any_of(record.wrappings.begin(), record.wrappings.end(), [&](const auto& wrapping) {
    if (!wrapping.kdf) return false;
    const WrappingKey key =
        derive_wrapping_key(SecretBytes(as_bytes(text)), wrapping.kdf->salt, wrapping.kdf->costs);
    return unwrap(key, context_of(record, wrapping), wrapping.wrapped).has_value();
  });
}

Mount mount(std::uint64_t id, std::uint64_t parent, const std::string& point,
            const std::string& type) {
  return {id, parent, 0, "/", point, type, "source", false};
}

std::vector<std::uint64_t> ids(const std::vector<Mount>& mounts) {
  std::vector<std::uint64_t> found;
  for (const Mount& one : mounts) found.push_back(one.id);
  return found;
}

}  // namespace

TEST_CASE("a newer login password keeps one previous one") {
  OpenProtector open = login_protector();
  open.record = with_newer_login_password(open, password("new"), kCheap, 1, 1);
  CHECK(opens(open.record, "old"));
  CHECK(opens(open.record, "new"));
  CHECK(newest_generation(open.record) == 2);
  open.record = with_newer_login_password(open, password("third"), kCheap, 7, 1);
  CHECK(opens(open.record, "old"));
  CHECK_FALSE(opens(open.record, "new"));
  CHECK(opens(open.record, "third"));
  CHECK(newest_generation(open.record) == 7);
  SECTION("the newest, if none is said to stay") {
    open.record = with_newer_login_password(open, password("fourth"), kCheap, 1, 0);
    CHECK(opens(open.record, "third"));
    CHECK_FALSE(opens(open.record, "old"));
  }
}

TEST_CASE("a copy keeps its own recovery key and gets the other's passwords") {
  const OpenProtector open = login_protector();
  ProtectorRecord with_key = open.record;
  ProtectorWrapping key;
  key.method = Method::recovery_key;
  key.generation = 5;
  with_key.wrappings.push_back(key);
  const ProtectorRecord newer = with_newer_login_password(open, password("new"), kCheap, 1, 1);
  const ProtectorRecord changed = with_login_wrappings(with_key, newer);
  CHECK(changed.wrappings.size() == 3);
  CHECK(changed.wrappings.back() == key);
  CHECK(opens(changed, "new"));
  SECTION("one without gets the other's") {
    CHECK(with_login_wrappings(open.record, with_key).wrappings == with_key.wrappings);
  }
}

TEST_CASE("hints decide for whom a protector is") {
  const OpenProtector open = login_protector();
  const LoginUser alice{{1000, 1000}, "alice", std::string(32, 'a')};
  CHECK(hints_at(open.record.summary, alice));
  CHECK_FALSE(hints_at(open.record.summary, {{1000, 1000}, "bob", std::string(32, 'a')}));
  CHECK_FALSE(hints_at(open.record.summary, {{1000, 1000}, "alice", std::string(32, 'b')}));
}

TEST_CASE("a login looks at nothing that is reached through a server") {
  const std::vector<Mount> mounts = {
      mount(1, 0, "/", "ext4"),
      mount(2, 1, "/net", "nfs4"),
      mount(3, 2, "/net/disk", "ext4"),
      mount(4, 1, "/nets", "ext4"),
      mount(5, 1, "/home/alice/disk", "ext4"),
      mount(6, 1, "/home/alice", "fuse.sshfs"),  // over a directory that has a mount in it
      mount(7, 1, "/srv", "autofs"),
      mount(8, 7, "/srv", "ext4"),  // what the automount was for
      mount(9, 8, "/srv/more", "f2fs"),
      mount(10, 4, "/nets", "fuse"),
  };
  CHECK(ids(mounts_for_login(mounts)) == std::vector<std::uint64_t>{1, 4, 8, 9});
}

TEST_CASE("a root that comes from a server hides no local disk") {
  const std::vector<Mount> mounts = {mount(1, 0, "/", "nfs"), mount(2, 1, "/home", "ext4")};
  CHECK(ids(mounts_for_login(mounts)) == std::vector<std::uint64_t>{2});
}

TEST_CASE("a budget stands still while a question is answered") {
  LoginBudget budget(std::chrono::milliseconds(50));
  budget.pause();
  timespec time{0, 80'000'000};
  nanosleep(&time, nullptr);
  CHECK(budget.left() > std::chrono::milliseconds(20));
  budget.resume();
  nanosleep(&time, nullptr);
  CHECK(budget.left() < std::chrono::milliseconds(1));
}
