#include "fscryptctl/core/import_google.h"

#include "commands.h"
#include "google_config.h"
#include "invocation.h"
#include "report.h"
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
    text += ", Argon2id with " + std::to_string(config.kdf->passes) + " passes over " +
            std::to_string(config.kdf->memory_kib) + " KiB in " +
            std::to_string(config.kdf->lanes) + " lanes";
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
  if (context.caller.uid != 0 || read_config(context.config_path)) return;
  std::optional<Config> config;
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
  report_damage(out, result, filesystem.mount().mount_point);
  offer_defaults(invocation, context, request.dry_run);
  return out.exit_code();
}

}  // namespace fscryptctl
