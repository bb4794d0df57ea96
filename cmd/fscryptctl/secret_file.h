#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "fscryptctl/base/file.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// A file, pipe or standard input ("-") that a secret is read from with read(2), never further than
/// said. All throw interrupted and io.
class SecretFile {
 public:
  /// Throws no_such_path, permission.
  explicit SecretFile(const std::string& file);

  /// The first line without its newline, read byte by byte so that the rest stays. A last line
  /// needs no newline. Throws missing_input (at the end already), usage (empty, longer than
  /// kMaxPassphraseSize, NUL).
  [[nodiscard]] SecretBytes line();

  /// As line(), but it may be empty; nullopt at the end.
  [[nodiscard]] std::optional<SecretBytes> next_line();

  /// Up to `size` bytes; fewer at the end.
  [[nodiscard]] SecretBytes bytes(std::size_t size);

  /// Bytes of a regular file that have not been read yet; nullopt for pipes and devices.
  [[nodiscard]] std::optional<std::uint64_t> remaining() const;

  /// For messages: "standard input" or the printable file name.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  [[nodiscard]] std::size_t read_some(std::span<std::uint8_t> out);

  UniqueFd opened_;  ///< not standard input
  int fd_;
  std::string name_;
  std::string path_;
};

/// `text` without the lines that begin with '#': files with recovery keys explain themselves in
/// them.
[[nodiscard]] SecretBytes without_comments(const SecretBytes& text);

}  // namespace fscryptctl
