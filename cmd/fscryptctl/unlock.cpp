#include "fscryptctl/core/unlock.h"

#include "commands.h"
#include "fscryptctl/core/status.h"
#include "invocation.h"
#include "report.h"
#include "secret_input.h"
#include "signals.h"

namespace fscryptctl {
namespace {

struct Arguments {
  std::vector<std::string> paths;
  std::optional<std::string> policy;
  UnlockRequest request;
};

/// Whoever mistypes the passphrase of an unlocked directory had better save the files first.
bool is_unlocked(Context& context, const std::string& path) {
  try {
    const Target target = look_at(context, path);
    return target.policy &&
           context.kernel.key_status(target.filesystem.fd(), target.policy->key).state ==
               KeyState::present;
  } catch (const Error&) {
    return false;  // it vanished; the error that is being reported says enough
  }
}

void say(Output& out, const std::string& path, const UnlockRequest& request,
         const UnlockResult& result) {
  if (request.dry_run) return out.message(path + ": the secret opens it");
  out.message(result.changed ? "unlocked " + path : path + " is unlocked already");
}

Json entry(const std::string& path) {
  Json object;
  if (!path.empty()) put_path(object, "path", path);
  object["ok"] = true;
  object["changed"] = false;
  return object;
}

void put_result(Json& object, const UnlockResult& result) {
  object["changed"] = result.changed;
  object["key_identifier"] = result.key_identifier.hex();
  put_key(object, result.key);
}

void unlock_path(Invocation& invocation, Context& context, const std::string& path,
                 const UnlockRequest& request, Opener& opener) {
  Output& out = invocation.out;
  Json object = entry(path);
  // Several paths are independent of each other: one that fails does not stop the rest.
  try {
    const UnlockResult result = unlock_directory(context, path, request, opener);
    if (result.changed) out.set_changed();
    put_result(object, result);
    say(out, printable(path), request, result);
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    if (error.code() == Errc::wrong_key) out.hints.unlocked_now = is_unlocked(context, path);
    out.error(error);
    object["ok"] = false;
    object["error"] = out.error_json(error);
    out.hints.unlocked_now = false;
  }
  out.json()["results"].push_back(std::move(object));
}

void unlock_named_policy(Invocation& invocation, Context& context, const Arguments& arguments,
                         Opener& opener) {
  const std::optional<KeyIdentifier> key = KeyIdentifier::from_hex(*arguments.policy);
  if (!key) {
    throw Error(Errc::usage, "invalid key identifier: " + printable(*arguments.policy));
  }
  const Filesystem filesystem = filesystem_of_path(context, invocation.globals.mount.value_or("."));
  const UnlockResult result = unlock_key(context, filesystem, *key, arguments.request, opener);
  if (result.changed) invocation.out.set_changed();
  Json object = entry("");
  put_result(object, result);
  invocation.out.json()["results"].push_back(std::move(object));
  say(invocation.out, "policy " + key->hex(), arguments.request, result);
}

/// Names what could have been meant.
Error nothing_named(Context& context) {
  std::vector<std::string> locked;
  for (const MountStatus& mount : system_status(context)) {
    for (const DirectoryStatus& directory : mount.directories) {
      if (!directory.missing && directory.key.state != KeyState::present) {
        locked.push_back(directory.path);
      }
    }
  }
  Error error(Errc::missing_input, locked.empty()
                                       ? "name the directory to unlock"
                                       : "name the directory to unlock: these are locked");
  return error.with_candidates(locked);
}

}  // namespace

int run_unlock(Invocation& invocation) {
  CLI::App app("makes the files of encrypted directories readable");
  Arguments arguments;
  SecretOptions secret_options;
  add_text(app, "PATH", "", arguments.paths, "encrypted directories");
  add_text(app, "--policy", "KEYID", arguments.policy,
           "a policy by its key identifier, on the filesystem of --mount");
  add_text(app, "--protector", "P", arguments.request.protector, "open with this protector only");
  app.add_flag("--dry-run", arguments.request.dry_run,
               "only prove that the secret opens it, touch nothing");
  add_existing_secret_options(app, secret_options);
  invocation.add_mount_option(app);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);
  if (arguments.policy && !arguments.paths.empty()) {
    throw Error(Errc::usage, "--policy and a path do not go together");
  }

  Context context = invocation.make_context();
  if (!arguments.policy && arguments.paths.empty()) throw nothing_named(context);
  CommandLineSecrets secrets(secret_options, Spelling::existing_and_new, invocation);
  Opener opener(secrets, context);
  invocation.out.json()["results"] = Json::array();
  if (arguments.policy) {
    unlock_named_policy(invocation, context, arguments, opener);
    return invocation.out.exit_code();
  }
  for (const std::string& path : arguments.paths) {
    throw_if_interrupted();
    unlock_path(invocation, context, path, arguments.request, opener);
  }
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
