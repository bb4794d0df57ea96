#include <algorithm>

#include "admin.h"
#include "commands.h"
#include "report.h"
#include "table.h"

namespace fscryptctl {
namespace {

std::string key_word(const KeyStatus& key) {
  DirectoryStatus directory;
  directory.managed = true;
  directory.key = key;
  return state_word(directory);
}

Protectors protectors_of(const PolicyStatus& policy, const MountStatus& mount) {
  Protectors all;
  for (const ProtectorId& id : policy.summary.protectors) {
    for (const auto& protector : mount.protectors) {
      if (protector->uid == policy.uid && protector->summary.id == id) all.push_back(protector);
    }
  }
  return all;
}

std::string names_of(const Protectors& protectors) {
  DirectoryStatus directory;
  directory.protectors = protectors;
  return ways_in(directory);
}

std::string path_word(const PathState& path) {
  switch (path.state) {
    case PathState::State::ok:
      return path.path;
    case PathState::State::missing:
      return path.path + " (missing)";
    case PathState::State::other_policy:
      return path.path + " (has another policy)";
  }
  return path.path;
}

/// People look for directories, not for keys.
std::vector<const PolicyStatus*> by_first_path(const std::vector<PolicyStatus>& policies) {
  std::vector<const PolicyStatus*> sorted;
  sorted.reserve(policies.size());
  for (const PolicyStatus& policy : policies) sorted.push_back(&policy);
  const auto first = [](const PolicyStatus* policy) {
    return policy->paths.empty() ? std::string() : policy->paths.front().path;
  };
  std::stable_sort(sorted.begin(), sorted.end(), [&](const PolicyStatus* a, const PolicyStatus* b) {
    return first(a) < first(b);
  });
  return sorted;
}

void show_list(Output& out, const MountStatus& status) {
  report_damage(out, status.damaged);
  out.json()["policies"] = json_list(status.policies);
  if (status.policies.empty()) {
    return out.note("no policies on " + printable(status.filesystem.mount_point));
  }
  Table table({"POLICY", "STATE", "USER", "OPENS WITH", "DIRECTORIES"});
  for (const PolicyStatus* shown : by_first_path(status.policies)) {
    const PolicyStatus& policy = *shown;
    std::vector<std::string> cells{policy.summary.key_identifier.hex(), key_word(policy.key),
                                   policy.user, names_of(protectors_of(policy, status)), "-"};
    for (const PathState& path : policy.paths) {
      cells.back() = path_word(path);
      table.add(cells);
      cells = {"", "", "", "", ""};
    }
    if (policy.paths.empty()) table.add(cells);
  }
  out.data(table.text());
}

void show_policy(Output& out, const NamedPolicy& named, const PolicyStatus& policy,
                 const MountStatus& mount) {
  const Protectors protectors = protectors_of(policy, mount);
  out.json()["policy"] = json_of(policy);
  out.json()["policy"]["version"] = 2;
  out.json()["policy"].update(json_of(named.record.options));
  out.json()["protectors"] = json_list(protectors);
  Table table;
  table.add({"key", policy.summary.key_identifier.hex()});
  table.add({"state", key_word(policy.key)});
  table.add({"user", policy.user});
  table.add({"opens with", names_of(protectors)});
  table.add(
      {"encryption", describe(KernelPolicy{policy.summary.key_identifier, named.record.options})});
  std::string label = "directories";
  for (const PathState& path : policy.paths) table.add({std::exchange(label, ""), path_word(path)});
  out.data(table.text());
}

/// The secret of a protector that is to be added: its own option, else as for what exists.
class OtherSecrets final : public SecretProvider {
 public:
  OtherSecrets(CommandLineSecrets& secrets, const SecretOptions& options)
      : secrets_(secrets), options_(options) {}

