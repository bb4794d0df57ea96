#include "tree/sample_tree.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <random>
#include <system_error>
#include <vector>

namespace fscryptctl::test {
namespace {

void require(bool fact, const std::string& what) {
  if (!fact) throw std::system_error(errno, std::generic_category(), what);
}

SecretBytes raw_key(std::uint8_t byte) {
  SecretBytes key(64);
  std::ranges::fill(key.writable(), byte);
  return key;
}

void append_le(std::string& out, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

class Grower {
 public:
  explicit Grower(unsigned seed) : random_(seed) {}

  void grow(const std::string& directory, int depth) {
    const unsigned entries = 2 + below(7);
    for (unsigned i = 0; i < entries; ++i) add_entry(directory + '/' + name(), depth);
    decorate(directory, true);
  }

 private:
  unsigned below(unsigned limit) {
    return std::uniform_int_distribution<unsigned>(0, limit - 1)(random_);
  }
  bool one_in(unsigned count) { return below(count) == 0; }

  std::string name() {
    const std::string number = std::to_string(next_++);
    switch (below(6)) {
      case 0:
        return "n\xff\xfe\x80 \n" + number;  // no text at all
      case 1:
        return std::string(255 - number.size(), 'l') + number;
      case 2:
        return ".hidden" + number;
      default:
        return "file" + number;
    }
  }

  void add_entry(const std::string& path, int depth) {
    switch (below(12)) {
      case 0:
      case 1:
      case 2:
        if (depth == 0) return;
        require(mkdir(path.c_str(), 0755) == 0, path);
        return grow(path, depth - 1);
      case 3:
        require(symlink(std::string(1 + below(900), 't').c_str(), path.c_str()) == 0, path);
        if (one_in(2)) require(lchown(path.c_str(), 61001, 61002) == 0, path);
        if (one_in(2)) set_xattr(path, "trusted.note", "of a link");
        return set_times(path, below(1U << 30), below(1U << 30));
      case 4:
        return add_special(path);
      case 5:
        if (!files_.empty()) {
          const std::string& other = files_[below(static_cast<unsigned>(files_.size()))];
          require(link(other.c_str(), path.c_str()) == 0, path);
          return;
        }
        [[fallthrough]];
      default:
        return add_file(path);
    }
  }

  void add_special(const std::string& path) {
    constexpr std::array<mode_t, 4> kTypes = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    require(mknod(path.c_str(), kTypes[below(4)] | 0640, makedev(1, 3)) == 0, path);
    if (one_in(2)) require(chown(path.c_str(), 61001, 61001) == 0, path);
  }

  void add_file(const std::string& path) {
    write_file(path, {});
    const UniqueFd file(open(path.c_str(), O_RDWR | O_CLOEXEC));
    const unsigned pieces = below(4);
    off_t at = one_in(3) ? 8192 : 0;  // a hole at the beginning
    for (unsigned i = 0; i < pieces; ++i) {
      std::string piece(below(20000), '\0');
      std::ranges::generate(piece, [&] { return static_cast<char>(random_()); });
      require(
          pwrite(file.get(), piece.data(), piece.size(), at) == static_cast<ssize_t>(piece.size()),
          path);
      at += static_cast<off_t>(piece.size()) + (one_in(2) ? 65536 : 0);
    }
    if (one_in(3)) require(ftruncate(file.get(), at + 100000) == 0, path);  // and at the end
    decorate(path, false);
    if (link_targets_allowed(path)) files_.push_back(path);
  }

  static bool link_targets_allowed(const std::string& path) {
    const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    unsigned flags = 0;
    return ioctl(file.get(), FS_IOC_GETFLAGS, &flags) == 0 &&
           (flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) == 0;
  }

  void decorate(const std::string& path, bool directory) {
    if (one_in(3)) require(chown(path.c_str(), 61001 + below(2), 61001 + below(2)) == 0, path);
    const std::array<mode_t, 6> modes = {0755, 0000, 04755, 02711, 0444, 01777};
    require(chmod(path.c_str(), modes[below(modes.size())]) == 0, path);
    if (one_in(3)) set_xattr(path, "user.small", "value");
    if (one_in(4)) set_xattr(path, "user.bytes", std::string(1 + below(500), '\xff'));
    if (one_in(5)) set_xattr(path, "trusted.empty", "");
    if (one_in(4)) set_xattr(path, "system.posix_acl_access", acl_value(61003, below(8)));
    if (directory && one_in(3))
      set_xattr(path, "system.posix_acl_default", acl_value(61004, below(8)));
    if (!directory && one_in(4)) set_xattr(path, "security.capability", capability_value());
    set_times(path, below(1U << 30), below(1U << 30));
    if (one_in(4)) set_flags(path, FS_NODUMP_FL | FS_NOATIME_FL);
    if (directory && one_in(8)) set_flags(path, FS_DIRSYNC_FL);
    if (one_in(8)) set_flags(path, one_in(2) ? FS_IMMUTABLE_FL : FS_APPEND_FL);
  }

  std::mt19937 random_;
  unsigned next_ = 0;
  std::vector<std::string> files_;
};

}  // namespace

TreeFilesystem::TreeFilesystem(const std::string& features) : ext4_(features) {}

std::string TreeFilesystem::make_plain(const std::string& name) const {
  require(mkdir(path(name).c_str(), 0700) == 0, name);
  return path(name);
}

std::string TreeFilesystem::make_encrypted(const std::string& name, std::uint8_t key) {
  std::string made = make_plain(name);
  const KeyIdentifier identifier = kernel_.add_key(ext4_.fd(), raw_key(key));
  kernel_.set_policy(open_directory(made).get(), {identifier, {}});
  return made;
}

void TreeFilesystem::add_key(std::uint8_t key) { kernel_.add_key(ext4_.fd(), raw_key(key)); }

void TreeFilesystem::remove_key(std::uint8_t key) {
  const KeyIdentifier identifier = kernel_.add_key(ext4_.fd(), raw_key(key));
  REQUIRE(kernel_.remove_key(ext4_.fd(), identifier, RemoveScope::own_claim) ==
          RemoveOutcome::removed);
}

UniqueFd open_directory(const std::string& path) {
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  require(static_cast<bool>(directory), path);
  return directory;
}

void write_file(const std::string& path, const std::string& contents, mode_t mode) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  require(static_cast<bool>(file), path);
  require(
      write(file.get(), contents.data(), contents.size()) == static_cast<ssize_t>(contents.size()),
      path);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void set_xattr(const std::string& path, const std::string& name, const std::string& value) {
  require(lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) == 0, path + name);
}

void set_times(const std::string& path, std::int64_t accessed, std::int64_t modified) {
  const std::array<timespec, 2> times = {timespec{accessed, 123456789},
                                         timespec{modified, 987654321}};
  require(utimensat(AT_FDCWD, path.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) == 0, path);
}

void set_flags(const std::string& path, unsigned flags) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
  unsigned old = 0;
  require(ioctl(file.get(), FS_IOC_GETFLAGS, &old) == 0, path);
  flags |= old;
  require(ioctl(file.get(), FS_IOC_SETFLAGS, &flags) == 0, path);
}

std::string acl_value(uid_t user, unsigned permissions) {
  std::string value;
  append_le(value, 2, 4);  // version
  const auto add = [&](unsigned tag, unsigned allowed, std::uint32_t id) {
    append_le(value, tag, 2);
    append_le(value, allowed, 2);
    append_le(value, id, 4);
  };
  constexpr std::uint32_t kNobody = 0xffffffff;
  add(0x01, 7, kNobody);  // owner
  add(0x02, permissions, user);
  add(0x04, 5, kNobody);  // group
  add(0x10, 7, kNobody);  // mask
  add(0x20, 1, kNobody);  // others
  return value;
}

std::string capability_value() {
  std::string value;
  append_le(value, 0x02000001, 4);  // revision 2, effective
  append_le(value, 1U << 13, 4);
  append_le(value, 0, 4);
  append_le(value, 0, 4);
  append_le(value, 0, 4);
  return value;
}

void make_sample_tree(const std::string& root, unsigned seed) { Grower(seed).grow(root, 3); }

}  // namespace fscryptctl::test
