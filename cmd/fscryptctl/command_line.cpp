#include "command_line.h"

#include <unistd.h>

#include <algorithm>
#include <new>
#include <vector>

#include "invocation.h"

namespace fscryptctl {
namespace {

// Options with a value that may stand before the command: the value is not the command's name.
constexpr std::string_view kWithValue[] = {"--user", "--config", "--mount", "--kdf-limit"};

bool is_option(std::string_view token) { return token.size() > 1 && token[0] == '-'; }

/// Where the next word that is no option stands, `argc` if there is none.
int find_word(int argc, char** argv, int from) {
  for (int i = from; i < argc; ++i) {
    const std::string_view token = argv[i];
    if (token == "--") return std::min(i + 1, argc);
    if (!is_option(token)) return i;
    if (std::find(std::begin(kWithValue), std::end(kWithValue), token) != std::end(kWithValue)) ++i;
  }
  return argc;
}

const Command* find_command(std::span<const Command> commands, std::string_view name) {
  const auto found = std::find_if(commands.begin(), commands.end(),
                                  [name](const Command& command) { return command.name == name; });
  return found == commands.end() ? nullptr : &*found;
}

bool is_family(std::span<const Command> commands, const std::string& word) {
  return std::any_of(commands.begin(), commands.end(), [&word](const Command& command) {
    return command.name.starts_with(word + " ");
  });
}

/// What main was given, taken apart.
struct Request {
  std::string name;  ///< of the command as typed: one word or two; empty if none
  const Command* command = nullptr;
  bool family = false;              ///< `name` is the first word of several commands
  int position = 0;                 ///< of the command's (last) word
  std::vector<std::string> tokens;  ///< the rest, before and after
};

Request take_apart(std::span<const Command> commands, int argc, char** argv) {
  Request request;
  request.position = find_word(argc, argv, 1);
  int second = argc;
  if (request.position < argc) {
    request.name = argv[request.position];
    request.family = is_family(commands, request.name);
  }
  if (request.family) second = find_word(argc, argv, request.position + 1);
  if (second < argc) {
    request.name += std::string(" ") + argv[second];
    request.family = false;
  }
  request.command = find_command(commands, request.name);
  for (int i = 1; i < argc; ++i) {
    if (i != request.position && i != second) request.tokens.emplace_back(argv[i]);
  }
  if (second < argc) request.position = second;
  return request;
}

/// Only a guess, for mistakes found before the options are understood.
bool json_seems_wanted(const std::vector<std::string>& tokens) {
  const auto end = std::find(tokens.begin(), tokens.end(), "--");
  return std::find(tokens.begin(), end, "--json") != end;
}

/// Shows `help` or the version if `tokens` ask for it, by throwing Finished.
void answer_general_options(const std::string& name, const std::vector<std::string>& tokens,
                            const std::string& help, Output& out) {
  CLI::App app;
  app.formatter_fn(
      [&help](const CLI::App*, const std::string&, CLI::AppFormatMode) { return help; });
  Invocation invocation(name, tokens, out);
  invocation.parse(app);
}

/// No command, or only the first word of one: help or the version if asked for, else a mistake.
int run_without_command(std::span<const Command> commands, const Request& request, Output& out) {
  const std::string help = general_help(commands, request.name);
  answer_general_options(request.name, request.tokens, help, out);
  out.usage(help);
  throw Error(Errc::usage, request.name.empty()
                               ? "no command given"
                               : "command " + request.name + " needs one more word");
}

int run_raw(std::span<const Command> commands, const Request& request, int argc, char** argv,
            Output& out) {
  const std::vector<std::string> before(argv + 1, argv + request.position);
  if (!before.empty()) {
    answer_general_options("", before, general_help(commands), out);
    throw Error(Errc::usage, request.name + " takes no global options");
  }
  out.set({});  // what looks like one of ours behind the name is not
  return request.command->run_raw(argc - request.position, argv + request.position);
}

int dispatch(std::span<const Command> commands, int argc, char** argv, Output& out) {
  const Request request = take_apart(commands, argc, argv);
  out.set({false, false, json_seems_wanted(request.tokens)});
  out.set_command(request.name);
  if (request.name.empty() || request.family) return run_without_command(commands, request, out);
  if (request.command == nullptr) {
    throw Error(Errc::usage, "invalid command: " + printable(request.name));
  }
  if (request.command->run_raw != nullptr) return run_raw(commands, request, argc, argv, out);
  Invocation invocation(request.name, request.tokens, out);
  return request.command->run(invocation);
}

int run_reporting(std::span<const Command> commands, int argc, char** argv, Output& out) {
  try {
    return dispatch(commands, argc, argv, out);
  } catch (const Finished&) {
    return 0;
  } catch (const Error& error) {
    out.error(error);
  } catch (const std::bad_alloc&) {
    out.error(Error(Errc::io, "out of memory"));
  } catch (const std::exception& problem) {
    out.error(Error(Errc::internal, std::string("internal error: ") + problem.what()));
  }
  return out.exit_code();
}

std::string_view heading(CommandGroup group) {
  switch (group) {
    case CommandGroup::everyday:
      return "Everyday commands";
    case CommandGroup::protectors:
      return "Protectors and policies";
    case CommandGroup::metadata:
      return "Keeping metadata safe";
    case CommandGroup::existing_data:
      return "Existing data";
    case CommandGroup::other_tools:
      return "Coming from other tools";
    case CommandGroup::low_level:
      return "Low-level commands, as in google/fscryptctl";
  }
  return "";
}

}  // namespace

std::string general_help(std::span<const Command> commands, const std::string& family) {
  std::string help = "Usage: fscryptctl [GLOBAL OPTIONS] " + (family.empty() ? "" : family + " ") +
                     "COMMAND [OPTIONS] ARGUMENTS\n";
  if (family.empty()) help += "Encrypts directories with the kernel's fscrypt.\n";
  std::size_t width = 0;
  for (const Command& command : commands) width = std::max(width, command.name.size());
  const CommandGroup* group = nullptr;
  for (const Command& command : commands) {
    if (!family.empty() && !command.name.starts_with(family + " ")) continue;
    if (group == nullptr || *group != command.group) {
      help += "\n" + std::string(heading(command.group)) + ":\n";
      group = &command.group;
    }
    help += "  " + std::string(command.name) + std::string(width - command.name.size() + 2, ' ') +
            std::string(command.summary) + "\n";
  }
  return help + "\n\"fscryptctl COMMAND --help\" shows a command's options.\n";
}

int run_command_line(std::span<const Command> commands, int argc, char** argv, Output& out) {
  out.hints.commands = commands;
  out.hints.root = geteuid() == 0;
  const int exit_code = run_reporting(commands, argc, argv, out);
  try {
    out.finish(exit_code);
    return exit_code;
  } catch (const Error& error) {
    out.error_text(error);
    return exit_code != 0 ? exit_code : errc_info(Errc::io).exit_code;
  }
}

}  // namespace fscryptctl