  std::optional<Secret> existing(const Request& request) override {
    const bool given = options_.new_passphrase_file || options_.new_key_file;
    if (!given) return secrets_.existing(request);
    if (std::exchange(taken_, true)) return std::nullopt;
    return secrets_.fresh(options_.new_key_file ? Source::raw_key : Source::passphrase,
                          request.target);
  }

  Secret fresh(Source kind, const std::string& target) override {
    return secrets_.fresh(kind, target);
  }

 private:
  CommandLineSecrets& secrets_;
  const SecretOptions& options_;
  bool taken_ = false;
};

/// With a path --mount is where the protector is looked up, with a key identifier both are.
void look_up_on_mount(const Invocation& invocation, const std::string& policy,
                      std::string& protector) {
  const std::optional<std::string>& mount = invocation.globals.mount;
  if (!mount || KeyIdentifier::from_hex(policy)) return;
  if (!split_protector_name(protector).mount) protector.insert(0, *mount + ":");
}

struct AddArguments {
  std::string policy;
  std::optional<std::string> source;
  AddRequest request;
  SecretOptions secrets;
};

void check(const AddArguments& arguments) {
  const AddRequest& request = arguments.request;
  const bool fresh = arguments.source || request.name;
  if (request.protector && fresh) {
    throw Error(Errc::usage,
                "--protector names one that exists; --source and --name make a new one");
  }
  const bool secret = arguments.secrets.new_passphrase_file || arguments.secrets.new_key_file;
  if (!request.protector && !fresh && !secret) {
    throw Error(Errc::usage,
                "say what is to be added: --protector P, or --source KIND --name NAME");
  }
}

void report_added(Output& out, const std::string& target, const AddedProtector& added) {
  const std::string name = in_quotes(added.protector.name);
  if (!added.changed) return out.message(name + " opens " + target + " already");
  out.message(name + " opens " + target + (added.made ? " (a new protector)" : ""));
}

}  // namespace

int run_policy_list(Invocation& invocation) {
  CLI::App app("shows all policies on a filesystem");
  std::optional<std::string> mount_point;
  add_text(app, "MOUNTPOINT", "", mount_point, "the filesystem (default: here)");
  invocation.add_mount_option(app);
  invocation.parse(app);
  if (mount_point && invocation.globals.mount) {
    throw Error(Errc::usage, "MOUNTPOINT and --mount do not go together");
  }
  Context context = invocation.make_context();
  const std::string where = mount_point.value_or(invocation.globals.mount.value_or("."));
  show_list(invocation.out, mount_status(context, filesystem_of_path(context, where)));
  return invocation.out.exit_code();
}

int run_policy_show(Invocation& invocation) {
  CLI::App app("shows one policy: the key that its directories share, and what opens it");
  std::string text;
  add_text(app, "POLICY", "", text, "a path under it, or its key identifier")->required();
  invocation.add_mount_option(app);
  invocation.parse(app);
  Context context = invocation.make_context();
  const NamedPolicy named =
      find_named_policy(context, text, invocation.globals.mount.value_or("."));
  const MountStatus mount = status_for(context, named.filesystem, named.store.user());
  for (const PolicyStatus& policy : mount.policies) {
    if (policy.summary.key_identifier == named.record.summary.key_identifier) {
      show_policy(invocation.out, named, policy, mount);
    }
  }
  return invocation.out.exit_code();
}

int run_policy_add_protector(Invocation& invocation) {
  CLI::App app("lets one more protector open a policy");
  AddArguments arguments;
  AddRequest& request = arguments.request;
  add_text(app, "POLICY", "", arguments.policy, "a path under it, or its key identifier")
      ->required();
  add_text(app, "--open-with", "P", request.open_with,
           "the protector whose secret is given (default: any of the policy's)");
  add_text(app, "--protector", "P", request.protector,
           "an existing one: NAME, id, or MOUNTPOINT:NAME (it is copied here)");
  add_text(app, "--source", "KIND", arguments.source,
           "make a new one: passphrase (default), raw-key or login");
  add_text(app, "--name", "NAME", request.name, "of the new one; default: the directory's");
  add_existing_secret_options(app, arguments.secrets);
  add_new_secret_options(app, arguments.secrets);
  invocation.add_mount_option(app);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);
  check(arguments);
  if (request.protector) look_up_on_mount(invocation, arguments.policy, *request.protector);
  Context context = invocation.make_context();
  request.source =
      source_of_new(context, arguments.source, arguments.secrets.new_key_file.has_value());
  if (request.source == Source::login && request.name) {
    throw Error(Errc::usage, "a login protector is always named \"login\"");
  }
  NamedPolicy policy =
      find_named_policy(context, arguments.policy, invocation.globals.mount.value_or("."));
  Output& out = invocation.out;
  out.json()["key_identifier"] = policy.record.summary.key_identifier.hex();
  CommandLineSecrets secrets(arguments.secrets, Spelling::existing_and_new, invocation);
  OtherSecrets other(secrets, arguments.secrets);
  const AddedProtector added = add_protector(context, policy, request, secrets, other);
  if (added.changed) out.set_changed();
  out.json()["made"] = added.made;
  out.json()["copied"] = added.copied;
  put_protector(out, context,
                find_named_protector(context, added.protector.id.hex(),
                                     policy.filesystem.mount().mount_point));
  report_added(out, printable(arguments.policy), added);
  return out.exit_code();
}

