#include "fscryptctl/core/backup.h"

#include "commands.h"
#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "report.h"

namespace fscryptctl {
namespace {

Json json_of_entry(const BackupEntry& entry) {
  Json object;
  object["kind"] = kind_of(entry.record);
  object["id"] = id_of(entry.record);
  object["uid"] = entry.uid;
  object["user"] = user_name(entry.uid);
  if (const auto* protector = std::get_if<ProtectorRecord>(&entry.record)) {
    object["name"] = protector->summary.name;
  }
  return object;
}

void put_paths(Json& object, const std::string& key, const std::vector<std::string>& paths) {
  Json& list = object[key] = Json::array();
  for (const std::string& path : paths) {
    Json entry;
    put_path(entry, "path", path);
    list.push_back(std::move(entry));
  }
}

void put_contents(Json& object, const BackupContents& contents) {
  put_path(object, "mountpoint", contents.mount_point);
  if (contents.backup.filesystem) object["filesystem"] = contents.backup.filesystem->hex();
  Json& records = object["records"] = Json::array();
  for (const BackupEntry& entry : contents.backup.entries) records.push_back(json_of_entry(entry));
  object["damaged"] = json_list(contents.damaged);
  put_paths(object, "not_managed", contents.not_managed);
  put_paths(object, "not_looked_at", contents.not_looked_at);
}

std::string summary(const Backup& backup) {
  std::size_t policies = 0;
  for (const BackupEntry& entry : backup.entries) {
    if (std::holds_alternative<PolicyRecord>(entry.record)) ++policies;
  }
  return counted(policies, "policy", "policies") + " and " +
         counted(backup.entries.size() - policies, "protector", "protectors");
}

void add_notes(Output& out, const BackupContents& contents) {
  for (const std::string& missing : contents.missing_protectors) {
    out.note(missing + ", whose record is not there");
  }
  for (const std::string& path : contents.not_managed) {
    out.note(printable(path) +
             " is encrypted, but no record here opens it: it is not in the backup");
  }
  if (contents.not_looked_at.empty()) return;
  out.note(counted(contents.not_looked_at.size(), "directory was", "directories were") +
           " not searched, " + printable(contents.not_looked_at.front()) + " for one");
}

void add_notes(Output& out, const WrittenBackup& written) {
  out.note(
      "whoever has this file can guess passphrases without this machine; it keeps opening with "
      "them after they were changed");
  if (!written.private_file) out.note("others can read the file where it lies");
  if (written.encrypted) {
    out.note(
        "it lies in an encrypted directory: keep a copy that can be read while that is locked");
  } else if (written.same_filesystem) {
    out.note("it lies on the filesystem that it is for: keep a copy elsewhere");
  }
}

void report_left_out(Output& out, const std::vector<DamagedRecord>& damaged) {
  for (const DamagedRecord& one : damaged) {
    out.error(Error(one.code, "not in the backup: " + printable(one.file) + " (user " +
                                  std::to_string(one.uid) + "): " + one.reason)
                  .with_path(one.file));
  }
}

}  // namespace

int run_backup(Invocation& invocation) {
  CLI::App app("saves all records that are needed to unlock what lies under a path");
  std::string path;
  std::string file;
  add_text(app, "PATH", "", path,
           "an encrypted directory, a directory above some, or a mount point for everything on it")
      ->required();
  add_text(app, "--output", "FILE", file, "the file to make; it must not exist")->required();
  invocation.parse(app);

  Context context = invocation.make_context();
  Output& out = invocation.out;
  const NewFile output(file);
  output.require_free();
  const BackupContents contents = collect_backup(context, path);
  put_contents(out.json(), contents);
  const WrittenBackup written = write_backup(context, contents, output);
  out.set_changed();
  put_path(out.json(), "output", file);
  out.message("wrote " + printable(file) + " (" + summary(contents.backup) + ")");
  add_notes(out, written);
  add_notes(out, contents);
  report_left_out(out, contents.damaged);
  return out.exit_code();
}

}  // namespace fscryptctl
