#pragma once

#include <string>

#include "fscryptctl/base/file.h"

namespace fscryptctl::test {

/// Something mounted on `path` while this lives. Call can_mount() before.
class ScopedMount {
 public:
  /// A tmpfs; `options` as "size=64k,mode=0755".
  [[nodiscard]] static ScopedMount tmpfs(const std::string& path, const std::string& options);
  /// `path` itself once more, on top.
  [[nodiscard]] static ScopedMount bind(const std::string& path);
  /// A FUSE filesystem whose server never answers: all but O_PATH and the mount's id hangs. `path`
  /// may be a directory or a regular file. With `uid` as its owner, as fusermount mounts for users.
  [[nodiscard]] static ScopedMount hanging(const std::string& path, uid_t uid);

  ScopedMount(ScopedMount&& other) noexcept
      : path_(std::exchange(other.path_, {})), server_(std::move(other.server_)) {}
  ScopedMount& operator=(ScopedMount&&) = delete;
  ~ScopedMount();

  void make_read_only();

 private:
  explicit ScopedMount(std::string path) : path_(std::move(path)) {}

  std::string path_;
  UniqueFd server_;
};

}  // namespace fscryptctl::test
