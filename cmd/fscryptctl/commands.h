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
int run_recovery_create(Invocation& invocation);
int run_recovery_verify(Invocation& invocation);
int run_recovery_remove(Invocation& invocation);

}  // namespace fscryptctl
