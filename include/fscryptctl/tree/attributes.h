#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fscryptctl {

/// A file's time, as the filesystem keeps it.
struct FileTime {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
  auto operator<=>(const FileTime&) const = default;
};

/// Everything about a file beside its name, its links and its contents that a copy has to have.
struct Attributes {
  mode_t mode = 0;  ///< type and permissions
  uid_t uid = 0;
  gid_t gid = 0;
  FileTime accessed;
  FileTime modified;
  std::uint32_t flags = 0;    ///< FS_IOC_GETFLAGS, as far as a program may set them
  std::uint32_t project = 0;  ///< quota project
  /// Sorted by name; ACLs and capabilities are among them.
  std::vector<std::pair<std::string, std::string>> xattrs;

  bool operator==(const Attributes&) const = default;
};

/// Of an open file or directory, or of an O_PATH descriptor of a symlink or special file. Throws
/// io, permission.
[[nodiscard]] Attributes read_attributes(int fd);

/// Makes the file have exactly these, in the order that keeps each of them: owner, mode, xattrs,
/// times, flags. What a directory above made it inherit goes. Throws io, permission, no_space, with
/// the attribute in the message.
void apply_attributes(int fd, const Attributes& attributes);

/// The name of the first attribute that differs: "mode", "owner", "xattr user.x"; nullopt if none
/// does. Times of access count only if `with_access_time`.
[[nodiscard]] std::optional<std::string> difference(const Attributes& a, const Attributes& b,
                                                    bool with_access_time = true);

}  // namespace fscryptctl
