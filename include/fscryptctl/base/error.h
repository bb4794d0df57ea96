#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fscryptctl {

/// Everything that can go wrong, as precisely as a caller or a script may need to tell it apart.
/// The set is closed: switches over it are exhaustive. New entries go to the end of their group.
enum class Errc {
  // code "failure", exit 1
  io,
  no_space,
  key_quota,
  declined,
  internal,
  // code "usage", exit 2
  usage,
  missing_input,
  ambiguous,
  not_a_directory,
  filesystem_root,
  // code "wrong_key", exit 3
  wrong_key,
  stale_copy,
  previous_login_password,
  // code "not_found", exit 4
  no_such_path,
  no_such_user,
  not_set_up,
  not_managed,
  not_encrypted,
  no_such_policy,
  no_such_protector,
  // code "busy", exit 5
  files_in_use,
  other_users,
  metadata_locked,
  // code "unsupported", exit 6
  not_enabled,
  no_kernel_support,
  filesystem,
  mode,
  policy_version,
  // code "permission", exit 7
  permission,
  // code "corrupt_metadata", exit 8
  corrupt_metadata,
  untrusted_metadata,
  newer_format,
  // code "refused", exit 9
  last_way,
  not_empty,
  already_encrypted,
  in_use,
  kdf_limit,
  exists,
  conflict,
  recovery_key_exists,
  unconvertible,
  too_late,
  // code "unexpected", exit 10
  unexpected,
  // code "interrupted", exit 128 + signal
  interrupted,
};

/// What scripts see of an Errc: the JSON `error.code` and `error.reason`, and the exit code.
struct ErrcInfo {
  std::string_view code;
  std::string_view reason;
  int exit_code;
};

[[nodiscard]] ErrcInfo errc_info(Errc code) noexcept;

/// The only exception type. The message states the fact in lower case without a full stop; it
/// never quotes a secret or the contents of a record. Advice is chosen from the code elsewhere.
class Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& message, int sys_errno = 0)
      : std::runtime_error(message), code_(code), sys_errno_(sys_errno) {}

  [[nodiscard]] Errc code() const noexcept { return code_; }
  /// The errno behind it, 0 if there is none; the signal's number for Errc::interrupted.
  [[nodiscard]] int sys_errno() const noexcept { return sys_errno_; }

  /// The path that it is about (any bytes), empty if none.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// What an ambiguous name could have meant.
  [[nodiscard]] const std::vector<std::string>& candidates() const noexcept { return candidates_; }

  Error& with_path(std::string path) & {
    path_ = std::move(path);
    return *this;
  }
  Error& with_candidates(std::vector<std::string> candidates) & {
    candidates_ = std::move(candidates);
    return *this;
  }
  /// For errors that are thrown where they are made.
  [[nodiscard]] Error with_path(std::string path) && {
    return std::move(with_path(std::move(path)));
  }
  [[nodiscard]] Error with_candidates(std::vector<std::string> candidates) && {
    return std::move(with_candidates(std::move(candidates)));
  }

 private:
  Errc code_;
  int sys_errno_;
  std::string path_;
  std::vector<std::string> candidates_;
};

/// An Error for a failed system call on a file: "WHAT: strerror", with the Errc that fits the
/// errno (ENOSPC and EDQUOT no_space, EACCES and EPERM permission, ENOENT no_such_path, ENOTDIR
/// not_a_directory, everything else, EROFS too, io).
[[nodiscard]] Error system_error(int sys_errno, const std::string& what);

/// `bytes` for people: valid printable UTF-8 stays, everything else becomes \xNN byte by byte, and
/// a backslash \\, so that different bytes never look the same. Characters that would move the
/// cursor, reorder text or be invisible count as not printable.
[[nodiscard]] std::string printable(std::string_view bytes);

}  // namespace fscryptctl
