#pragma once

#include <filesystem>
#include <string>
#include <system_error>

#include <cerrno>
#include <cstdlib>

namespace fscryptctl::test {

/// An empty directory, 0755 so that tests can enter it as other users, gone with all that is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_("/tmp/fscryptctl-test-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) {
      throw std::system_error(errno, std::generic_category(), "mkdtemp");
    }
    std::filesystem::permissions(path_, std::filesystem::perms{0755});
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

}  // namespace fscryptctl::test
