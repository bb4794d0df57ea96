#include "tree/writeback.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tree/sample_tree.h"

namespace fscryptctl::test {
namespace {

constexpr std::size_t kFileSize = std::size_t{64} << 10;

/// Whether the kernel has begun to write it: until then its blocks have no place on the disk.
bool is_written(int fd) {
  std::vector<char> buffer(sizeof(fiemap) + sizeof(fiemap_extent));
  auto* const map = reinterpret_cast<fiemap*>(buffer.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_extent_count = 1;
  REQUIRE(ioctl(fd, FS_IOC_FIEMAP, map) == 0);
  REQUIRE(map->fm_mapped_extents == 1);
  return (map->fm_extents[0].fe_flags & FIEMAP_EXTENT_DELALLOC) == 0;
}

/// Files in the cache, and nowhere else.
std::vector<UniqueFd> make_files(const std::string& directory, int count) {
  std::vector<UniqueFd> files;
  for (int number = 0; number < count; ++number) {
    const std::string path = directory + "/file" + std::to_string(number);
    write_file(path, std::string(kFileSize, 'x'));
    files.emplace_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE_FALSE(is_written(files.back().get()));
  }
  return files;
}

TEST_CASE("small files are written while more are copied", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string directory = filesystem.make_encrypted("encrypted");
  const std::vector<UniqueFd> files = make_files(directory, 64);
  Writeback writeback(open_directory(directory).get());
  for (const UniqueFd& file : files) writeback.add(file.get(), kFileSize);
  bool written = false;
  for (int patience = 0; patience < 1000 && !written; ++patience) {
    written = is_written(files.front().get());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(written);
}

TEST_CASE("whoever adds more than can be written together writes it", "[tree]") {
  if (!can_mount()) return;
  TreeFilesystem filesystem;
  const std::string directory = filesystem.make_encrypted("encrypted");
  const std::vector<UniqueFd> files = make_files(directory, 1);
  Writeback writeback(open_directory(directory).get());
  writeback.add(files.front().get(), std::uint64_t{1} << 30);
  CHECK(is_written(files.front().get()));
}

}  // namespace
}  // namespace fscryptctl::test
