#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "commands.h"
#include "fscryptctl/base/error.h"

namespace fscryptctl {

/// What advice depends on besides the error: facts noted by commands before they throw or report.
struct HintContext {
  std::span<const Command> commands{};  ///< advice never names a command that is not among them
  bool root = false;                    ///< else commands that need root are advised with sudo
  /// The target is unlocked at the moment, though the secret was wrong: files can be rescued.
  bool unlocked_now = false;
  /// The mount point of a path's filesystem if google/fscrypt's metadata is there, for not_managed.
  std::function<std::optional<std::string>(const std::string& path)> google_fscrypt_mount{};
  /// A backup holds nothing of the caller's own (set with the permission error that says so).
  bool foreign_backup = false;
  /// A one-time code was wrong, of which there is no other spelling.
  bool code_wanted = false;
  /// The command is `check` itself, which tells what to do about each finding.
  bool checking = false;
  /// The policy is of version 1, which `unlock` knows nothing of.
  bool version_1 = false;
  /// The command is `import google-fscrypt`, which sets up what it needs when root runs it.
  bool importing = false;
  /// A recovery key was given, so that nobody has to be told of it.
  bool recovery_key_tried = false;
  /// A key file did not hold a key (set with the usage error that says so).
  bool malformed_key_file = false;

  /// The command converts a directory, and so a repetition goes on: how it is called.
  std::optional<std::string> conversion{};
  /// Something was begun, so that a repetition goes on with it.
  bool unfinished = false;
  /// There is not enough space for a copy, but for the other strategy.
  bool low_space_fits = false;

  [[nodiscard]] bool has_command(std::string_view name) const noexcept;
};

/// The next step after this error, or nullopt. What Error::path() is for:
/// - not_enabled, not_set_up, stale_copy (its candidate is the protector's id): the mount point
/// - no_such_policy, metadata errors: the path or record, not used
/// - everything else: the path as the user named it
[[nodiscard]] std::optional<std::string> hint_for(const Error& error, const HintContext& context);

/// `word` so that a shell reads it as one argument and a command never as an option; bytes that are
/// not printable are written as $'\xNN'.
[[nodiscard]] std::string shell_quoted(std::string_view word);

}  // namespace fscryptctl
