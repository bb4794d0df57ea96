#include "invocation.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "fscryptctl/crypto/version.h"
#include "terminal.h"

namespace fscryptctl {
namespace {

constexpr const char* kGlobalGroup = "Global options";

bool contains(const std::vector<std::string>& tokens, const char* token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

std::string default_config_path() {
  const char* const path = secure_getenv("FSCRYPTCTL_CONFIG");
  return path != nullptr && *path != '\0' ? path : kDefaultConfigPath;
}

}  // namespace

Invocation::Invocation(std::string command, std::vector<std::string> tokens, Output& output)
    : out(output), command_(std::move(command)), tokens_(std::move(tokens)) {
  globals.config_path = default_config_path();
}

void Invocation::add_global_options(CLI::App& app) {
  const auto flag = [&app](const char* names, bool& value, const char* help) {
    app.add_flag(names, value, help)->group(kGlobalGroup);
  };
  app.set_help_flag("-h,--help", "show this help")->group(kGlobalGroup);
  const std::string version_help = "show the version; with --verbose also the libraries inside";
  app.add_flag("-v,--version", version_help)->group(kGlobalGroup);
  flag("-q,--quiet", globals.quiet, "only errors");
  flag("--verbose", globals.verbose, "say what is done");
  flag("--json", globals.json, "one JSON object on standard output");
  flag("-y,--yes", globals.yes, "confirm what would be asked");
  flag("--no-prompt,--no-input", globals.no_prompt, "never ask: missing input is an error");
  add_text(app, "--user", "NAME|UID", globals.user, "act for this user (root only)")
      ->group(kGlobalGroup);
  add_text(app, "--config", "FILE", globals.config_path,
           std::string("instead of ") + kDefaultConfigPath)
      ->group(kGlobalGroup);
}

void Invocation::add_mount_option(CLI::App& app) {
  add_text(app, "--mount", "MOUNTPOINT", globals.mount,
           "where protectors and keys are looked up (default: here)");
}

void Invocation::add_kdf_limit_option(CLI::App& app) {
  add_number(app, "--kdf-limit", "MIB", globals.kdf_limit_mib,
             "permit hashing that needs this much memory");
}

void Invocation::parse(CLI::App& app) {
  app.get_formatter()->column_width(32);
  app.name(command_.empty() ? "fscryptctl" : "fscryptctl " + command_);
  add_global_options(app);
  decode_values(app);
  std::vector<std::string> tokens = protect_tokens(app, tokens_);
  // Before anything can fail, so that the failure is reported as wanted.
  out.set({contains(tokens, "--quiet"), contains(tokens, "--verbose"), contains(tokens, "--json")});
  if (contains(tokens, "--help")) finish_with("help", app.help());
  if (contains(tokens, "--version")) finish_with_version(contains(tokens, "--verbose"));
  parse_tokens(app, std::move(tokens));
}

void Invocation::parse_tokens(CLI::App& app, std::vector<std::string> tokens) {
  app.allow_extras();  // reported below, in their own spelling
  std::reverse(tokens.begin(), tokens.end());
  try {
    app.parse(std::move(tokens));
  } catch (const CLI::ParseError& problem) {
    throw Error(Errc::usage, problem.what());
  }
  const std::vector<std::string> extras = app.remaining();
  if (!extras.empty()) {
    throw Error(Errc::usage, "unexpected argument: " + printable(unprotected(extras.front())));
  }
}

void Invocation::finish_with(const std::string& key, const std::string& text) {
  out.json()[key] = text;
  out.data(text);
  throw Finished{};
}

void Invocation::finish_with_version(bool with_libraries) {
  out.json()["version"] = FSCRYPTCTL_VERSION;
  std::string text = "fscryptctl " FSCRYPTCTL_VERSION "\n";
  if (with_libraries) {
    const std::string libraries = crypto_versions() + ", libargon2 " FSCRYPTCTL_ARGON2_VERSION
                                                      ", yaml-cpp " FSCRYPTCTL_YAML_CPP_VERSION;
    out.json()["libraries"] = libraries;
    text += libraries + "\n";
  }
  out.data(text);
  throw Finished{};
}

void Invocation::confirm(const std::string& question) {
  if (globals.yes) return;
  std::optional<Terminal> terminal;
  if (!globals.no_prompt) terminal = Terminal::open();
  if (!terminal) {
    throw Error(Errc::missing_input,
                "this needs to be confirmed on a terminal or with --yes: " + question);
  }
  if (!terminal->ask(one_line(question))) throw Error(Errc::declined, "not confirmed");
}

}  // namespace fscryptctl
