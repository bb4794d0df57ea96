#include "terminal.h"

#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <csignal>

#include "command_child.h"
#include "fscryptctl/base/error.h"
#include "secret_input.h"
#include "signals.h"

namespace fscryptctl {
namespace {

using test::ChildWork;
using test::shown;
using test::TerminalSession;
using test::without_terminal;

using Answer = std::optional<std::string>;

/// What a command does that asks for the passphrase of /p `times` times.
ChildWork asking(int times, bool no_prompt = false) {
  return [times, no_prompt] {
    install_signal_handlers();
    Output output;
    Invocation invocation("test", {}, output);
    invocation.globals.no_prompt = no_prompt;
    CommandLineSecrets secrets({}, Spelling::existing_and_new, invocation);
    std::string result;
    for (int i = 0; i < times; ++i) {
      result += shown(secrets.existing({"/p", {Method::passphrase}, i})) + ";";
    }
    return result;
  };
}

std::string ask_for_new() {
  install_signal_handlers();
  Output output;
  Invocation invocation("test", {}, output);
  CommandLineSecrets secrets({}, Spelling::all_new, invocation);
  return shown(secrets.fresh(Source::passphrase, "/p"));
}

std::string confirm_something(bool yes = false, bool no_prompt = false) {
  install_signal_handlers();
  Output output;
  Invocation invocation("test", {}, output);
  invocation.globals.yes = yes;
  invocation.globals.no_prompt = no_prompt;
  invocation.confirm("really?");
  return "confirmed";
}

TEST_CASE("a typed passphrase is not shown, and echo is on again afterwards", "[cmd][terminal]") {
  TerminalSession session(asking(1));
  REQUIRE(session.shows("passphrase for /p: "));
  CHECK_FALSE(session.echo_is_on());
  session.type("correct horse\n");
  CHECK(session.result() == Answer("passphrase correct horse;"));
  CHECK(session.echo_is_on());
  CHECK(session.screen() == "passphrase for /p: \r\n");
}

TEST_CASE("a wrong passphrase may be retried twice", "[cmd][terminal]") {
  TerminalSession session(asking(4));
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("a\n");
  REQUIRE(session.shows("wrong passphrase, 2 tries left\r\npassphrase for /p: "));
  session.type("b\n");
  REQUIRE(session.shows("wrong passphrase, 1 try left\r\npassphrase for /p: "));
  session.type("c\n");
  CHECK(session.result() == Answer("passphrase a;passphrase b;passphrase c;none;"));
}

TEST_CASE("a passphrase typed as standard input is not shown either", "[cmd][terminal]") {
  TerminalSession session([] {
    SecretOptions options;
    options.passphrase_file = "-";
    Output output;
    Invocation invocation("test", {}, output);
    CommandLineSecrets secrets(options, Spelling::existing_and_new, invocation);
    return shown(secrets.existing({"/p", {Method::passphrase}, 0}));
  });
  REQUIRE(session.shows("passphrase: "));
  CHECK_FALSE(session.echo_is_on());
  session.type("secret\n");
  CHECK(session.result() == Answer("passphrase secret"));
}

TEST_CASE("each target has its own tries", "[cmd][terminal]") {
  TerminalSession session([] {
    Output output;
    Invocation invocation("test", {}, output);
    CommandLineSecrets secrets({}, Spelling::existing_and_new, invocation);
    const std::string first = shown(secrets.existing({"/p", {Method::passphrase}, 0}));
    return first + ";" + shown(secrets.existing({"/q", {Method::passphrase}, 1}));
  });
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("a\n");
  REQUIRE(session.shows("\r\npassphrase for /q: "));
  session.type("b\n");
  CHECK(session.result() == Answer("passphrase a;passphrase b"));
  CHECK(session.screen().find("wrong") == std::string::npos);
}

TEST_CASE("a prompt shows what it opens, printable, and asks for a login password by its name",
          "[cmd][terminal]") {
  TerminalSession session([] {
    Output output;
    Invocation invocation("test", {}, output);
    CommandLineSecrets secrets({}, Spelling::existing_and_new, invocation);
    return shown(secrets.existing({"/\x1b[2J", {Method::login}, 0}));
  });
  REQUIRE(session.shows("login password for /\\x1b[2J: "));
  session.type("a\n");
  CHECK(session.result() == Answer("passphrase a"));
}

TEST_CASE("the end of input at a prompt is an error", "[cmd][terminal]") {
  TerminalSession session(asking(3));
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("\x04");
  CHECK(session.result() == Answer("error missing_input: end of input on the terminal"));
  CHECK(session.echo_is_on());
}

TEST_CASE("an empty passphrase at a prompt is an error", "[cmd][terminal]") {
  TerminalSession session(asking(3));
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("\n");
  CHECK(session.result() == Answer("error usage: the passphrase is empty"));
}

TEST_CASE("a line that the terminal would cut is refused", "[cmd][terminal]") {
  TerminalSession session(asking(1));
  REQUIRE(session.shows("passphrase for /p: "));
  session.type(std::string(4094, 'x'));
  session.type("yz");
  session.type("\n");
  CHECK(session.result() == Answer("error usage: the line is too long for a terminal"));
}

TEST_CASE("Ctrl-C at a prompt interrupts and leaves the terminal as it was", "[cmd][terminal]") {
  TerminalSession session(asking(1));
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("half\x03");
  CHECK(session.result() == Answer("error interrupted: interrupted"));
  CHECK(session.echo_is_on());
}

TEST_CASE("SIGTERM at a prompt interrupts and leaves the terminal as it was", "[cmd][terminal]") {
  TerminalSession session(asking(1));
  REQUIRE(session.shows("passphrase for /p: "));
  session.send_signal(SIGTERM);
  CHECK(session.result() == Answer("error interrupted: interrupted"));
  CHECK(session.echo_is_on());
}

TEST_CASE("a signal that kills at a prompt leaves the terminal as it was", "[cmd][terminal]") {
  TerminalSession session(asking(1));
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("\x1c");  // Ctrl-backslash
  CHECK(session.result() == std::nullopt);
  CHECK(session.echo_is_on());
}

/// What a shell does: runs `work` as a job in the foreground, tells when it stops, continues it.
std::string run_as_job(const ChildWork& work) {
  int ends[2] = {-1, -1};
  if (pipe(ends) != 0) return "no pipe";
  std::signal(SIGTTOU, SIG_IGN);
  const pid_t job = fork();
  if (job == 0) {
    setpgid(0, 0);
    tcsetpgrp(STDIN_FILENO, getpid());
    std::signal(SIGTTOU, SIG_DFL);
    const std::string text = work();
    _exit(write(ends[1], text.data(), text.size()) < 0 ? 1 : 0);
  }
  int status = 0;
  waitpid(job, &status, WUNTRACED);
  termios state{};
  tcgetattr(STDIN_FILENO, &state);
  const bool echo = (state.c_lflag & ECHO) != 0;
  const std::string news = std::string(WIFSTOPPED(status) ? "stopped" : "not stopped") +
                           (echo ? ", echo on\n" : ", echo off\n");
  (void)!write(STDOUT_FILENO, news.data(), news.size());
  kill(job, SIGCONT);
  waitpid(job, &status, 0);
  std::array<char, 256> text{};
  const ssize_t count = read(ends[0], text.data(), text.size());
  return {text.data(), static_cast<std::size_t>(count)};
}

TEST_CASE("Ctrl-Z stops a prompt with echo on; it is put again when continued", "[cmd][terminal]") {
  TerminalSession session([] { return run_as_job(asking(1)); });
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("half\x1a");
  REQUIRE(session.shows("stopped, echo on"));
  REQUIRE(session.shows("passphrase for /p: "));
  CHECK_FALSE(session.echo_is_on());
  session.type("whole\n");
  CHECK(session.result() == Answer("passphrase whole;"));
}

TEST_CASE("Ctrl-Z where nobody could continue the prompt only puts it again", "[cmd][terminal]") {
  TerminalSession session(asking(1));
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("half\x1a");
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("whole\n");
  CHECK(session.result() == Answer("passphrase whole;"));
}

TEST_CASE("an ignored Ctrl-C stays ignored", "[cmd][terminal]") {
  TerminalSession session([] {
    std::signal(SIGINT, SIG_IGN);
    return asking(1)();
  });
  REQUIRE(session.shows("passphrase for /p: "));
  session.send_signal(SIGINT);
  REQUIRE(session.shows("passphrase for /p: "));
  session.type("secret\n");
  CHECK(session.result() == Answer("passphrase secret;"));
}

TEST_CASE("SIGTERM while standard input is waited for interrupts", "[cmd][signals]") {
  TerminalSession session([] {
    install_signal_handlers();
    int ends[2] = {-1, -1};
    if (pipe(ends) != 0) return std::string("no pipe");
    dup2(ends[0], STDIN_FILENO);
    (void)!write(STDOUT_FILENO, "waiting", 7);
    return asking(1)();
  });
  REQUIRE(session.shows("waiting"));
  session.send_signal(SIGTERM);
  CHECK(session.result() == Answer("error interrupted: interrupted"));
}

TEST_CASE("a new passphrase is asked for twice", "[cmd][terminal]") {
  TerminalSession session(ask_for_new);
  REQUIRE(session.shows("new passphrase for /p: "));
  session.type("secret\n");
  REQUIRE(session.shows("the same again: "));
  session.type("secret\n");
  CHECK(session.result() == Answer("passphrase secret"));
}

TEST_CASE("a new passphrase that is empty or not repeated is asked for again, three times",
          "[cmd][terminal]") {
  TerminalSession session(ask_for_new);
  REQUIRE(session.shows("new passphrase for /p: "));
  session.type("\n");
  REQUIRE(session.shows("a passphrase must not be empty\r\nnew passphrase for /p: "));
  session.type("secret\n");
  REQUIRE(session.shows("the same again: "));
  session.type("other\n");
  REQUIRE(session.shows("that was not the same\r\nnew passphrase for /p: "));
  session.type("secret\n");
  REQUIRE(session.shows("the same again: "));
  session.type("secret2\n");
  REQUIRE(session.shows("that was not the same"));
  CHECK(session.result() == Answer("error usage: no passphrase was given twice"));
}

TEST_CASE("--no-prompt never asks", "[cmd][terminal]") {
  TerminalSession session(asking(1, true));
  CHECK(session.result() ==
        Answer("error missing_input: no passphrase for /p: give --passphrase-file"));
  CHECK(session.screen().empty());
}

TEST_CASE("with standard input elsewhere a new passphrase is not prompted for", "[cmd][terminal]") {
  TerminalSession session([] {
    int ends[2] = {-1, -1};
    if (pipe(ends) != 0) return std::string("no pipe");
    dup2(ends[0], STDIN_FILENO);
    return ask_for_new();
  });
  CHECK(session.result() ==
        Answer("error missing_input: no new passphrase: give --passphrase-file"));
}

TEST_CASE("only yes confirms", "[cmd][terminal]") {
  for (const char* answer : {"y\n", "Y\n", "yes\n", "YES\n"}) {
    TerminalSession session([] { return confirm_something(); });
    REQUIRE(session.shows("really? [y/N] "));
    CHECK(session.echo_is_on());
    session.type(answer);
    CHECK(session.result() == Answer("confirmed"));
  }
  for (const char* answer : {"n\n", "\n", "yeah\n", "y y\n"}) {
    TerminalSession session([] { return confirm_something(); });
    REQUIRE(session.shows("really? [y/N] "));
    session.type(answer);
    CHECK(session.result() == Answer("error declined: not confirmed"));
  }
}

TEST_CASE("the end of input is no confirmation", "[cmd][terminal]") {
  TerminalSession session([] { return confirm_something(); });
  REQUIRE(session.shows("really? [y/N] "));
  session.type("\x04");
  CHECK(session.result() == Answer("error missing_input: end of input on the terminal"));
}

TEST_CASE("without a terminal only --yes confirms", "[cmd][terminal]") {
  CHECK(without_terminal("y\n", [] { return confirm_something(); }) ==
        "error missing_input: this needs to be confirmed on a terminal or with --yes: really?");
  CHECK(without_terminal("", [] { return confirm_something(true); }) == "confirmed");
  TerminalSession session([] { return confirm_something(false, true); });
  CHECK(session.result() ==
        Answer("error missing_input: this needs to be confirmed on a terminal or with --yes: "
               "really?"));
}

}  // namespace
}  // namespace fscryptctl
