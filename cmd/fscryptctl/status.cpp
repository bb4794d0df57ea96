#include "fscryptctl/core/status.h"

#include "commands.h"
#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "report.h"
#include "table.h"

namespace fscryptctl {
namespace {

std::string encryption_word(Support support) {
  switch (support) {
    case Support::usable:
      return "enabled";
    case Support::not_enabled:
      return "not enabled";
    case Support::unsupported:
      return "unsupported";
  }
  return "";
}

std::string yes_no(bool value) { return value ? "yes" : "no"; }

std::string filesystem_table(const std::vector<const FilesystemStatus*>& filesystems) {
  Table table({"FILESYSTEM", "DEVICE", "TYPE", "ENCRYPTION", "SET UP"});
  for (const FilesystemStatus* one : filesystems) {
    table.add({one->mount_point, one->device, one->type, encryption_word(one->encryption),
               yes_no(one->metadata)});
  }
  return table.text();
}

std::string directory_table(const std::vector<const DirectoryStatus*>& directories) {
  Table table({"DIRECTORY", "STATE", "OPENS WITH", "RECOVERY KEY"});
  for (const DirectoryStatus* one : directories) {
    table.add({one->path, listed_state(*one), ways_in(*one), yes_no(one->has_recovery_key())});
  }
  return table.text();
}

std::string unlocked_by(const DirectoryStatus& directory) {
  const KeyStatus& key = directory.key;
  if (key.state != KeyState::present) return "";
  const std::uint32_t others = key.user_count - (key.added_by_self ? 1 : 0);
  const std::string other_users =
      std::to_string(others) + (others == 1 ? " other user" : " other users");
  if (key.added_by_self) {
    const std::string who =
        directory.user == own_identity().uid ? "you" : printable(user_name(directory.user));
    return others == 0 ? " (by " + who + ")" : " (by " + who + " and " + other_users + ")";
  }
  return " (by " + other_users + ")";
}

void show_directory(Output& out, const DirectoryStatus& directory) {
  const std::string path = printable(directory.path);
  if (directory.unfinished) {
    const std::string command(name_of(*directory.unfinished));
    out.note("a " + command + " of " + path + " is unfinished; to go on with it: fscryptctl " +
             command + " " + shell_quoted(directory.path));
  }
  if (!directory.policy) return out.data(path + "  not encrypted\n");
  std::string text = path + "  " + state_word(directory) + unlocked_by(directory) + "\n";
  text += "  opens with  " + printable(ways_in(directory)) + "\n";
  std::string label = "  protectors  ";
  std::string lines = protector_table(directory.protectors, false);
  for (std::size_t start = 0; start < lines.size();) {
    const std::size_t end = lines.find('\n', start) + 1;
    text += label + lines.substr(start, end - start);
    label = std::string(label.size(), ' ');
    start = end;
  }
  text += "  encryption  " + describe(*directory.policy) + "\n";
  text += "  key         " + hex_of(directory.policy->key) + "\n";
  out.data(text);
  if (!directory.managed && !directory.damaged)
    out.note(path + " is encrypted, but not set up here");
}

void check_expectation(Output& out, const std::string& expected, const DirectoryStatus& directory) {
  const bool encrypted = directory.policy.has_value();
  const bool met = expected == "encrypted"  ? encrypted
                   : expected == "unlocked" ? encrypted && directory.key.state == KeyState::present
                                            : encrypted && directory.key.state == KeyState::absent;
  if (met) return;
  out.error(Error(Errc::unexpected, printable(directory.path) + " is " + state_word(directory) +
                                        ", expected " + expected)
                .with_path(directory.path));
}

void show_mount(Output& out, const MountStatus& mount) {
  report_damage(out, mount.damaged);
  if (out.json_wanted()) {
    out.json()["filesystem"] = json_of(mount.filesystem);
    out.json()["protectors"] = json_list(mount.protectors);
    out.json()["policies"] = json_list(mount.policies);
    return;
  }
  std::string text = filesystem_table({&mount.filesystem});
  if (!mount.protectors.empty()) text += "\n" + protector_table(mount.protectors, true);
  std::vector<const DirectoryStatus*> directories;
  for (const DirectoryStatus& directory : mount.directories) directories.push_back(&directory);
  if (!directories.empty()) text += "\n" + directory_table(directories);
  out.data(text);
}

struct System {
  std::vector<MountStatus> mounts;
  std::vector<const FilesystemStatus*> filesystems;
  std::vector<const DirectoryStatus*> directories;
  std::vector<DamagedRecord> damaged;
};

System look_at_system(Context& context) {
  System system{system_status(context), {}, {}, {}};
  for (const MountStatus& mount : system.mounts) {
    system.filesystems.push_back(&mount.filesystem);
    for (const DirectoryStatus& directory : mount.directories) {
      system.directories.push_back(&directory);
    }
    system.damaged.insert(system.damaged.end(), mount.damaged.begin(), mount.damaged.end());
  }
  return system;
}

void put_directories(Output& out, const System& system) {
  Json& list = out.json()["directories"] = Json::array();
  for (const DirectoryStatus* directory : system.directories) list.push_back(json_of(*directory));
}

void show_system(Output& out, const System& system) {
  report_damage(out, system.damaged);
  if (out.json_wanted()) {
    Json& list = out.json()["filesystems"] = Json::array();
    for (const FilesystemStatus* filesystem : system.filesystems) {
      list.push_back(json_of(*filesystem));
    }
    return put_directories(out, system);
  }
  std::string text = filesystem_table(system.filesystems);
  if (!system.directories.empty()) text += "\n" + directory_table(system.directories);
  out.data(text);
}

void show_path(Invocation& invocation, Context& context, const std::string& path,
               const std::optional<std::string>& expected) {
  Output& out = invocation.out;
  const PathStatus status = path_status(context, path, out.json_wanted());
  if (status.kind == PathStatus::Kind::mount_point) {
    if (expected)
      throw Error(Errc::unexpected, printable(path) + " is a mount point").with_path(path);
    return show_mount(out, *status.mount);
  }
  if (out.json_wanted()) out.json().update(json_of(*status.directory));
  show_directory(out, *status.directory);
  if (expected) check_expectation(out, *expected, *status.directory);
  report_damage(out, status.damaged);
}

}  // namespace

int run_status(Invocation& invocation) {
  CLI::App app("shows filesystems, a filesystem, or a directory and what opens it");
  std::optional<std::string> path;
  std::optional<std::string> expected;
  add_text(app, "PATH", "", path, "a directory, or a mount point; default: everything");
  add_text(app, "--expect", "STATE", expected,
           "exit with 10 unless PATH is locked, unlocked, or encrypted");
  invocation.parse(app);
  if (expected && *expected != "locked" && *expected != "unlocked" && *expected != "encrypted") {
    throw Error(Errc::usage,
                "invalid state: " + printable(*expected) + " (locked, unlocked or encrypted)");
  }
  if (expected && !path) throw Error(Errc::usage, "--expect needs a path");
  Context context = invocation.make_context();
  if (path) {
    show_path(invocation, context, *path, expected);
  } else {
    show_system(invocation.out, look_at_system(context));
  }
  return invocation.out.exit_code();
}

int run_list(Invocation& invocation) {
  CLI::App app("shows the encrypted directories of all filesystems");
  bool all_users = false;
  app.add_flag("--all-users", all_users, "of all users; needs root");
  invocation.parse(app);
  Context context = invocation.make_context();
  if (all_users && context.caller.uid != 0) {
    throw Error(Errc::permission, "only root can look at all users' directories");
  }
  const System system = look_at_system(context);
  report_damage(invocation.out, system.damaged);
  if (invocation.out.json_wanted()) {
    put_directories(invocation.out, system);
  } else {
    invocation.out.data(directory_table(system.directories));
  }
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
