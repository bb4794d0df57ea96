#include "fscryptctl/base/directory_listing.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "support/temporary_directory.h"

namespace fscryptctl {
namespace {

UniqueFd open_directory(const std::string& path) {
  return UniqueFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

TEST_CASE("every entry is listed once, whatever their number, with its kind", "[base][listing]") {
  const test::TemporaryDirectory directory;
  constexpr int kFiles = 3000;  // several buffers
  for (int number = 0; number < kFiles; ++number) {
    const std::string path = directory.path() + "/file" + std::to_string(number);
    REQUIRE(mknod(path.c_str(), S_IFREG | 0600, 0) == 0);
  }
  REQUIRE(mkdir((directory.path() + "/directory").c_str(), 0700) == 0);
  REQUIRE(symlink("file1", (directory.path() + "/link").c_str()) == 0);
  const UniqueFd fd = open_directory(directory.path());
  const bool shrinks = GENERATE(false, true);
  std::map<std::string, unsigned char> found;
  DirectoryListing listing;
  DirectoryEntry entry;
  while (listing.next(fd.get(), entry)) {
    CHECK(found.emplace(entry.name, entry.type).second);
    if (shrinks) listing.shrink();
  }
  CHECK(found.size() == kFiles + 2);
  CHECK(found["directory"] == DT_DIR);
  CHECK(found["link"] == DT_LNK);
  CHECK(found["file2999"] == DT_REG);
}

TEST_CASE("a directory that has been removed cannot be listed", "[base][listing]") {
  const test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/gone";
  REQUIRE(mkdir(path.c_str(), 0700) == 0);
  const UniqueFd fd = open_directory(path);
  REQUIRE(rmdir(path.c_str()) == 0);
  DirectoryListing listing;
  DirectoryEntry entry;
  try {
    static_cast<void>(listing.next(fd.get(), entry));
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::no_such_path);
  }
}

}  // namespace
}  // namespace fscryptctl
