#include "commands.h"
#include "fscryptctl/core/change_secret.h"
#include "invocation.h"
#include "report.h"
#include "secret_input.h"

namespace fscryptctl {
namespace {

void report(Output& out, const UpdatedProtector& result) {
  const ProtectorSummary& protector = result.protector;
  out.json()["protector"] = {{"id", protector.id.hex()},
                             {"name", protector.name},
                             {"source", source_name(protector.source)}};
  out.json()["copies"] = json_list(result.copies);
  const std::string what = protector.source == Source::raw_key ? "key" : "passphrase";
  out.message("changed the " + what + " of protector \"" + protector.name + "\"");
  for (const CopyState& copy : result.copies) {
    if (!copy.written) {
      out.note(describe_stale(copy, protector));
    }
  }
  out.note("old copies and backups of the metadata still open with the previous " + what);
}

/// What is given for the existing secret says more than what is given for the new one.
std::optional<Source> kind_of(const SecretOptions& options) {
  if (options.key_file) return Source::raw_key;
  if (options.passphrase_file) return Source::passphrase;
  if (options.new_key_file) return Source::raw_key;
  if (options.new_passphrase_file) return Source::passphrase;
  return std::nullopt;
}

}  // namespace

int run_change_passphrase(Invocation& invocation) {
  CLI::App app("replaces the passphrase or key file of a protector; no data is encrypted again");
  ProtectorWish wish;
  SecretOptions secret_options;
  add_text(app, "PATH", "", wish.path, "a directory that the protector opens");
  add_text(app, "--protector", "P", wish.protector, "the protector to change");
  add_existing_secret_options(app, secret_options);
  add_new_secret_options(app, secret_options);
  invocation.add_mount_option(app);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);
  Context context = invocation.make_context();
  wish.mount = invocation.globals.mount.value_or(".");
  wish.kind = kind_of(secret_options);
  CommandLineSecrets secrets(secret_options, Spelling::existing_and_new, invocation);
  secrets.replaces_login_password();
  const UpdatedProtector result = change_secret(context, wish, secrets);
  invocation.out.set_changed();
  report(invocation.out, result);
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
