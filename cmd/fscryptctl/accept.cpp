#include <unistd.h>

#include "commands.h"
#include "fscryptctl/core/new_file.h"
#include "fscryptctl/core/share.h"
#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "report.h"
#include "secret_file.h"
#include "secret_input.h"
#include "signals.h"
#include "terminal.h"

namespace fscryptctl {
namespace {

struct Arguments {
  std::string file;
  std::optional<std::string> code_file;
  std::optional<std::string> source;
  AcceptRequest request;
  SecretOptions secrets;
};

Source parse_source(const std::string& name) {
  const std::optional<Source> source = source_from_name(name);
  if (source && *source != Source::login) return *source;
  throw Error(Errc::usage,
              "invalid source: " + printable(name) + " (passphrase or raw-key is possible)");
}

void add_options(CLI::App& app, Arguments& arguments) {
  add_text(app, "FILE", "", arguments.file, "made by share")->required();
  add_text(app, "--code-file", "FILE", arguments.code_file,
           "the one-time code: the first line of a file, - for standard input");
  add_text(app, "--source", "KIND", arguments.source,
           "what opens it from now on: passphrase (default) or raw-key");
  add_text(app, "--name", "NAME", arguments.request.name,
           "of the new protector; default: the directory's");
  add_text(app, "--protector", "P", arguments.request.protector,
           "let this existing protector open it instead of a new one");
  add_existing_secret_options(app, arguments.secrets);
  add_new_secret_options(app, arguments.secrets);
}

void finish_request(const Config& config, Arguments& arguments) {
  AcceptRequest& request = arguments.request;
  if (request.protector && (arguments.source || request.name)) {
    throw Error(Errc::usage, "--protector goes without --source and --name");
  }
  if (arguments.source) {
    request.source = parse_source(*arguments.source);
  } else if (arguments.secrets.key_file || arguments.secrets.new_key_file) {
    request.source = Source::raw_key;
  } else if (config.source != Source::login) {
    request.source = config.source;
  }
}

SharedPolicy read_share(Output& out, const std::string& file) {
  const NamedText read = read_named_text(file, kMaxRecordSize);
  try {
    SharedPolicy shared = parse_share(read.text);
    if (read.readable_by_others) {
      out.note("others can read " + printable(file) + ": with the code they can open it, too");
    }
    return shared;
  } catch (const Error& error) {
    throw Error(error.code(), printable(file) + ": " + error.what()).with_path(file);
  }
}

Error wrong_code(const std::string& file, bool mistyped) {
  return Error(Errc::wrong_key,
               mistyped ? "the code is mistyped" : "the code is not the one for " + printable(file))
      .with_path(file);
}

/// The key, or which error the text is.
struct Tried {
  std::optional<PolicyKey> key;
  bool mistyped = false;
};

Tried try_code(const SharedPolicy& shared, const SecretBytes& text) {
  const std::optional<ShareCode> code = read_share_code(text.view());
  if (!code) return {std::nullopt, true};
  return {open_share(shared, *code), false};
}

PolicyKey ask_for_code(Invocation& invocation, const SharedPolicy& shared,
                       const std::string& file) {
  std::optional<Terminal> terminal;
  if (!invocation.globals.no_prompt) terminal = Terminal::open();
  if (!terminal) throw Error(Errc::missing_input, "no code: give --code-file");
  bool mistyped = false;
  for (int left = CommandLineSecrets::kTries; left > 0; --left) {
    if (left < CommandLineSecrets::kTries) {
      terminal->say(std::string(mistyped ? "mistyped" : "wrong code") + ", " +
                    std::to_string(left) + (left == 1 ? " try left" : " tries left"));
    }
    Tried tried = try_code(
        shared, terminal->read_secret("one-time code for " + one_line(printable(file)) + ": "));
    if (tried.key) return std::move(*tried.key);
    mistyped = tried.mistyped;
  }
  throw wrong_code(file, mistyped);
}

PolicyKey open_with_code(Invocation& invocation, const SharedPolicy& shared,
                         const Arguments& arguments) {
  std::optional<std::string> source = arguments.code_file;
  if (!source && ::isatty(STDIN_FILENO) == 0) source = "-";
  // What is typed there must not be seen.
  const bool typed = source == "-" && ::isatty(STDIN_FILENO) != 0;
  if (!source || typed) return ask_for_code(invocation, shared, arguments.file);
  Tried tried = try_code(shared, SecretFile(*source).line());
  if (!tried.key) throw wrong_code(arguments.file, tried.mistyped);
  return std::move(*tried.key);
}

std::string shown_path(const SharePlace& place, const SharedPolicy& shared) {
  if (place.hint) return place.filesystem.path_of_hint(*place.hint).value_or("/" + *place.hint);
  return shared.paths.empty() ? "" : "/" + shared.paths.back();
}

}  // namespace

int run_accept(Invocation& invocation) {
  CLI::App app("takes what another user has shared: writes records of one's own");
  Arguments arguments;
  add_options(app, arguments);
  invocation.add_mount_option(app);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);

  Context context = invocation.make_context();
  Output& out = invocation.out;
  finish_request(context.config(), arguments);
  const SharedPolicy shared = read_share(out, arguments.file);
  const SharePlace place = find_share_place(context, shared, invocation.globals.mount);
  const std::string path = shown_path(place, shared);
  out.json()["key_identifier"] = shared.key_identifier.hex();
  put_path(out.json(), "mountpoint", place.filesystem.mount().mount_point);
  if (place.hint) put_path(out.json(), "path", path);
  const auto nothing_to_accept = [&out] {
    out.message("there is a record of this key already: nothing to accept");
    return out.exit_code();
  };
  if (accepted_before(context, place, shared)) return nothing_to_accept();
  CommandLineSecrets secrets(
      arguments.secrets,
      arguments.request.protector ? Spelling::existing_and_new : Spelling::all_new, invocation);
  out.hints.code_wanted = true;
  const PolicyKey key = open_with_code(invocation, shared, arguments);
  out.hints.code_wanted = false;
  const AcceptResult result = accept_share(context, place, shared, key, arguments.request, secrets);
  if (!result.changed) return nothing_to_accept();  // another run was faster
  out.set_changed();
  out.json()["uid"] = result.user.uid;
  out.json()["user"] = user_name(result.user.uid);
  out.json()["protector"] = Json{{"id", result.protector.id.hex()},
                                 {"name", result.protector.name},
                                 {"source", source_name(result.protector.source)}};
  const std::string what = place.hint ? printable(path) : "policy " + shared.key_identifier.hex();
  out.message(what + " opens with " + way_in(result.protector) + " now");
  if (!place.hint) {
    out.note("its directory is not seen on " + printable(place.filesystem.mount().mount_point) +
             " by this user");
  }
  return out.exit_code();
}

}  // namespace fscryptctl
