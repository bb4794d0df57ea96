#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "fscryptctl/base/file.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "support/ext4_fixture.h"

namespace fscryptctl::test {

/// A real filesystem on which directories can be encrypted.
class TreeFilesystem {
 public:
  explicit TreeFilesystem(const std::string& features = "encrypt");

  [[nodiscard]] const Ext4& ext4() const noexcept { return ext4_; }
  [[nodiscard]] Ext4& ext4() noexcept { return ext4_; }
  [[nodiscard]] std::string path(const std::string& name) const {
    return ext4_.path() + '/' + name;
  }
  [[nodiscard]] std::string make_plain(const std::string& name) const;
  /// `key` tells policies apart.
  [[nodiscard]] std::string make_encrypted(const std::string& name, std::uint8_t key = 1);
  void add_key(std::uint8_t key);
  void remove_key(std::uint8_t key);

 private:
  Ext4 ext4_;
  LinuxKernel kernel_;
};

[[nodiscard]] UniqueFd open_directory(const std::string& path);
void write_file(const std::string& path, const std::string& contents, mode_t mode = 0644);
[[nodiscard]] std::string read_file(const std::string& path);
void set_xattr(const std::string& path, const std::string& name, const std::string& value);
void set_times(const std::string& path, std::int64_t accessed, std::int64_t modified);
void set_flags(const std::string& path, unsigned flags);
/// system.posix_acl_access or _default with one named user.
[[nodiscard]] std::string acl_value(uid_t user, unsigned permissions);
/// cap_net_raw, permitted and effective.
[[nodiscard]] std::string capability_value();

/// A tree with everything that one can have, other for each seed. Needs root.
void make_sample_tree(const std::string& root, unsigned seed);

}  // namespace fscryptctl::test
