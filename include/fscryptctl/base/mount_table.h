#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fscryptctl {

/// One line of mountinfo (proc_pid_mountinfo(5)), escapes decoded.
struct Mount {
  std::uint64_t id;
  std::uint64_t parent_id;
  dev_t device;
  std::string root;  ///< directory of the filesystem that is mounted; "/" for all of it
  std::string mount_point;
  std::string type;
  std::string source;
  bool read_only;                    ///< of the mount or of the filesystem
  std::string filesystem_options{};  ///< not the mount's own; as in mountinfo, still escaped
};

/// Parses the text of /proc/PID/mountinfo. Lines that cannot be understood are left out.
[[nodiscard]] std::vector<Mount> parse_mountinfo(std::string_view text);

/// The options of the mount's filesystem, decoded: "ro", "lowerdir=/a:/b". Only few callers need
/// them, and a machine may have thousands of mounts.
[[nodiscard]] std::vector<std::string> filesystem_options(const Mount& mount);

/// The calling process's mounts, in the kernel's order (a later one may cover an earlier one).
[[nodiscard]] std::vector<Mount> read_mount_table();

/// The mount with this id, or nullptr.
[[nodiscard]] const Mount* find_mount(const std::vector<Mount>& mounts, std::uint64_t id) noexcept;

/// True for types whose server may hang (nfs*, cifs, smb*, 9p, fuse*, autofs, ceph, ...): looked at
/// only when a user names a path on them.
[[nodiscard]] bool is_network_type(std::string_view type) noexcept;

/// The mount id of an open descriptor: statx, or /proc/self/fdinfo where statx does not tell.
[[nodiscard]] std::uint64_t mount_id_of(int fd);

}  // namespace fscryptctl
