#include <algorithm>

#include "admin.h"
#include "commands.h"
#include "fscryptctl/core/login.h"
#include "fscryptctl/core/rotate.h"
#include "fscryptctl/core/setup.h"
#include "fscryptctl/core/users.h"
#include "report.h"
#include "table.h"

namespace fscryptctl {
namespace {

/// P and where it is looked up.
struct Named {
  std::string protector;
  SecretOptions secrets;
};

void add_protector_argument(Invocation& invocation, CLI::App& app, Named& named) {
  add_text(app, "P", "", named.protector, "name, id, start of an id, or MOUNTPOINT:NAME")
      ->required();
  invocation.add_mount_option(app);
}

void add_opening_options(Invocation& invocation, CLI::App& app, Named& named) {
  add_existing_secret_options(app, named.secrets);
  invocation.add_kdf_limit_option(app);
}

NamedProtector find(Invocation& invocation, const Context& context, const Named& named) {
  return find_named_protector(context, named.protector, invocation.globals.mount.value_or("."));
}

/// For what needs no secret: a name alone must not lead root to somebody else's protector, since
/// the same command a moment ago meant its own.
NamedProtector find_without_secret(Invocation& invocation, const Context& context,
                                   const Named& named) {
  NamedProtector place = find(invocation, context, named);
  const bool other = place.store.user().uid != context.user_without_path().uid;
  if (!other || ProtectorId::from_hex(split_protector_name(named.protector).name)) return place;
  const std::string user = user_name(place.store.user().uid);
  throw Error(Errc::no_such_protector, "protector " + in_quotes(place.name()) + " is " +
                                           printable(user) +
                                           "'s: say so with --user, or name it by its whole id")
      .with_candidates({user});
}

void show_mount_protectors(Output& out, const MountStatus& status) {
  report_damage(out, status.damaged);
  out.json()["protectors"] = json_list(status.protectors);
  if (status.protectors.empty()) {
    return out.note("no protectors on " + printable(status.filesystem.mount_point));
  }
  out.data(protector_table(status.protectors, true));
}

void list_path(Invocation& invocation, Context& context, const std::string& path) {
  Output& out = invocation.out;
  const PathStatus status = path_status(context, path, true);
  if (status.kind == PathStatus::Kind::mount_point) {
    return show_mount_protectors(out, *status.mount);
  }
  if (status.kind == PathStatus::Kind::plain) {
    throw Error(Errc::not_encrypted,
                printable(path) + " is not encrypted, and no mount point either")
        .with_path(path);
  }
  report_damage(out, status.damaged);
  out.json()["protectors"] = json_list(status.directory->protectors);
  out.data(protector_table(status.directory->protectors, true));
  if (!status.directory->managed && !status.directory->damaged) {
    out.note(printable(path) + " is encrypted, but not set up here");
  }
}

std::string costs_text(const KdfCosts& costs) {
  return "Argon2id, " + std::to_string(costs.memory_kib) + " KiB, passes " +
         std::to_string(costs.passes) + ", lanes " + std::to_string(costs.lanes);
}

/// Directories by their paths, policies without a known one by their keys.
std::vector<std::string> opened_by(const ProtectorStatus& protector, const MountStatus& mount) {
  std::vector<std::string> opened;
  for (const PolicyStatus& policy : mount.policies) {
    const std::vector<ProtectorId>& ids = policy.summary.protectors;
    if (policy.uid != protector.uid ||
        std::find(ids.begin(), ids.end(), protector.summary.id) == ids.end()) {
      continue;
    }
    bool any = false;
    for (const PathState& path : policy.paths) {
      if (path.state == PathState::State::ok) opened.push_back(path.path);
      any = any || path.state == PathState::State::ok;
    }
    if (!any) opened.push_back("policy " + policy.summary.key_identifier.hex());
  }
  std::sort(opened.begin(), opened.end());
  return opened;
}

/// Whose password opens it, as far as its hints tell: what a login asks for and what not.
std::string login_of(const ProtectorStatus& protector) {
  const ProtectorSummary& summary = protector.summary;
  const LoginUser user = login_user({protector.uid, 0});
  if (hints_at(summary, user)) return user.name + " on this machine";
  const bool here = summary.machine_id == user.machine_id;
  return (summary.user.empty() ? "somebody" : summary.user) +
         (here ? " on this machine" : " on another machine");
}

void show_protector(Output& out, const ProtectorStatus& protector, const MountStatus& mount) {
  const ProtectorSummary& summary = protector.summary;
  Table table;
  table.add({"name", summary.name});
  table.add({"id", summary.id.hex()});
  table.add({"kind", std::string(source_name(summary.source))});
  table.add({"user", protector.user});
  if (summary.source == Source::login) table.add({"login of", login_of(protector)});
  table.add({"filesystem", protector.mount_point});
  table.add({"since", summary.created.substr(0, 10)});
  for (const ProtectorSummary::Way& way : summary.ways) {
    if (way.costs) table.add({"hashing", costs_text(*way.costs)});
  }
  table.add({"recovery key", protector.has_recovery_key() ? "yes" : "no"});
  std::string label = "opens";
  for (const std::string& one : opened_by(protector, mount)) {
    table.add({std::exchange(label, ""), one});
  }
  if (!label.empty()) table.add({label, "nothing"});
  out.data(table.text());
}

void note_stale(Output& out, const std::vector<CopyState>& copies,
                const ProtectorSummary& protector) {
  out.json()["copies"] = json_list(copies);
  for (const CopyState& copy : copies) {
    if (!copy.written) out.note(describe_stale(copy, protector));
  }
}

void report_rotation(Output& out, const RotatedProtector& result) {
  const ProtectorSummary& protector = result.protector;
  out.json()["previous_id"] = result.previous.hex();
  out.json()["policies"] = json_ids(result.policies);
  out.json()["copies"] = json_list(result.copies);
  out.json()["finished_earlier"] = result.finished_earlier;
  out.json()["recovery_key_lost"] = result.lost_recovery_key;
  if (result.finished_earlier) {
    out.message("finished the rotation of protector " + in_quotes(protector.name) +
                " that was cut off before (" + protector.id.hex() + ")");
  } else {
    out.message("protector " + in_quotes(protector.name) +
                " has a new key and id: " + protector.id.hex());
  }
  for (const CopyState& copy : result.copies) {
    if (copy.written) continue;
    out.note("directories on " + printable(copy.mount_point) +
             " still open with the old protector: fscryptctl protector rotate " +
             result.previous.hex() + " --mount " + shell_quoted(copy.mount_point));
  }
  if (result.lost_recovery_key) {
    out.note("the recovery key of the old protector does not open the new one: make another");
  }
  out.note("disks that are not mounted now and backups still open with the old protector");
}

}  // namespace

int run_protector_list(Invocation& invocation) {
  CLI::App app("shows the protectors of a directory, or all on a filesystem");
  std::optional<std::string> path;
  add_text(app, "PATH", "", path, "an encrypted directory, or a mount point (default: here)");
  invocation.add_mount_option(app);
  invocation.parse(app);
  if (path && invocation.globals.mount) {
    throw Error(Errc::usage, "PATH and --mount do not go together");
  }
  Context context = invocation.make_context();
  if (path) {
    list_path(invocation, context, *path);
  } else {
    const std::string mount = invocation.globals.mount.value_or(".");
    show_mount_protectors(invocation.out,
                          mount_status(context, filesystem_of_path(context, mount)));
  }
  return invocation.out.exit_code();
}

int run_protector_show(Invocation& invocation) {
  CLI::App app("shows one protector");
  Named named;
  add_protector_argument(invocation, app, named);
  invocation.parse(app);
  Context context = invocation.make_context();
  const NamedProtector place = find(invocation, context, named);
  put_protector(invocation.out, context, place);
  // Both documents of the record have to agree before what it says is shown.
  static_cast<void>(place.store.protector(place.id));
  const MountStatus mount = status_for(context, place.filesystem, place.store.user());
  for (const auto& protector : mount.protectors) {
    if (protector->summary.id == place.id) show_protector(invocation.out, *protector, mount);
  }
  return invocation.out.exit_code();
}

int run_protector_create(Invocation& invocation) {
  CLI::App app("makes a protector that directories can then be encrypted with");
  std::string mount_point;
  std::optional<std::string> source;
  std::optional<std::string> name;
  SecretOptions secret_options;
  add_text(app, "MOUNTPOINT", "", mount_point, "the filesystem it is for")->required();
  add_text(app, "--source", "KIND", source, "passphrase (default), raw-key or login");
  add_text(app, "--name", "NAME", name, "its name; default: the mount point's");
  add_existing_secret_options(app, secret_options);
  add_new_secret_options(app, secret_options);
  invocation.parse(app);
  Context context = invocation.make_context();
  CommandLineSecrets secrets(secret_options, Spelling::all_new, invocation);
  const Source kind =
      source_of_new(context, source, secret_options.key_file || secret_options.new_key_file);
  const CreatedProtector created =
      create_protector(context, filesystem_of_path(context, mount_point), kind, name, secrets);
  Output& out = invocation.out;
  if (created.changed) out.set_changed();
  put_protector(out, context, created.place);
  const std::string label = in_quotes(created.place.name()) + " (" + created.place.id.hex() + ")";
  out.message(created.changed ? "made protector " + label
                              : "protector " + label + " is there already");
  return out.exit_code();
}

int run_protector_verify(Invocation& invocation) {
  CLI::App app("proves that a secret opens a protector; changes nothing");
  Named named;
  add_protector_argument(invocation, app, named);
  add_opening_options(invocation, app, named);
  invocation.parse(app);
  Context context = invocation.make_context();
  const NamedProtector place = find(invocation, context, named);
  put_protector(invocation.out, context, place);
  CommandLineSecrets secrets(named.secrets, Spelling::existing_and_new, invocation);
  Opener opener(secrets, context);
  static_cast<void>(open_named_protector(place, opener));
  invocation.out.json()["verified"] = true;
  invocation.out.message("the secret opens protector " + in_quotes(place.name()));
  return invocation.out.exit_code();
}

int run_protector_rename(Invocation& invocation) {
  CLI::App app("gives a protector another name on its filesystem");
  Named named;
  std::string name;
  add_protector_argument(invocation, app, named);
  add_text(app, "NAME", "", name, "the new name")->required();
  invocation.parse(app);
  Context context = invocation.make_context();
  NamedProtector place = find_without_secret(invocation, context, named);
  const std::string before = place.name();
  const bool changed = rename_protector(context, place, name);
  if (changed) invocation.out.set_changed();
  put_protector(invocation.out, context, place);
  invocation.out.message(changed
                             ? "renamed protector " + in_quotes(before) + " to " + in_quotes(name)
                             : "protector " + in_quotes(name) + " has this name already");
  return invocation.out.exit_code();
}

int run_protector_change_kdf(Invocation& invocation) {
  CLI::App app("hashes the passphrase of a protector with other costs; it stays the same");
  Named named;
  KdfWishes wishes;
  std::optional<std::uint32_t> time_ms;
  add_protector_argument(invocation, app, named);
  add_number(app, "--kdf-time", "MS", time_ms,
             "how long hashing should take (default: the configuration's costs)");
  add_number(app, "--kdf-memory", "MIB", wishes.memory_mib, "memory for hashing");
  add_number(app, "--kdf-lanes", "N", wishes.lanes, "parallel lanes of hashing");
  add_opening_options(invocation, app, named);
  invocation.parse(app);
  if (time_ms) wishes.time = std::chrono::milliseconds(*time_ms);
  Context context = invocation.make_context();
  const NamedProtector place = find(invocation, context, named);
  const KdfCosts costs = wishes.any() ? wished_costs(wishes) : costs_for_new_hashing(context);
  CommandLineSecrets secrets(named.secrets, Spelling::existing_and_new, invocation);
  const UpdatedProtector result = change_kdf(context, place, costs, secrets);
  Output& out = invocation.out;
  out.set_changed();
  put_protector(out, context, place);
  out.json()["kdf"] = json_of(costs);
  out.message("protector " + in_quotes(result.protector.name) + " is hashed with " +
              costs_text(costs));
  note_stale(out, result.copies, result.protector);
  if (weak_costs(costs)) out.note("these hashing costs are weak: passphrases can be guessed fast");
  return out.exit_code();
}

int run_protector_rotate(Invocation& invocation) {
  CLI::App app(
      "gives a protector a new key in everything that it opens; its secret stays the same");
  Named named;
  add_protector_argument(invocation, app, named);
  add_opening_options(invocation, app, named);
  invocation.parse(app);
  Context context = invocation.make_context();
  NamedProtector place = find(invocation, context, named);
  CommandLineSecrets secrets(named.secrets, Spelling::existing_and_new, invocation);
  const RotatedProtector result = rotate_protector(context, place, secrets);
  invocation.out.set_changed();
  place.id = result.protector.id;
  put_protector(invocation.out, context, place);
  report_rotation(invocation.out, result);
  return invocation.out.exit_code();
}

int run_protector_remove(Invocation& invocation) {
  CLI::App app("removes a protector, unless it is the last way into a directory");
  Named named;
  RemovalWishes wishes;
  add_protector_argument(invocation, app, named);
  add_data_loss_option(app, wishes);
  invocation.parse(app);
  Context context = invocation.make_context();
  const NamedProtector place = find_without_secret(invocation, context, named);
  put_protector(invocation.out, context, place);
  ask_before_losses(invocation, wishes);
  const RemovedProtector removed = remove_protector(context, place, wishes);
  Output& out = invocation.out;
  out.set_changed();
  out.json()["taken_from"] = json_ids(removed.taken_from);
  out.json()["removed_policies"] = json_ids(removed.removed_policies);
  Json& copies = out.json()["copies"] = Json::array();
  out.message("removed protector " + in_quotes(place.name()));
  for (const std::string& mount_point : removed.other_copies) {
    Json copy;
    put_path(copy, "mountpoint", mount_point);
    copy["state"] = "kept";
    copies.push_back(std::move(copy));
    out.note("its copy on " + printable(mount_point) + " stays");
  }
  if (!removed.taken_from.empty()) {
    out.note(
        "whoever knew its secret may have kept the keys: taking access back for good needs "
        "reencrypt");
  }
  return out.exit_code();
}

}  // namespace fscryptctl
