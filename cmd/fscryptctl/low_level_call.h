#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// An option of a low-level command, "--NAME" or "--NAME=VALUE".
struct LowLevelOption {
  const char* name;         ///< without the dashes
  const char* placeholder;  ///< of the value in the help; nullptr for a flag
  const char* help;
  std::function<void(std::string_view value)> apply;  ///< throws Error
};

/// A command with google/fscryptctl's manners: getopt_long (abbreviations, options anywhere, "--"),
/// "error: ..." on standard error, exit code 0 or 1.
struct LowLevelCommand {
  const char* summary;   ///< lower case
  const char* operands;  ///< as the help shows them
  std::size_t operand_count;
  const char* wrong_count;  ///< the error when there are more or fewer
  std::vector<LowLevelOption> options;
  std::function<void(const std::vector<std::string>& operands)> work;  ///< throws Error
};

/// Parses, works, reports; returns the exit code. `argv[0]` is the command's name. Throws
/// interrupted only.
[[nodiscard]] int run_low_level(const LowLevelCommand& command, int argc, char** argv);

/// Lines on standard output, at once, so that a reader that has seen enough of a pipe disturbs
/// nothing. Names in them are as they are, since scripts read them; on a terminal one_line keeps
/// them harmless. Throws io, interrupted.
void print_lines(const std::vector<std::string>& lines);
/// Bytes of a key on standard output. Throws io, interrupted.
void print_bytes(ByteView bytes);

/// A key of 16 to `longest` bytes, all of standard input. Throws usage, io, interrupted.
[[nodiscard]] SecretBytes read_key_bytes(std::size_t longest);

}  // namespace fscryptctl
