#include "fscryptctl/core/recovery.h"

#include "commands.h"
#include "invocation.h"
#include "recovery_key_output.h"
#include "report.h"
#include "secret_input.h"

namespace fscryptctl {
namespace {

void add_place_options(Invocation& invocation, CLI::App& app, ProtectorWish& wish) {
  add_text(app, "PATH", "", wish.path, "a directory that the protector opens");
  add_text(app, "--protector", "P", wish.protector, "the protector, where there are several");
  invocation.add_mount_option(app);
}

/// What is given for the existing secret may say which protector is meant.
std::optional<Source> kind_of(const SecretOptions& options) {
  if (options.recovery_key_file) return std::nullopt;
  if (options.key_file) return Source::raw_key;
  return options.passphrase_file ? std::optional(Source::passphrase) : std::nullopt;
}

void put_protector(Output& out, const ProtectorSummary& protector) {
  out.json()["protector"] = {{"id", protector.id.hex()},
                             {"name", protector.name},
                             {"source", source_name(protector.source)},
                             {"recovery_key", protector.has_recovery_key()}};
}

void report_created(Output& out, const RecoveryChange& change) {
  const UpdatedProtector& updated = change.updated;
  put_protector(out, updated.protector);
  out.json()["copies"] = json_list(updated.copies);
  const std::string name = "protector \"" + updated.protector.name + "\"";
  if (!change.changed) return out.message(name + " has this recovery key already");
  out.message(name + " has a recovery key now");
  for (const CopyState& copy : updated.copies) {
    if (copy.written) continue;
    out.note("the copy on " + printable(copy.mount_point) +
             " opens with another secret: the recovery key does not open it");
  }
}

void report_removed(Output& out, const RecoveryChange& change) {
  const UpdatedProtector& updated = change.updated;
  put_protector(out, updated.protector);
  out.json()["copies"] = json_list(updated.copies);
  const std::string name = "protector \"" + updated.protector.name + "\"";
  if (!change.changed) return out.message(name + " has no recovery key");
  out.message("removed the recovery key of " + name);
  for (const CopyState& copy : updated.copies) {
    if (copy.written) continue;
    out.note("the copy on " + printable(copy.mount_point) +
             " opens with another secret: if it has a recovery key, it keeps it");
  }
  out.note("old copies and backups of the metadata still open with it");
}

}  // namespace

int run_recovery_create(Invocation& invocation) {
  CLI::App app("makes a recovery key, one more way in when the passphrase is lost");
  ProtectorWish wish;
  SecretOptions secret_options;
  RecoveryKeyOptions options;
  bool replace = false;
  add_place_options(invocation, app, wish);
  add_text(app, "--output", "FILE", options.output,
           "write it here instead of showing it, - for standard output");
  app.add_flag("--qr", options.qr_code, "show or write it as QR code, too");
  app.add_flag("--replace", replace,
               "in place of the one it has, which opens nothing any more then");
  add_existing_secret_options(app, secret_options);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);
  RecoveryKeyOutput keeper(options, RecoveryKeyOutput::Wish::required, invocation);
  Context context = invocation.make_context();
  wish.mount = invocation.globals.mount.value_or(".");
  wish.kind = kind_of(secret_options);
  CommandLineSecrets secrets(secret_options, Spelling::existing_and_new, invocation);
  const RecoveryChange change = create_recovery_key(context, wish, replace, secrets, keeper);
  if (change.changed) invocation.out.set_changed();
  if (options.output && *options.output != "-") {
    put_path(invocation.out.json(), "output", *options.output);
  }
  report_created(invocation.out, change);
  return invocation.out.exit_code();
}

int run_recovery_verify(Invocation& invocation) {
  CLI::App app("proves that a recovery key opens a directory, and touches nothing");
  ProtectorWish wish;
  SecretOptions secret_options;
  add_place_options(invocation, app, wish);
  add_recovery_key_file_option(app, secret_options);
  invocation.parse(app);
  invocation.out.hints.recovery_key_tried = true;
  Context context = invocation.make_context();
  wish.mount = invocation.globals.mount.value_or(".");
  CommandLineSecrets secrets(secret_options, Spelling::existing_and_new, invocation);
  ProtectorSummary protector = verify_recovery_key(context, wish, secrets);
  put_protector(invocation.out, protector);
  invocation.out.message("the recovery key opens protector \"" + protector.name + "\"");
  return invocation.out.exit_code();
}

int run_recovery_remove(Invocation& invocation) {
  CLI::App app("takes a recovery key away: it opens nothing any more");
  ProtectorWish wish;
  SecretOptions secret_options;
  add_place_options(invocation, app, wish);
  add_existing_secret_options(app, secret_options);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);
  Context context = invocation.make_context();
  wish.mount = invocation.globals.mount.value_or(".");
  wish.kind = kind_of(secret_options);
  CommandLineSecrets secrets(secret_options, Spelling::existing_and_new, invocation);
  const RecoveryChange change = remove_recovery_key(context, wish, secrets);
  if (change.changed) invocation.out.set_changed();
  report_removed(invocation.out, change);
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
