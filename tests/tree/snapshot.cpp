#include "tree/snapshot.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <set>
#include <sstream>
#include <system_error>
#include <vector>

#include "fscryptctl/base/file.h"

namespace fscryptctl::test {
namespace {

[[noreturn]] void fail(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

std::string xattrs_of(const std::string& path) {
  std::vector<char> names(65536);
  const ssize_t size = llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0) fail(path);
  std::set<std::string> found;
  for (ssize_t at = 0; at < size;) {
    const std::string name = names.data() + at;
    at += static_cast<ssize_t>(name.size()) + 1;
    std::vector<char> value(65536);
    const ssize_t length = lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (length < 0) fail(path);
    found.insert(name + '=' + std::string(value.data(), static_cast<std::size_t>(length)));
  }
  std::string text;
  for (const std::string& xattr : found) text += " {" + xattr + '}';
  return text;
}

std::string flags_of(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
  if (!fd) fail(path);
  unsigned flags = 0;
  fsxattr extended{};
  ioctl(fd.get(), FS_IOC_GETFLAGS, &flags);
  ioctl(fd.get(), FS_IOC_FSGETXATTR, &extended);
  // Not what the filesystem sets by itself: extents, encryption, index and inline data.
  constexpr unsigned kOwn = 0x80000 | 0x800 | 0x1000 | 0x10000000 | 0x40000;
  std::ostringstream text;
  text << " flags " << std::hex << (flags & ~kOwn) << " project " << extended.fsx_projid;
  return text.str();
}

/// Where there is data and where there is none.
std::string layout_of(const std::string& path, off_t size) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
  std::string text;
  for (off_t at = 0; at < size;) {
    const off_t data = lseek(fd.get(), at, SEEK_DATA);
    if (data < 0) break;
    at = lseek(fd.get(), data, SEEK_HOLE);
    text += ' ' + std::to_string(data) + '-' + std::to_string(at);
  }
  return text;
}

class Maker {
 public:
  explicit Maker(std::string root) : root_(std::move(root)) {}

  Snapshot make() {
    add("");
    return std::move(result_);
  }

 private:
  void add(const std::string& relative) {
    const std::string path = root_ + relative;
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0) fail(path);
    result_[relative] = describe(path, relative, status);
    if (!S_ISDIR(status.st_mode)) return;
    std::set<std::string> names;
    // Listing must not change the time of access that is compared.
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC));
    if (!fd) fail(path);
    DIR* const listing = fdopendir(fd.release());
    while (const dirent* entry = readdir(listing)) names.insert(entry->d_name);
    closedir(listing);
    names.erase(".");
    names.erase("..");
    for (const std::string& name : names) add(relative + '/' + name);
  }

  std::string describe(const std::string& path, const std::string& relative,
                       const struct stat& status) {
    std::ostringstream text;
    text << "mode " << std::oct << status.st_mode << std::dec << " owner " << status.st_uid << ':'
         << status.st_gid;
    // A symlink cannot be read without changing that.
    if (!S_ISLNK(status.st_mode)) {
      text << " accessed " << status.st_atim.tv_sec << '.' << status.st_atim.tv_nsec;
    }
    text << " modified " << status.st_mtim.tv_sec << '.' << status.st_mtim.tv_nsec;
    text << xattrs_of(path);
    if (S_ISDIR(status.st_mode)) {
      text << flags_of(path);
      return text.str();
    }
    const std::string first = first_name_.try_emplace(status.st_ino, relative).first->second;
    // Special files are given further names, in both trees.
    const bool special = !S_ISLNK(status.st_mode) && !S_ISREG(status.st_mode);
    if (!special) text << " links " << status.st_nlink;
    text << " first " << first;
    if (S_ISLNK(status.st_mode)) {
      text << " -> " << std::filesystem::read_symlink(path).string();
      // Reading must not change the time of access that is compared.
      const std::array<timespec, 2> times = {status.st_atim, status.st_mtim};
      utimensat(AT_FDCWD, path.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
    } else if (S_ISREG(status.st_mode)) {
      text << flags_of(path) << " size " << status.st_size << layout_of(path, status.st_size)
           << " contents ";
      const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
      std::array<char, 65536> buffer{};
      for (ssize_t size = 1; size > 0;) {
        size = read(fd.get(), buffer.data(), buffer.size());
        if (size > 0) text.write(buffer.data(), size);
      }
    } else {
      text << " device " << status.st_rdev;
    }
    return text.str();
  }

  std::string root_;
  Snapshot result_;
  std::map<ino_t, std::string> first_name_;
};

}  // namespace

Snapshot snapshot(const std::string& root) { return Maker(root).make(); }

std::string first_difference(const Snapshot& a, const Snapshot& b) {
  constexpr std::size_t kShown = 600;
  for (const auto& [path, text] : a) {
    const auto found = b.find(path);
    if (found == b.end()) return "only in the first: " + path;
    if (found->second != text) {
      return path + "\n  " + text.substr(0, kShown) + "\n  " + found->second.substr(0, kShown);
    }
  }
  for (const auto& [path, text] : b) {
    if (!a.contains(path)) return "only in the second: " + path;
  }
  return {};
}

}  // namespace fscryptctl::test
