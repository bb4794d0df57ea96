#include "report.h"

#include <unistd.h>

#include "fscryptctl/core/users.h"
#include "table.h"

namespace fscryptctl {
namespace {

std::string support_name(Support support) {
  switch (support) {
    case Support::usable:
      return "enabled";
    case Support::not_enabled:
      return "not_enabled";
    case Support::unsupported:
      return "unsupported";
  }
  return "";
}

std::string path_state_name(PathState::State state) {
  switch (state) {
    case PathState::State::ok:
      return "ok";
    case PathState::State::missing:
      return "missing";
    case PathState::State::other_policy:
      return "other_policy";
  }
  return "";
}

template <class Id>
Json hex_list(const std::vector<Id>& ids) {
  Json list = Json::array();
  for (const Id& id : ids) list.push_back(id.hex());
  return list;
}

void put_user(Json& object, uid_t uid, const std::string& name) {
  object["uid"] = uid;
  object["user"] = printable(name);
}

std::string day_of(const std::string& rfc3339) { return rfc3339.substr(0, 10); }

unsigned data_unit_size(const EncryptionOptions& options) {
  return options.log2_data_unit_size == 0 ? 0 : 1U << options.log2_data_unit_size;
}

}  // namespace

std::string key_state_name(KeyState state) {
  switch (state) {
    case KeyState::absent:
      return "absent";
    case KeyState::present:
      return "present";
    case KeyState::incompletely_removed:
      return "incompletely_removed";
  }
  return "";
}

void put_key(Json& object, const KeyStatus& key) {
  object["key_status"] = key_state_name(key.state);
  object["unlocked_by_me"] = key.added_by_self;
  object["user_count"] = key.user_count;
}

Json json_of(const EncryptionOptions& options) {
  Json flags = Json::array();
  if (options.direct_key) flags.push_back("DIRECT_KEY");
  if (options.iv_ino_lblk_64) flags.push_back("IV_INO_LBLK_64");
  if (options.iv_ino_lblk_32) flags.push_back("IV_INO_LBLK_32");
  return {{"contents", mode_name(options.contents)},
          {"filenames", mode_name(options.filenames)},
          {"padding", options.padding_bytes},
          {"flags", flags},
          {"data_unit_size", data_unit_size(options)}};
}

Json json_of(const KdfCosts& costs) {
  return {{"algorithm", "argon2id"},
          {"passes", costs.passes},
          {"memory_kib", costs.memory_kib},
          {"lanes", costs.lanes}};
}

void put_specifier(Json& object, const KeySpecifier& key) {
  const bool version2 = std::holds_alternative<KeyIdentifier>(key);
  object[version2 ? "key_identifier" : "key_descriptor"] = hex_of(key);
}

Json json_of(const KernelPolicy& policy) {
  Json object{{"version", policy.version()}};
  put_specifier(object, policy.key);
  object.update(json_of(policy.options));
  return object;
}

Json json_of(const FilesystemStatus& filesystem) {
  Json object;
  put_path(object, "mountpoint", filesystem.mount_point);
  put_path(object, "device", filesystem.device);
  object["type"] = printable(filesystem.type);
  object["encryption"] = support_name(filesystem.encryption);
  object["metadata"] = filesystem.metadata;
  return object;
}

Json json_of(const ProtectorStatus& protector) {
  const ProtectorSummary& summary = protector.summary;
  Json object{
      {"id", summary.id.hex()}, {"name", summary.name}, {"source", source_name(summary.source)}};
  put_user(object, protector.uid, protector.user);
  put_path(object, "mountpoint", protector.mount_point);
  object["created"] = summary.created;
  object["opens"] = hex_list(protector.opens);
  object["recovery_key"] = protector.has_recovery_key();
  object["wrapping"] = wrap_algorithm_name(summary.algorithm);
  for (const ProtectorSummary::Way& way : summary.ways) {
    if (way.costs) object["kdf"] = json_of(*way.costs);
  }
  return object;
}

Json json_of(const CopyState& copy) {
  Json object;
  put_path(object, "mountpoint", copy.mount_point);
  object["state"] = copy.written ? "written" : "stale";
  return object;
}

Json json_list(const Protectors& protectors) {
  Json list = Json::array();
  for (const auto& protector : protectors) list.push_back(json_of(*protector));
  return list;
}

Json json_of(const PolicyStatus& policy) {
  Json object{{"key_identifier", policy.summary.key_identifier.hex()}};
  put_key(object, policy.key);
  object["protectors"] = hex_list(policy.summary.protectors);
  object["paths"] = Json::array();
  for (const PathState& path : policy.paths) {
    Json entry;
    put_path(entry, "path", path.path);
    entry["state"] = path_state_name(path.state);
    object["paths"].push_back(std::move(entry));
  }
  object["has_recovery_key"] = policy.has_recovery_key;
  put_user(object, policy.uid, policy.user);
  return object;
}

Json json_of(const DirectoryStatus& directory) {
  Json object;
  put_path(object, "path", directory.path);
  object["encrypted"] = directory.policy.has_value();
  object["missing"] = directory.missing;
  object["policy"] = directory.policy ? json_of(*directory.policy) : Json();
  put_key(object, directory.key);
  object["managed"] = directory.managed;
  object["has_recovery_key"] = directory.has_recovery_key();
  object["protectors"] = json_list(directory.protectors);
  object["unfinished"] = directory.unfinished ? Json(name_of(*directory.unfinished)) : Json();
  return object;
}

Json json_of(const DamagedRecord& damaged) {
  Json object;
  put_path(object, "file", damaged.file);
  object["uid"] = damaged.uid;
  object["reason"] = damaged.reason;
  return object;
}

Json json_of(const Holder& holder) {
  Json object{{"pid", holder.pid}};
  put_user(object, holder.uid, user_name(holder.uid));
  object["command"] = printable(holder.command);
  object["kind"] = holder.kind;
  put_path(object, "path", holder.path);
  return object;
}

std::string state_word(const DirectoryStatus& directory) {
  if (directory.missing) return "missing";
  if (directory.damaged) return "damaged";
  if (!directory.policy && !directory.managed) return "not encrypted";
  switch (directory.key.state) {
    case KeyState::absent:
      return "locked";
    case KeyState::present:
      return "unlocked";
    case KeyState::incompletely_removed:
      return "partly locked";
  }
  return "";
}

std::string listed_state(const DirectoryStatus& directory) {
  if (!directory.unfinished) return state_word(directory);
  const std::string unfinished = std::string(name_of(*directory.unfinished)) + " unfinished";
  return directory.missing ? unfinished : state_word(directory) + ", " + unfinished;
}

std::string way_in(const ProtectorSummary& protector) {
  std::string name = "\"" + protector.name + "\"";
  switch (protector.source) {
    case Source::passphrase:
      return "passphrase " + name;
    case Source::raw_key:
      return "key file " + name;
    case Source::login:
      return "login password";
  }
  return name;
}

std::string ways_in(const DirectoryStatus& directory) {
  std::string all;
  for (const auto& protector : directory.protectors) {
    all += (all.empty() ? "" : ", ") + way_in(protector->summary);
  }
  if (directory.has_recovery_key()) all += ", recovery key";
  return all.empty() ? "-" : all;
}

std::string describe(const KernelPolicy& policy) {
  return std::string(mode_name(policy.options.contents)) + " / " +
         std::string(mode_name(policy.options.filenames)) + ", version " +
         std::to_string(policy.version());
}

std::string protector_table(const Protectors& protectors, bool header) {
  Table table(header
                  ? std::vector<std::string>{"PROTECTOR", "NAME", "KIND", "USER", "SINCE", "OPENS"}
                  : std::vector<std::string>{});
  for (const auto& shared : protectors) {
    const ProtectorStatus& one = *shared;
    const std::string kind(source_name(one.summary.source));
    std::vector<std::string> row{one.summary.id.hex(), one.summary.name, kind, one.user};
    row.push_back(header ? day_of(one.summary.created) : "since " + day_of(one.summary.created));
    if (header) {
      row.push_back(std::to_string(one.opens.size()) +
                    (one.opens.size() == 1 ? " directory" : " directories"));
    }
    table.add(std::move(row));
  }
  return table.text();
}

void report_damage(Output& out, const std::vector<DamagedRecord>& damaged) {
  out.json()["damaged"] = json_list(damaged);
  for (const DamagedRecord& one : damaged) {
    out.error(Error(one.code,
                    printable(one.file) + " (user " + std::to_string(one.uid) + "): " + one.reason)
                  .with_path(one.file));
  }
}

std::string holder_table(const HolderScan& scan) {
  Table table({"PID", "USER", "COMMAND", "HOW", "PATH"});
  for (const Holder& holder : scan.holders) {
    const std::string mark = holder.pid == ::getppid() ? " (this shell)" : "";
    table.add({holder.pid == 0 ? "-" : std::to_string(holder.pid), user_name(holder.uid),
               holder.command, holder.kind, holder.path + mark});
  }
  return table.text();
}

std::string describe_stale(const CopyState& copy, const ProtectorSummary& protector) {
  return "the copy on " + printable(copy.mount_point) + " still opens with a previous " +
         (protector.source == Source::raw_key ? "key" : "passphrase") +
         ": fscryptctl change-passphrase --protector " + protector.id.hex() + " --mount " +
         shell_quoted(copy.mount_point);
}

Json json_ids(const std::vector<KeyIdentifier>& ids) { return hex_list(ids); }

std::string counted(std::size_t number, const std::string& one, const std::string& many) {
  return std::to_string(number) + " " + (number == 1 ? one : many);
}

}  // namespace fscryptctl
