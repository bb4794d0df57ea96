#include "fscryptctl/core/import_google.h"

#include "commands.h"
#include "fscryptctl/core/import_homed.h"
#include "fscryptctl/core/users.h"
#include "google_config.h"
#include "invocation.h"
#include "report.h"
#include "secret_input.h"
#include "table.h"
#include "terminal.h"

namespace fscryptctl {
namespace {

std::string_view state_name(ImportState state) {
  switch (state) {
    case ImportState::imported:
      return "imported";
    case ImportState::updated:
      return "updated";
    case ImportState::unchanged:
      return "unchanged";
    case ImportState::outdated:
      return "outdated";
    case ImportState::kept:
      return "kept";
  }
  return {};
}

/// What people read: it tells whether something is still to be done.
std::string state_text(ImportState state, bool dry_run) {
  switch (state) {
    case ImportState::imported:
      return dry_run ? "would be imported" : "imported";
    case ImportState::updated:
      return dry_run ? "would be updated" : "updated";
    case ImportState::unchanged:
      return "imported before";
    case ImportState::outdated:
      return "imported before, changed since (--update)";
    case ImportState::kept:
      return "wrapped anew here, kept";
  }
  return {};
}

Json json_of(const ImportedRecord& record) {
  Json object;
  object["kind"] = record.policy ? "policy" : "protector";
  if (record.policy) {
    object["key_identifier"] = record.policy->key_identifier.hex();
    object["protectors"] = Json::array();
    for (const ProtectorId& id : record.policy->protectors) {
      object["protectors"].push_back(id.hex());
    }
  }
  if (record.protector) {
    object["id"] = record.protector->id.hex();
    object["name"] = record.protector->name;
    object["source"] = source_name(record.protector->source);
  }
  object["uid"] = record.uid;
  object["user"] = printable(record.user);
  object["state"] = state_name(record.state);
  put_path(object, "file", record.file);
  return object;
}

Json json_of(const SkippedFile& skipped) {
  Json object;
  put_path(object, "file", skipped.file);
  object["reason"] = skipped.reason;
  object["code"] = errc_info(skipped.code).reason;
  return object;
}

template <class Item>
Json list_of(const std::vector<Item>& items) {
  Json list = Json::array();
  for (const Item& item : items) list.push_back(json_of(item));
  return list;
}

Json json_of(const Output& out, const FailedUser& failed) {
  Json object;
  object["uid"] = failed.uid;
  object["user"] = printable(failed.user);
  object["error"] = out.error_json(failed.error);
  return object;
}

/// What was done, where: whoever named a directory below the mount point sees it here.
void report_summary(Output& out, const GoogleImport& result, const std::string& mount_point,
                    bool dry_run) {
  std::size_t protectors = 0;
  std::size_t policies = 0;
  std::size_t outdated = 0;
  for (const ImportedRecord& record : result.records) {
    const bool written =
        record.state == ImportState::imported || record.state == ImportState::updated;
    if (written) ++(record.policy ? policies : protectors);
    if (record.state == ImportState::outdated) ++outdated;
  }
  const std::string where = " on " + printable(mount_point);
  if (protectors + policies > 0) {
    out.message((dry_run ? "would import " : "imported ") +
                counted(protectors, "protector", "protectors") + " and " +
                counted(policies, "policy", "policies") + where);
  } else if (result.failed.empty()) {
    out.message("nothing new to import" + where);
  }
  if (outdated > 0) {
    out.note(counted(outdated, "record was", "records were") +
             " changed with google/fscrypt since: --update takes that over");
  }
}

/// What becomes of one user's records does not touch the others'.
void report_failures(Output& out, const GoogleImport& result) {
  Json list = Json::array();
  for (const FailedUser& failed : result.failed) {
    Error error(failed.error.code(),
                "not everything of " + printable(failed.user) +
                    " could be imported: " + failed.error.what(),
                failed.error.sys_errno());
    if (!failed.error.path().empty()) error.with_path(failed.error.path());
    list.push_back(json_of(out, failed));
    out.error(error);
  }
  out.json()["failed"] = std::move(list);
}

void report(Output& out, const GoogleImport& result, bool dry_run) {
  if (result.changed) out.set_changed();
  out.json()["imported"] = list_of(result.records);
  out.json()["skipped"] = list_of(result.skipped);
  Table table({"KIND", "ID", "NAME", "USER", "STATE"});
  for (const ImportedRecord& record : result.records) {
    table.add({record.policy ? "policy" : "protector",
               record.policy ? record.policy->key_identifier.hex() : record.protector->id.hex(),
               record.policy ? "" : record.protector->name, record.user,
               state_text(record.state, dry_run)});
  }
  out.data(table.text());
  for (const SkippedFile& skipped : result.skipped) {
    out.note("not imported: " + printable(skipped.file) + ": " + skipped.reason);
  }
}

/// Version 1 is not damage: those directories simply stay with the other tool.
void report_damage(Output& out, const GoogleImport& result, const std::string& mount_point) {
  std::size_t bad = 0;
  for (const SkippedFile& skipped : result.skipped) {
    if (skipped.code != Errc::policy_version) ++bad;
  }
  if (bad == 0) return;
  out.error(Error(Errc::corrupt_metadata, std::to_string(bad) + (bad == 1 ? " file" : " files") +
                                              " of google/fscrypt on " + printable(mount_point) +
                                              " could not be imported")
                .with_path(mount_point));
}

std::string describe(const Config& config) {
  std::string text = std::string(source_name(config.source)) + ", " +
                     std::string(mode_name(config.encryption.contents)) + " / " +
                     std::string(mode_name(config.encryption.filenames));
  if (config.kdf) {
    text += ", Argon2id with " + counted(config.kdf->passes, "pass", "passes") + " over " +
            std::to_string(config.kdf->memory_kib) + " KiB in " +
            counted(config.kdf->lanes, "lane", "lanes");
  }
  return text;
}

bool agrees(Invocation& invocation, const std::string& question) {
  if (invocation.globals.yes) return true;
  std::optional<Terminal> terminal;
  if (!invocation.globals.no_prompt) terminal = Terminal::open();
  return terminal && terminal->ask(one_line(question));
}

/// The other tool's defaults, where we have none. Nobody gets them without having said so.
void offer_defaults(Invocation& invocation, const Context& context, bool dry_run) {
  Output& out = invocation.out;
  if (context.caller.uid != 0) return;
  std::optional<Config> config;
  try {
    if (read_config(context.config_path)) return;
  } catch (const Error&) {
    return;  // there is one, though a bad one: it is not for us to replace
  }
  try {
    config = read_google_config(kGoogleConfigPath);
  } catch (const Error& error) {
    return out.note(std::string(kGoogleConfigPath) + " is not taken over: " + error.what());
  }
  if (!config) return;
  const std::string ours = printable(context.config_path);
  Json& json = out.json()["defaults"];
  json = {{"file", kGoogleConfigPath}, {"source", source_name(config->source)}};
  if (config->kdf) json["kdf"] = fscryptctl::json_of(*config->kdf);
  json["encryption"] = fscryptctl::json_of(config->encryption);
  json["written"] = false;
  if (dry_run || !agrees(invocation, std::string("take over the defaults of ") + kGoogleConfigPath +
                                         " (" + describe(*config) + ") into " + ours + "?")) {
    return out.note(std::string(kGoogleConfigPath) + " could serve as " + ours + " (" +
                    describe(*config) + "): --yes takes it over");
  }
  write_config(context.config_path, *config);
  json["written"] = true;
  out.set_changed();
  out.message("wrote " + ours + " with the defaults of " + kGoogleConfigPath);
}

}  // namespace

int run_import_google_fscrypt(Invocation& invocation) {
  CLI::App app(
      "takes over the protectors and policies that google/fscrypt keeps on a filesystem; no\n"
      "passphrase is needed, and what that tool has written stays as it is");
  std::string mount_point;
  GoogleImportRequest request;
  add_text(app, "MOUNTPOINT", "", mount_point, "the filesystem")->required();
  app.add_flag("--dry-run", request.dry_run, "only show what would be imported");
  app.add_flag("--update", request.update,
               "take over again what google/fscrypt has changed since, unless it was changed here");
  invocation.parse(app);
  Output& out = invocation.out;
  out.hints.importing = true;
  Context context = invocation.make_context();
  const Filesystem filesystem = filesystem_of_path(context, mount_point);
  put_path(out.json(), "mountpoint", filesystem.mount().mount_point);
  out.json()["dry_run"] = request.dry_run;
  GoogleImport result;
  try {
    import_google_fscrypt(context, filesystem, request, result);
  } catch (const Error&) {
    report(out, result, request.dry_run);
    throw;
  }
  report(out, result, request.dry_run);
  report_summary(out, result, filesystem.mount().mount_point, request.dry_run);
  report_failures(out, result);
  report_damage(out, result, filesystem.mount().mount_point);
  offer_defaults(invocation, context, request.dry_run);
  return out.exit_code();
}

namespace {

/// How to go on from a version 1 home, with the commands that there are.
std::string next_step(const Output& out, const std::string& path) {
  const std::string shown = shell_quoted(path);
  if (out.hints.has_command("reencrypt")) return "fscryptctl reencrypt " + shown;
  return "make a new directory with \"fscryptctl encrypt NEW --create\" and copy the files there "
         "(cp -a " +
         shown + "/. NEW), then remove the old ones";
}

void report(Output& out, const std::string& path, const HomedImport& result) {
  if (result.changed) out.set_changed();
  put_path(out.json(), "path", path);
  out.json()["policy"] = fscryptctl::json_of(result.policy);
  out.json()["unusable_slots"] = result.unusable_slots;
  out.json()["unlocked_for_copying"] = result.unlocked_for_copying;
  out.json()["owned_by_nobody"] = result.owned_by_nobody;
  const std::string shown = printable(path);
  if (result.unlocked_for_copying) {
    out.message(shown +
                " has a version 1 policy, which cannot be taken over; it is unlocked for "
                "copying, for everybody whom permissions let in");
    out.note("next: " + next_step(out, path));
    out.note("it stays unlocked until \"fscryptctl lock " + shell_quoted(path) +
             "\", or until its filesystem is unmounted");
    return;
  }
  const std::string user = user_name(result.user->uid);
  out.json()["uid"] = result.user->uid;
  out.json()["user"] = printable(user);
  if (result.protector) {
    out.json()["protector"] = {{"id", result.protector->id.hex()},
                               {"name", result.protector->name},
                               {"source", source_name(result.protector->source)}};
  }
  out.message(result.changed ? "imported " + shown + " for " + printable(user)
                             : shown + " was imported before");
  if (result.changed) {
    out.note("a password that is changed with systemd-homed later is not changed here");
    if (result.owned_by_nobody) {
      out.note(
          "its files belong to nobody on the disk, as systemd-homed wants them; when that is "
          "not used any more: unlock it, then chown -R " +
          shell_quoted(user) + ": " + shell_quoted(path));
    }
  }
}

}  // namespace

int run_import_systemd_homed(Invocation& invocation) {
  CLI::App app(
      "takes over a home directory that systemd-homed encrypts, with one of its passwords or its\n"
      "recovery key; the password becomes a protector's passphrase");
  HomedImportRequest request;
  SecretOptions secret_options;
  add_text(app, "DIRECTORY", "", request.path, "the home directory, /home/USER.homedir")
      ->required();
  add_text(app, "--name", "NAME", request.name, "the new protector's name")->required();
  add_text(app, "--passphrase-file", "FILE", secret_options.passphrase_file,
           "password or recovery key: the first line of a file, - for standard input");
  invocation.parse(app);
  Context context = invocation.make_context();
  CommandLineSecrets secrets(secret_options, Spelling::existing_and_new, invocation);
  report(invocation.out, request.path, import_homed(context, request, secrets));
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
