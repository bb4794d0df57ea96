#include "low_level_call.h"

#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <optional>
#include <span>

#include "fscryptctl/base/error.h"
#include "output.h"
#include "signals.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kShortestKey = 16;
constexpr std::size_t kHelpColumn = 30;
// What getopt_long returns for the first option: no character, so that a short option cannot be
// mistaken for it.
constexpr int kFirstOption = 256;

void write_all(int fd, ByteView bytes, const char* what) {
  while (!bytes.empty()) {
    wait_until_ready(fd, POLLOUT);
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    } else if (errno != EINTR && errno != EAGAIN) {
      throw system_error(errno, what);
    }
  }
}

void write_lines(int fd, const std::vector<std::string>& lines, const char* what) {
  const bool terminal = isatty(fd) == 1;
  std::string text;
  for (const std::string& line : lines) text += (terminal ? one_line(line) : line) + "\n";
  write_all(fd, as_bytes(text), what);
}

std::string help_line(std::string names, const char* help) {
  names = "  " + names;
  names.resize(std::max(names.size() + 2, kHelpColumn + 2), ' ');
  return names + help + "\n";
}

std::string help_text(const LowLevelCommand& command, const std::string& name) {
  std::string text = std::string(command.summary) + "\nUsage: fscryptctl " + name + " [OPTIONS] " +
                     command.operands + "\n\nOptions:\n";
  for (const LowLevelOption& option : command.options) {
    const bool flag = option.placeholder == nullptr;
    text += help_line(
        std::string("--") + option.name + (flag ? "" : std::string("=") + option.placeholder),
        option.help);
  }
  return text + help_line("-h,--help", "show this help") +
         help_line("-v,--version", "show the version");
}

/// Help and version are looked for first, even where another option's value stands: what scripts
/// for google/fscryptctl see.
std::optional<std::string> general_answer(const LowLevelCommand& command,
                                          std::span<char* const> arguments) {
  for (const std::string_view argument : arguments.subspan(1)) {
    if (argument == "--") break;
    if (argument == "-h" || argument == "--help") return help_text(command, arguments.front());
    if (argument == "-v" || argument == "--version") return "fscryptctl " FSCRYPTCTL_VERSION "\n";
  }
  return std::nullopt;
}

std::vector<option> getopt_table(const LowLevelCommand& command) {
  std::vector<option> table;
  for (const LowLevelOption& entry : command.options) {
    table.push_back({entry.name, entry.placeholder == nullptr ? no_argument : required_argument,
                     nullptr, kFirstOption + static_cast<int>(table.size())});
  }
  table.push_back({});
  return table;
}

/// Why getopt_long refused `token`, in its own words. `optopt` is what it left there.
std::string refusal(const LowLevelCommand& command, int answer, std::string_view token) {
  const std::string long_name(token.substr(0, token.find('=')));
  if (answer == ':') return "option '" + long_name + "' requires an argument";
  if (optopt >= kFirstOption) return "option '" + long_name + "' doesn't allow an argument";
  if (optopt != 0) return std::string("invalid option -- '") + static_cast<char>(optopt) + "'";
  const bool abbreviation = std::any_of(
      command.options.begin(), command.options.end(), [&](const LowLevelOption& option) {
        return ("--" + std::string(option.name)).starts_with(long_name);
      });
  if (abbreviation) return "option '" + long_name + "' is ambiguous";
  return "unrecognized option '" + long_name + "'";
}

/// Applies the options; returns the operands.
std::vector<std::string> parse(const LowLevelCommand& command, int argc, char** argv) {
  const std::vector<option> table = getopt_table(command);
  opterr = 0;  // reported below as one line
  optind = 0;  // glibc's way to start anew
  for (;;) {
    const int answer = getopt_long(argc, argv, ":", table.data(), nullptr);
    if (answer == -1) break;
    if (answer < kFirstOption) {
      throw Error(Errc::usage, refusal(command, answer, argv[optind - 1]));
    }
    const LowLevelOption& chosen =
        command.options.at(static_cast<std::size_t>(answer - kFirstOption));
    chosen.apply(optarg != nullptr ? std::string_view(optarg) : std::string_view());
  }
  std::vector<std::string> operands(argv + optind, argv + argc);
  if (operands.size() != command.operand_count) throw Error(Errc::usage, command.wrong_count);
  return operands;
}

void report(std::string_view message) noexcept {
  try {
    write_lines(STDERR_FILENO, {"error: " + std::string(message)}, "");
  } catch (const std::exception&) {
    // Nobody is left to tell; the exit code says it.
  }
}

}  // namespace

int run_low_level(const LowLevelCommand& command, int argc, char** argv) {
  try {
    const std::span<char* const> arguments(argv, static_cast<std::size_t>(argc));
    if (const auto answer = general_answer(command, arguments)) {
      write_all(STDOUT_FILENO, as_bytes(*answer), "writing to stdout");
    } else {
      command.work(parse(command, argc, argv));
    }
    return 0;
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    // A reader of the pipe who has gone wants no message: the original is ended by SIGPIPE.
    if (error.sys_errno() != EPIPE) report(error.what());
  } catch (const std::bad_alloc&) {
    report("failed to allocate memory");
  }
  return 1;
}

void print_lines(const std::vector<std::string>& lines) {
  write_lines(STDOUT_FILENO, lines, "writing to stdout");
}

void print_bytes(ByteView bytes) { write_all(STDOUT_FILENO, bytes, "writing to stdout"); }

SecretBytes read_key_bytes(std::size_t longest) {
  SecretBytes key(longest + 1);  // one more, to see what is too long
  std::size_t size = 0;
  while (size < key.size()) {
    wait_until_ready(STDIN_FILENO, POLLIN);
    const auto room = key.writable().subspan(size);
    const ssize_t count = read(STDIN_FILENO, room.data(), room.size());
    if (count == 0) break;
    if (count > 0) {
      size += static_cast<std::size_t>(count);
    } else if (errno != EINTR && errno != EAGAIN) {
      throw system_error(errno, "reading from stdin");
    }
  }
  const auto refuse = [](const char* problem, const char* bound, std::size_t limit) {
    throw Error(Errc::usage, std::string("key was too ") + problem + "; it " + bound + " " +
                                 std::to_string(limit) + " bytes");
  };
  if (size < kShortestKey) refuse("short", "must be at least", kShortestKey);
  if (size > longest) refuse("long", "can be at most", longest);
  key.truncate(size);
  return key;
}

}  // namespace fscryptctl
