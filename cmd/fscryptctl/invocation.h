#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "commands.h"
#include "fscryptctl/core/context.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "output.h"

namespace fscryptctl {

/// Options that every command takes, before or after its name, and two that some take.
struct GlobalOptions {
  bool quiet = false;
  bool verbose = false;
  bool json = false;
  bool yes = false;
  bool no_prompt = false;
  std::optional<std::string> user;
  std::string config_path;           ///< --config, else FSCRYPTCTL_CONFIG, else kDefaultConfigPath
  std::optional<std::string> mount;  ///< only with add_mount_option
  std::optional<std::uint64_t> kdf_limit_mib;  ///< only with add_kdf_limit_option
};

inline constexpr const char* kDefaultConfigPath = "/etc/fscryptctl.yaml";

/// Thrown after help or the version was printed: nothing is left to do, exit code 0.
struct Finished {};

/// One run of one command: its arguments, the global options, what it says.
///
///   int run_example(Invocation& invocation) {
///     CLI::App app("does something");
///     std::vector<std::string> paths;
///     add_text(app, "PATH", "", paths, "encrypted directories")->required();
///     invocation.parse(app);
///     Context context = invocation.make_context();
///     ...
///     return invocation.out.exit_code();
///   }
class Invocation {
 public:
  /// `tokens`: the arguments without the program's and the command's name.
  Invocation(std::string command, std::vector<std::string> tokens, Output& output);

  // Without accessors: every command works with these two all the time.
  GlobalOptions globals;  // NOLINT(misc-non-private-member-variables-in-classes)
  Output& out;            // NOLINT(misc-non-private-member-variables-in-classes)

  [[nodiscard]] const std::string& command() const noexcept { return command_; }

  /// Adds the global options, parses. Throws usage, and Finished after --help and --version.
  void parse(CLI::App& app);

  /// For after parse(); once. Throws permission (--user for somebody else needs root),
  /// no_such_user.
  [[nodiscard]] Context make_context();

  /// Returns if the answer to "QUESTION [y/N]" is yes, or with --yes. Throws declined,
  /// missing_input (no terminal, or --no-prompt), interrupted.
  void confirm(const std::string& question);

  /// --mount MOUNTPOINT and --kdf-limit MIB, for commands that name protectors or key identifiers,
  /// and for commands that open something.
  void add_mount_option(CLI::App& app);
  void add_kdf_limit_option(CLI::App& app);

 private:
  void add_global_options(CLI::App& app);
  void parse_tokens(CLI::App& app, std::vector<std::string> tokens);
  [[noreturn]] void finish_with(const std::string& key, const std::string& text);
  [[noreturn]] void finish_with_version(bool with_libraries);

  std::string command_;
  std::vector<std::string> tokens_;
  LinuxKernel kernel_;
};

}  // namespace fscryptctl
