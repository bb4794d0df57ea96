#include "fscryptctl/core/restore.h"

#include <algorithm>

#include "commands.h"
#include "fscryptctl/core/backup.h"
#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "report.h"
#include "table.h"

namespace fscryptctl {
namespace {

/// The word that scripts read, and the list that it stands in.
struct Words {
  const char* state;
  const char* list;
  const char* text;
};

Words words_of(RestoreState state) {
  switch (state) {
    case RestoreState::written:
      return {"written", "restored", "restored"};
    case RestoreState::replaced:
      return {"replaced", "restored", "replaced what was there"};
    case RestoreState::identical:
      return {"identical", "skipped", "is there already"};
    case RestoreState::equivalent:
      return {"equivalent", "skipped", "is there already, with another name or other hints"};
    case RestoreState::other_user:
      return {"other_user", "skipped", "belongs to another user"};
    case RestoreState::different:
      return {"different", "conflicts", "kept: another one is there"};
    case RestoreState::damaged:
      return {"damaged", "conflicts", "kept: what is there is damaged or not trusted"};
    case RestoreState::newer_format:
      return {"newer_format", "conflicts", "kept: what is there is of a newer format"};
    case RestoreState::duplicate:
      return {"duplicate", "conflicts", "left out: another user's in the backup is different"};
    case RestoreState::changed:
      return {"changed", "conflicts", "kept: it has just been changed"};
    case RestoreState::failed:
      return {"failed", "failed", "failed"};
  }
  return {"", "", ""};
}

Json json_of_item(const RestoreItem& item) {
  Json object;
  object["kind"] = item.kind;
  object["id"] = item.id;
  object["uid"] = item.uid;
  object["user"] = item.user;
  if (!item.name.empty()) object["name"] = item.name;
  object["state"] = words_of(item.state).state;
  return object;
}

void put_result(Json& object, const RestoreResult& result) {
  for (const char* list : {"restored", "skipped", "conflicts", "failed"}) {
    object[list] = Json::array();
  }
  for (const RestoreItem& item : result.items) {
    object[words_of(item.state).list].push_back(json_of_item(item));
  }
}

std::string text_of(RestoreState state, bool dry_run) {
  if (dry_run && state == RestoreState::written) return "would be restored";
  if (dry_run && state == RestoreState::replaced) return "would replace what is there";
  return words_of(state).text;
}

void show(Output& out, const RestoreResult& result, bool dry_run) {
  Table table({"RECORD", "ID", "USER", "NAME", "RESULT"});
  for (const RestoreItem& item : result.items) {
    table.add({item.kind, item.id, item.user, item.name, text_of(item.state, dry_run)});
  }
  out.data(table.text());
}

std::size_t conflicts_of(const RestoreResult& result) {
  return static_cast<std::size_t>(
      std::count_if(result.items.begin(), result.items.end(), [](const RestoreItem& item) {
        return std::string_view(words_of(item.state).list) == "conflicts";
      }));
}

void add_notes(Output& out, const RestoreResult& result) {
  for (const RestoreItem& item : result.items) {
    if (item.renamed) {
      out.note("protector " + item.id + " is called " + printable(item.name) +
               " here: its name was taken");
    }
  }
  for (const std::string& missing : result.missing_protectors) {
    out.note(missing + ", which is neither in the backup nor there");
  }
  const std::size_t others = result.count(RestoreState::other_user);
  if (others > 0) {
    out.note(counted(others, "record belongs", "records belong") +
             " to other users; --user takes them over for yourself");
  }
}

void report_failures(Output& out, const RestoreResult& result) {
  for (const Error& error : result.failures) out.error(error);
  const std::size_t conflicts = conflicts_of(result);
  if (conflicts == 0) return;
  out.error(Error(Errc::conflict, counted(conflicts, "record is", "records are") +
                                      " different from what is there, which was kept"));
}

bool is_of(const Backup& backup, const Filesystem& filesystem) {
  return backup.filesystem && filesystem.uuid() == backup.filesystem;
}

/// A backup of another filesystem is restored as well, since disks are replaced; but it is said.
void note_filesystem(Output& out, const Backup& backup, const Filesystem& filesystem) {
  if (!backup.filesystem || is_of(backup, filesystem)) return;
  std::string where = "the backup was made of another filesystem";
  if (!backup.mount_point.empty()) where += ", mounted at " + printable(backup.mount_point);
  out.note(where + "; this is " + printable(filesystem.mount().mount_point));
}

/// `--mount`, else the filesystem here; but if that has no metadata at all, the one that the backup
/// was made of. Anybody can give a disk of her own any UUID, so that such a one does not count, and
/// two of the same neither.
Filesystem choose_filesystem(const Invocation& invocation, const Context& context,
                             const Backup& backup) {
  Filesystem here = filesystem_of_path(context, invocation.globals.mount.value_or("."));
  if (invocation.globals.mount || (here.trusted() && here.metadata())) return here;
  std::vector<Filesystem> found = local_filesystems(context);
  std::erase_if(found, [&](const Filesystem& filesystem) {
    const uid_t owner = filesystem.trusted_owner().uid;
    return !is_of(backup, filesystem) || (owner != 0 && owner != context.caller.uid);
  });
  return found.size() == 1 ? std::move(found.front()) : std::move(here);
}

bool holds_nothing_for(const Context& context, const Backup& backup) {
  if (context.user || context.caller.uid == 0) return false;
  return std::none_of(backup.entries.begin(), backup.entries.end(),
                      [&](const BackupEntry& entry) { return entry.uid == context.caller.uid; });
}

void ask(Invocation& invocation, const RestoreResult& plan, const Filesystem& filesystem) {
  const std::size_t replaced = plan.count(RestoreState::replaced);
  if (replaced == 0) return;
  invocation.confirm("replace " + counted(replaced, "record", "records") + " on " +
                     printable(filesystem.mount().mount_point) +
                     "? secrets and protectors that came after the backup open them no longer");
}

}  // namespace

int run_restore(Invocation& invocation) {
  CLI::App app("writes the records of a backup back");
  std::string file;
  RestoreRequest request;
  add_text(app, "FILE", "", file, "made by backup")->required();
  app.add_flag("--dry-run", request.dry_run, "only say what would happen");
  app.add_flag("--replace", request.replace, "replace records that are different or damaged");
  invocation.add_mount_option(app);
  invocation.parse(app);

  Context context = invocation.make_context();
  Output& out = invocation.out;
  const ReadBackup read = read_backup(file);
  if (read.readable_by_others) {
    out.note("others can read " + printable(file) + ", and guess passphrases with it");
  }
  const Filesystem filesystem = choose_filesystem(invocation, context, read.backup);
  put_path(out.json(), "mountpoint", filesystem.mount().mount_point);
  out.json()["dry_run"] = request.dry_run;
  // Somebody who just stands somewhere does not mean that place to be set up.
  request.set_up = invocation.globals.mount.has_value() || is_of(read.backup, filesystem);
  out.hints.foreign_backup = holds_nothing_for(context, read.backup);
  RestoreRequest look = request;
  look.dry_run = true;
  RestoreResult result = restore(context, filesystem, read.backup, look);
  note_filesystem(out, read.backup, filesystem);
  if (!request.dry_run) {
    ask(invocation, result, filesystem);
    result = restore(context, filesystem, read.backup, request, &result);
    const std::size_t written =
        result.count(RestoreState::written) + result.count(RestoreState::replaced);
    if (written > 0) out.set_changed();
  }
  put_result(out.json(), result);
  show(out, result, request.dry_run);
  add_notes(out, result);
  report_failures(out, result);
  return out.exit_code();
}

}  // namespace fscryptctl