int run_policy_remove_protector(Invocation& invocation) {
  CLI::App app("takes a protector from a policy; the protector itself stays");
  std::string text;
  std::string protector;
  RemovalWishes wishes;
  add_text(app, "POLICY", "", text, "a path under it, or its key identifier")->required();
  add_text(app, "--protector", "P", protector, "the protector to take away")->required();
  add_data_loss_option(app, wishes);
  invocation.add_mount_option(app);
  invocation.parse(app);
  look_up_on_mount(invocation, text, protector);
  Context context = invocation.make_context();
  const NamedPolicy policy =
      find_named_policy(context, text, invocation.globals.mount.value_or("."));
  Output& out = invocation.out;
  out.json()["key_identifier"] = policy.record.summary.key_identifier.hex();
  ask_before_losses(invocation, wishes);
  const TakenProtector taken = remove_policy_protector(context, policy, protector, wishes);
  out.set_changed();
  out.json()["protector"] = {{"id", taken.id.hex()}, {"name", taken.name}};
  out.json()["policy_removed"] = taken.policy_removed;
  out.json()["opens_others"] = taken.opens_others;
  out.message(in_quotes(taken.name) + " does not open " + printable(text) + " any more");
  out.note(
      "whoever knew its secret may have kept the key: taking access back for good needs "
      "reencrypt");
  if (!taken.opens_others) {
    out.note("it opens nothing here now; to remove it: fscryptctl protector remove " +
             taken.id.hex() + " --mount " + shell_quoted(policy.filesystem.mount().mount_point));
  }
  return out.exit_code();
}

int run_policy_remove(Invocation& invocation) {
  CLI::App app("removes the record of a policy whose directories are gone");
  std::string text;
  RemovalWishes wishes;
  add_text(app, "KEYID", "", text, "its key identifier")->required();
  add_data_loss_option(app, wishes);
  invocation.add_mount_option(app);
  invocation.parse(app);
  const std::optional<KeyIdentifier> key = KeyIdentifier::from_hex(text);
  if (!key) throw Error(Errc::usage, "invalid key identifier: " + printable(text));
  Context context = invocation.make_context();
  Output& out = invocation.out;
  out.json()["key_identifier"] = key->hex();
  ask_before_losses(invocation, wishes);
  remove_policy(context, filesystem_of_path(context, invocation.globals.mount.value_or(".")), *key,
                wishes);
  out.set_changed();
  out.message("removed the record of policy " + key->hex());
  return out.exit_code();
}

}  // namespace fscryptctl
