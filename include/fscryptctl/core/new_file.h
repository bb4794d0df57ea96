#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/base/file.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// A file that a person wants made: in a directory that is there, under a name that must be free.
/// For its owner alone, durable, and never in the place of anything.
class NewFile {
 public:
  /// Opens the directory. Throws usage (no name for a file), no_such_path, permission.
  explicit NewFile(std::string path);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int directory_fd() const noexcept { return directory_.get(); }

  /// Throws exists if the name is taken. To be known before anything is asked.
  void require_free() const;

  /// Makes it. Throws exists, no_space, io, permission.
  void write(std::string_view contents) const;
  /// The same for a secret, of which no copy is made on the way.
  void write(const SecretBytes& secret) const;

  /// Takes it away again. Never throws.
  void remove() const noexcept;

  /// False where the filesystem has no permissions to keep others out.
  [[nodiscard]] bool is_private() const;

 private:
  std::string path_;
  std::string name_;
  UniqueFd directory_;
};

/// The text of a regular file that a person named, and whether others than its owner can read it.
struct NamedText {
  std::string text;
  bool readable_by_others;
};
/// Throws no_such_path, usage (not a regular file), corrupt_metadata (larger than `max_size`).
[[nodiscard]] NamedText read_named_text(const std::string& path, std::size_t max_size);

}  // namespace fscryptctl
