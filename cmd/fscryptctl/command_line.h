#pragma once

#include <span>
#include <string>

#include "commands.h"
#include "output.h"

namespace fscryptctl {

/// Finds the command and runs it, or shows help or the version; reports what fails. Returns the
/// exit code. `argv` is main's.
[[nodiscard]] int run_command_line(std::span<const Command> commands, int argc, char** argv,
                                   Output& out);

/// The help for all commands, everyday ones first; with `family` for those that start with this
/// word.
[[nodiscard]] std::string general_help(std::span<const Command> commands,
                                       const std::string& family = "");

}  // namespace fscryptctl
