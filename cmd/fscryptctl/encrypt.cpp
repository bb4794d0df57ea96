#include "fscryptctl/core/encrypt.h"

#include <algorithm>

#include "commands.h"
#include "encrypt_options.h"
#include "fscryptctl/core/status.h"
#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "recovery_key_output.h"
#include "report.h"
#include "secret_input.h"

namespace fscryptctl {
namespace {

bool has_recovery_key(const EncryptResult& result) {
  return std::any_of(result.protectors.begin(), result.protectors.end(),
                     [](const auto& protector) { return protector.has_recovery_key(); });
}

std::string secret_of(Source source) {
  switch (source) {
    case Source::raw_key:
      return "key file";
    case Source::login:
      return "login password";
    case Source::passphrase:
      break;
  }
  return "passphrase";
}

std::string what_is_at_stake(const EncryptResult& result) {
  const std::string without = "without the " + secret_of(result.protectors.front().source);
  if (has_recovery_key(result)) {
    return without + " or the recovery key nobody can read these files; there is no backup yet";
  }
  return without + " nobody can read these files; there is no recovery key and no backup yet";
}

void report(Invocation& invocation, Context& context, const EncryptRequest& request,
            const EncryptResult& result, bool wants_recovery_key) {
  Output& out = invocation.out;
  if (out.json_wanted()) {
    const PathStatus status = path_status(context, request.path, true);
    out.json().update(json_of(*status.directory));
    out.json()["key_identifier"] = result.key_identifier.hex();
    put_key(out.json(), result.key);
  }
  const std::string path = printable(request.path);
  if (!result.changed) out.message(path + " is encrypted already");
  if (!result.changed && wants_recovery_key && !has_recovery_key(result)) {
    out.note("no recovery key was made: see fscryptctl recovery create");
  }
  if (!result.changed) return;
  std::string state = result.key.state == KeyState::absent ? "locked" : "unlocked";
  if (result.only_owner_enters) {
    state += "; only " + printable(user_name(result.user.uid)) + " can enter";
  }
  out.message("encrypted " + path + " (" + state + ")");
  out.note(what_is_at_stake(result));
  if (wants_recovery_key && !result.recovery_key_made) {
    out.note(has_recovery_key(result)
                 ? "the login protector had a recovery key already: no other was made"
                 : "no recovery key was made: see fscryptctl recovery create");
  }
  if (result.login_copied) {
    const std::string mount =
        printable(filesystem_of_path(context, request.path).mount().mount_point);
    out.note("whoever has the disk of " + mount + " can now try to guess the login password");
  }
}

}  // namespace

int run_encrypt(Invocation& invocation) {
  CLI::App app("encrypts an empty directory");
  NewPolicyOptions options;
  EncryptRequest& request = options.request;
  add_text(app, "DIRECTORY", "", request.path, "an empty directory")->required();
  app.add_flag("--create", request.create, "make the directory, for its user alone");
  add_new_policy_options(app, options);
  invocation.add_mount_option(app);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);

  Context context = invocation.make_context();
  const bool only_new = settle(options, invocation, context);
  CommandLineSecrets secrets(options.secrets,
                             only_new ? Spelling::all_new : Spelling::existing_and_new, invocation);
  RecoveryKeyOutput recovery_key = recovery_key_output(options, only_new, invocation);
  request.recovery_key = &recovery_key;
  const EncryptResult result = encrypt_directory(context, request, secrets);
  if (result.changed) invocation.out.set_changed();
  report(invocation, context, request, result, options.recovery.output.has_value());
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
