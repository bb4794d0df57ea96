#pragma once

#include <span>
#include <string_view>

namespace fscryptctl {

class Invocation;

/// Headings of the help, in its order.
enum class CommandGroup { everyday, protectors, metadata, existing_data, other_tools, low_level };

/// One entry of the command table. Exactly one of the two functions is set.
struct Command {
  std::string_view name;     ///< one word, or two: "protector create"
  std::string_view summary;  ///< one line for the help, lower case
  CommandGroup group;
  /// Parses its options with Invocation::parse, does its work, returns the exit code. Failures are
  /// thrown as Error, or reported with Output::error where others may follow.
  int (*run)(Invocation&) = nullptr;
  /// Gets its arguments untouched, argv[0] being its name; answers for its own output.
  int (*run_raw)(int argc, char** argv) = nullptr;
};

/// Every command of this program, in the order of the help.
[[nodiscard]] std::span<const Command> all_commands();

int run_setup(Invocation& invocation);
int run_encrypt(Invocation& invocation);
int run_unlock(Invocation& invocation);
int run_lock(Invocation& invocation);
int run_purge(Invocation& invocation);
int run_list(Invocation& invocation);
int run_status(Invocation& invocation);
int run_change_passphrase(Invocation& invocation);
int run_protector_list(Invocation& invocation);
int run_protector_show(Invocation& invocation);
int run_protector_create(Invocation& invocation);
int run_protector_verify(Invocation& invocation);
int run_protector_rename(Invocation& invocation);
int run_protector_change_kdf(Invocation& invocation);
int run_protector_rotate(Invocation& invocation);
int run_protector_remove(Invocation& invocation);
int run_policy_list(Invocation& invocation);
int run_policy_show(Invocation& invocation);
int run_policy_add_protector(Invocation& invocation);
int run_policy_remove_protector(Invocation& invocation);
int run_policy_remove(Invocation& invocation);
int run_share(Invocation& invocation);
int run_accept(Invocation& invocation);
int run_backup(Invocation& invocation);
int run_restore(Invocation& invocation);
int run_check(Invocation& invocation);
int run_convert(Invocation& invocation);
int run_reencrypt(Invocation& invocation);
int run_decrypt(Invocation& invocation);
int run_import_google_fscrypt(Invocation& invocation);
int run_import_systemd_homed(Invocation& invocation);

int run_add_key(int argc, char** argv);
int run_remove_key(int argc, char** argv);
int run_key_status(int argc, char** argv);
int run_get_policy(int argc, char** argv);
int run_set_policy(int argc, char** argv);
int run_import_hw_wrapped_key(int argc, char** argv);
int run_generate_hw_wrapped_key(int argc, char** argv);
int run_prepare_hw_wrapped_key(int argc, char** argv);
int run_recovery_create(Invocation& invocation);
int run_recovery_verify(Invocation& invocation);
int run_recovery_remove(Invocation& invocation);

}  // namespace fscryptctl
