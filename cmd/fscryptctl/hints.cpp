#include "hints.h"

#include <algorithm>

#include "fscryptctl/base/bytes.h"

namespace fscryptctl {
namespace {

using Hint = std::optional<std::string>;

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("/._-+:,@%=~^").find(c) != std::string_view::npos;
}

// "~" and "=" mean something to shells at the start of a word only.
bool is_plain_word(std::string_view word) {
  return !word.empty() && word[0] != '~' && word[0] != '=' &&
         std::all_of(word.begin(), word.end(), is_plain);
}

std::string single_quoted(std::string_view word) {
  std::string quoted = "'";
  for (const char c : word) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

std::string dollar_quoted(std::string_view word) {
  std::string quoted = "$'";
  for (const char c : word) {
    if (is_plain(c) || c == ' ') {
      quoted += c;
    } else {
      quoted += "\\x" + to_hex(as_bytes({&c, 1}));
    }
  }
  return quoted + "'";
}

std::string path_or(const Error& error, std::string_view placeholder) {
  return error.path().empty() ? std::string(placeholder) : shell_quoted(error.path());
}

std::string as_root(const HintContext& context, const std::string& command) {
  return context.root ? command : "sudo " + command;
}

Hint if_command(const HintContext& context, std::string_view name, const std::string& hint) {
  if (!context.has_command(name)) return std::nullopt;
  return hint;
}

Hint for_wrong_key(const Error& error, const HintContext& context) {
  if (context.code_wanted) return std::nullopt;
  if (context.unlocked_now) {
    const std::string path = path_or(error, "DIRECTORY");
    const std::string rescue = context.has_command("reencrypt")
                                   ? "run \"fscryptctl reencrypt " + path + "\" or copy"
                                   : "copy";
    return path + " is unlocked now: " + rescue + " your files out before locking or rebooting";
  }
  if (context.recovery_key_tried) return std::nullopt;
  return if_command(context, "recovery create", "a recovery key is accepted here too");
}

Hint for_not_managed(const Error& error, const HintContext& context) {
  const std::optional<std::string> mount =
      context.google_fscrypt_mount ? context.google_fscrypt_mount(error.path()) : std::nullopt;
  if (mount) {
    return if_command(context, "import google-fscrypt",
                      as_root(context, "fscryptctl import google-fscrypt " + shell_quoted(*mount) +
                                           " --dry-run"));
  }
  return if_command(context, "restore", "fscryptctl restore BACKUP");
}

Hint for_not_empty(const Error& error, const HintContext& context) {
  if (context.has_command("convert")) {
    return "fscryptctl convert " + path_or(error, "DIRECTORY");
  }
  return "encrypt a new directory with --create, then move the files into it";
}

Hint for_candidates(const Error& error) {
  if (error.candidates().empty()) return std::nullopt;
  std::string list;
  for (const std::string& candidate : error.candidates()) {
    list += (list.empty() ? "" : ", ") + printable(candidate);
  }
  return "one of: " + list;
}

/// Something kept a command from its end, through no fault of what it was told.
Hint for_cut_off(const HintContext& context) {
  if (!context.conversion) return std::nullopt;
  if (context.low_space_fits) return "--low-space fits; --dry-run shows the plan";
  if (!context.unfinished) return std::nullopt;
  return "go on with: " + *context.conversion + "; or go back with --cancel";
}

Hint for_status(const Error& error) {
  if (error.path().empty()) return std::nullopt;
  return "fscryptctl status " + shell_quoted(error.path());
}

}  // namespace

bool HintContext::has_command(std::string_view name) const noexcept {
  return std::any_of(commands.begin(), commands.end(),
                     [name](const Command& command) { return command.name == name; });
}

std::optional<std::string> hint_for(const Error& error, const HintContext& context) {
  switch (error.code()) {
    case Errc::io:
    case Errc::no_space:
      return for_cut_off(context);
    case Errc::declined:
      return std::nullopt;
    case Errc::key_quota:
      return "lock other directories first, or raise /proc/sys/kernel/keys/maxkeys";
    case Errc::internal:
      return "this is a mistake in fscryptctl: please report it";
    case Errc::usage:
      if (context.malformed_key_file) return "a newline at its end, or text? see --key-format";
      return std::nullopt;
    case Errc::missing_input:
    case Errc::ambiguous:
      return for_candidates(error);
    case Errc::not_a_directory:
      return std::nullopt;
    case Errc::filesystem_root:
      return "make a directory below it and encrypt that";
    case Errc::wrong_key:
      return for_wrong_key(error, context);
    case Errc::stale_copy:
      return "give the previous secret to: fscryptctl change-passphrase --protector " +
             (error.candidates().empty() ? std::string("P") : error.candidates().front()) +
             " --mount " + path_or(error, "MOUNTPOINT");
    case Errc::previous_login_password:
      return "fscryptctl change-passphrase --protector login" +
             (error.path().empty() ? "" : " " + shell_quoted(error.path()));
    case Errc::no_such_path:
    case Errc::no_such_user:
      return std::nullopt;
    case Errc::not_set_up:
      if (context.importing) {
        return as_root(context, "fscryptctl import google-fscrypt " + path_or(error, "MOUNTPOINT"));
      }
      return as_root(context, "fscryptctl setup " + path_or(error, "MOUNTPOINT"));
    case Errc::not_managed:
      return for_not_managed(error, context);
    case Errc::not_encrypted:
      return std::nullopt;
    case Errc::no_such_policy:
    case Errc::no_such_protector:
      return for_status(error);
    case Errc::files_in_use:
      if (context.conversion) {
        return "stop what writes there, then go on with: " + *context.conversion;
      }
      if (context.version_1) return "close it, then lock again";
      return "close it, then lock again; \"fscryptctl unlock " + path_or(error, "DIRECTORY") +
             "\" undoes this";
    case Errc::other_users:
      return as_root(context, "fscryptctl lock --all-users " + path_or(error, "DIRECTORY"));
    case Errc::metadata_locked:
      return "another fscryptctl is writing here: try again when it has ended";
    case Errc::not_enabled:
      return as_root(context,
                     "fscryptctl setup " + path_or(error, "MOUNTPOINT") + " --enable-encryption");
    case Errc::no_kernel_support:
      return "it needs a kernel with CONFIG_FS_ENCRYPTION";
    case Errc::filesystem:
      return "ext4 and f2fs can encrypt directories";
    case Errc::mode:
      return "without --contents and --filenames the usual ciphers are taken";
    case Errc::policy_version:
      return std::nullopt;
    case Errc::permission:
      if (context.foreign_backup) return "--user takes its records over for yourself";
      if (context.root) return std::nullopt;
      return "try sudo";
    case Errc::corrupt_metadata:
    case Errc::untrusted_metadata:
      // What `check` looks at is not what another tool has written.
      if (context.checking || context.importing) return std::nullopt;
      return if_command(context, "check", "fscryptctl check");
    case Errc::newer_format:
      return "it needs a newer version of fscryptctl";
    case Errc::last_way:
      if (error.path().empty()) {
        if (context.root || error.candidates().empty()) return std::nullopt;
        return "root can look at what is closed to you: try sudo";
      }
      return if_command(context, "policy add-protector",
                        "add another first: fscryptctl policy add-protector " +
                            shell_quoted(error.path()) + " --source passphrase");
    case Errc::not_empty:
      return for_not_empty(error, context);
    case Errc::already_encrypted:
      return for_status(error);
    case Errc::in_use:
      if (context.conversion) return "close or unmount it, then try again";
      return std::nullopt;
    case Errc::kdf_limit:
      return "if you trust where it comes from: --kdf-limit MIB";
    case Errc::exists:
      return "choose another file name";
    case Errc::conflict:
      if (context.conversion)
        return "repeat that command to finish it, or take it back with --cancel";
      return if_command(context, "restore", "--replace puts the backup's records in their place");
    case Errc::recovery_key_exists:
      return "--replace makes another; the one that it has opens nothing any more then";
    case Errc::unconvertible:
      return "move them elsewhere first";
    case Errc::too_late:
    case Errc::unexpected:
      return std::nullopt;
    case Errc::interrupted:
      return for_cut_off(context);
  }
  return std::nullopt;
}

std::string shell_quoted(std::string_view word) {
  if (word.starts_with('-')) return shell_quoted("./" + std::string(word));
  if (is_plain_word(word)) return std::string(word);
  if (printable(word) != word) return dollar_quoted(word);
  return single_quoted(word);
}

}  // namespace fscryptctl
