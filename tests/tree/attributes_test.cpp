#include "fscryptctl/tree/attributes.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/tree/move.h"
#include "support/other_process.h"
#include "tree/sample_tree.h"
#include "tree/stash.h"

namespace fscryptctl::test {
namespace {

constexpr uid_t kAlice = 61001;

Attributes sample() {
  return {.mode = S_IFDIR | 02751,
          .uid = 4000000000,
          .gid = 7,
          .accessed = {-1, 999999999},
          .modified = {1LL << 33, 1},
          .flags = FS_NODUMP_FL,
          .project = 12,
          .xattrs = {{"security.x", std::string("\0\xff", 2)}, {"user.a", ""}}};
}

TEST_CASE("remembered attributes are read as they were written, or not at all", "[tree]") {
  const std::string bytes = encode_attributes(sample());
  REQUIRE(decode_attributes(bytes) == sample());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK(decode_attributes(bytes.substr(0, size)) == std::nullopt);
  }
  CHECK(decode_attributes(bytes + 'x') == std::nullopt);
  CHECK(decode_attributes('\2' + bytes.substr(1)) == std::nullopt);
  // A count that nothing follows must not take memory for it.
  CHECK(decode_attributes(bytes.substr(0, 45) + "\xff\xff\xff\xff") == std::nullopt);
}

TEST_CASE("each attribute that differs is named", "[tree]") {
  const Attributes a = sample();
  Attributes b = a;
  CHECK(difference(a, b) == std::nullopt);
  const auto changed = [&](const auto& change) {
    b = a;
    change(b);
    return difference(a, b).value_or("none");
  };
  CHECK(changed([](auto& x) { x.mode ^= 1; }) == "mode");
  CHECK(changed([](auto& x) { ++x.uid; }) == "owner");
  CHECK(changed([](auto& x) { ++x.gid; }) == "group");
  CHECK(changed([](auto& x) { ++x.modified.nanoseconds; }) == "time of modification");
  CHECK(changed([](auto& x) { ++x.accessed.nanoseconds; }) == "time of access");
  CHECK(difference(a, b, false) == std::nullopt);
  CHECK(changed([](auto& x) { x.flags = 0; }) == "flags");
  CHECK(changed([](auto& x) { ++x.project; }) == "project");
  CHECK(changed([](auto& x) { x.xattrs[1].second = "x"; }) == "xattr user.a");
  CHECK(changed([](auto& x) { x.xattrs.pop_back(); }) == "xattr user.a");
  CHECK(changed([](auto& x) { x.xattrs.emplace_back("user.b", ""); }) == "xattr user.b");
}

TEST_CASE("what was inherited goes, and what was set stays", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  set_xattr(plain, "system.posix_acl_default", acl_value(61004, 7));
  set_flags(plain, FS_NODUMP_FL);
  write_file(plain + "/inherits", "x");
  set_xattr(plain + "/inherits", "user.more", "x");
  set_flags(plain + "/inherits", FS_IMMUTABLE_FL);
  const UniqueFd file(open((plain + "/inherits").c_str(), O_RDONLY));
  const Attributes wanted = {
      .mode = S_IFREG | 06711,
      .uid = kAlice,
      .gid = 61002,
      .accessed = {1000, 1},
      .modified = {2000, 999999999},
      .flags = FS_APPEND_FL,
      .xattrs = {{"security.capability", capability_value()}, {"user.kept", "y"}}};
  apply_attributes(file.get(), wanted);
  CHECK(difference(read_attributes(file.get()), wanted) == std::nullopt);
  apply_attributes(file.get(), wanted);
  CHECK(difference(read_attributes(file.get()), wanted) == std::nullopt);
}

TEST_CASE("root follows an owner's memory only where she could do all that herself", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string plain = filesystem.make_plain("plain");
  REQUIRE(chown(plain.c_str(), kAlice, kAlice) == 0);
  const UniqueFd directory = open_directory(plain);
  Attributes wanted = read_attributes(directory.get());
  wanted.mode = S_IFDIR | 0711;
  wanted.modified = {5, 5};
  const auto forge = [&] {
    set_xattr(plain, kStash, encode_attributes(wanted));
    return find_stash(directory.get());
  };
  CHECK(forge() == wanted);
  CHECK(attributes_without_stash(directory.get()).xattrs.empty());
  SECTION("another's") { wanted.uid = 0; }
  SECTION("another group") { wanted.gid = 0; }
  SECTION("immutable") { wanted.flags = FS_IMMUTABLE_FL; }
  SECTION("trusted attributes") { wanted.xattrs = {{"trusted.overlay.opaque", "y"}}; }
  SECTION("capabilities") { wanted.xattrs = {{"security.capability", capability_value()}}; }
  SECTION("of a file") { wanted.mode = S_IFREG | 0711; }
  CHECK(forge() == std::nullopt);
  // What root itself remembered counts.
  put_stash(directory.get(), wanted);
  CHECK(find_stash(directory.get()) == wanted);
}

}  // namespace
}  // namespace fscryptctl::test
