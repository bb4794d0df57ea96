#include "fscryptctl/core/backup.h"

#include <algorithm>
#include <set>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/utc_time.h"
#include "fscryptctl/core/directory_search.h"
#include "fscryptctl/core/users.h"
#include "fscryptctl/metadata/yaml_codec.h"

namespace fscryptctl {
namespace {

/// Which policies are wanted.
struct Wanted {
  bool everything = false;
  std::set<KeyIdentifier> keys{};
  std::optional<std::string> below{};  ///< the hint of a directory, empty for the root

  [[nodiscard]] bool includes(const PolicySummary& policy) const {
    if (everything || keys.contains(policy.key_identifier)) return true;
    return below && std::any_of(policy.paths.begin(), policy.paths.end(),
                                [&](const std::string& path) { return lies_below(path); });
  }

 private:
  [[nodiscard]] bool lies_below(const std::string& path) const {
    return below->empty() || path == *below || path.starts_with(*below + "/");
  }
};

/// Gathers one user's records.
class UserRecords {
 public:
  UserRecords(const UserStore& store, const Wanted& wanted, BackupContents& contents)
      : store_(store), wanted_(wanted), contents_(contents), uid_(store.user().uid) {}

  void add() {
    const Listing<PolicySummary> policies = store_.policies();
    append(policies.damaged);
    for (const PolicySummary& policy : policies.records) {
      if (wanted_.includes(policy)) add_policy(policy);
    }
    if (wanted_.everything) add_remaining_protectors();
    // What opens comes before what is opened: restored in this order, no policy waits for its way
    // in.
    move_to_backup(protectors_);
    move_to_backup(policies_);
  }

 private:
  void append(const std::vector<DamagedRecord>& damaged) {
    contents_.damaged.insert(contents_.damaged.end(), damaged.begin(), damaged.end());
  }

  void move_to_backup(std::vector<BackupEntry>& entries) {
    std::move(entries.begin(), entries.end(), std::back_inserter(contents_.backup.entries));
  }

  void add_policy(const PolicySummary& policy) {
    const std::optional<std::string> text =
        readable([&] { return store_.policy_text(policy.key_identifier); });
    if (!text) return;
    // Parsed from the very bytes that are kept; they were found right just now.
    const PolicyRecord record = parse_policy(*text);
    policies_.push_back({uid_, record, *text});
    for (const ProtectorId& id : record.summary.protectors) {
      if (add_protector(id) || damaged_.contains(id)) continue;
      contents_.missing_protectors.push_back("policy " + policy.key_identifier.hex() + " of " +
                                             user_name(uid_) + " names protector " + id.hex());
    }
  }

  /// False if there is no usable record.
  bool add_protector(const ProtectorId& id) {
    if (taken_.contains(id)) return true;
    const std::optional<std::string> text =
        readable([&] { return store_.protector_text(id); }, &id);
    if (!text) return false;
    taken_.insert(id);
    protectors_.push_back({uid_, parse_protector(*text), *text});
    return true;
  }

  void add_remaining_protectors() {
    const Listing<ProtectorSummary> protectors = store_.protectors();
    for (const ProtectorSummary& protector : protectors.records) add_protector(protector.id);
    for (const DamagedRecord& damaged : protectors.damaged) {
      const bool known =
          std::any_of(contents_.damaged.begin(), contents_.damaged.end(),
                      [&](const DamagedRecord& other) { return other.file == damaged.file; });
      if (!known) contents_.damaged.push_back(damaged);
    }
  }

  /// One bad record does not keep the others out of the backup.
  template <class Read>
  std::optional<std::string> readable(Read read, const ProtectorId* protector = nullptr) {
    if (protector != nullptr && damaged_.contains(*protector)) return std::nullopt;
    try {
      return read();
    } catch (const Error& error) {
      contents_.damaged.push_back({error.path(), uid_, error.code(), error.what()});
      if (protector != nullptr) damaged_.insert(*protector);
      return std::nullopt;
    }
  }

  const UserStore& store_;
  const Wanted& wanted_;
  BackupContents& contents_;
  uid_t uid_;
  std::vector<BackupEntry> policies_;
  std::vector<BackupEntry> protectors_;
  std::set<ProtectorId> taken_;
  std::set<ProtectorId> damaged_;
};

/// An encrypted directory that was seen.
struct Seen {
  std::string path;
  KeyIdentifier key;
};

/// Looks below a directory that is not encrypted itself.
std::vector<Seen> search(Context& context, int directory, const std::string& path,
                         BackupContents& contents) {
  std::vector<Seen> seen;
  const std::string prefix = path.substr(0, path.find_last_not_of('/') + 1);
  search_directories(
      context, directory, prefix,
      {[&](const std::string& found, const KernelPolicy& policy) {
         const auto* key = std::get_if<KeyIdentifier>(&policy.key);
         if (key != nullptr) seen.push_back({found, *key});
         if (key == nullptr) contents.not_managed.push_back(found);
       },
       [&](const std::string& closed, const Error&) { contents.not_looked_at.push_back(closed); }});
  return seen;
}

void require_directory(const Target& target) {
  if (target.directory) return;
  throw Error(Errc::not_encrypted, printable(target.path) + " is not encrypted")
      .with_path(target.path);
}

std::vector<Seen> decide(Context& context, const Target& target, Wanted& wanted,
                         BackupContents& contents) {
  if (target.policy) {
    const KeyIdentifier key = require_v2_key(target);
    wanted.keys.insert(key);
    return {{target.path, key}};
  }
  require_directory(target);
  if (is_mount_point(context, target.path)) {
    wanted.everything = true;
    return {};
  }
  const NamedFile directory = open_named(target.path);
  wanted.below = target.filesystem.hint_of(directory.fd.get(), context.mounts);
  std::vector<Seen> seen = search(context, directory.fd.get(), target.path, contents);
  for (const Seen& one : seen) wanted.keys.insert(one.key);
  return seen;
}

bool holds_policy(const Backup& backup, const KeyIdentifier& key) {
  return std::any_of(backup.entries.begin(), backup.entries.end(), [&](const BackupEntry& entry) {
    const auto* policy = std::get_if<PolicyRecord>(&entry.record);
    return policy != nullptr && policy->summary.key_identifier == key;
  });
}

void require_something(const Target& target, const BackupContents& contents) {
  if (!contents.backup.entries.empty()) return;
  // What is damaged is the reason, then, and not that there is nothing.
  if (!contents.damaged.empty()) {
    const DamagedRecord& first = contents.damaged.front();
    throw Error(first.code, printable(first.file) + " (user " + std::to_string(first.uid) +
                                "): " + first.reason)
        .with_path(first.file);
  }
  if (target.policy) throw not_managed(target.filesystem, target.path);
  throw Error(Errc::no_such_policy,
              "there are no records of anything under " + printable(target.path))
      .with_path(target.path);
}

}  // namespace

BackupContents collect_backup(Context& context, const std::string& path) {
  const Target target = look_at(context, path);
  const MetadataRoot metadata = target.filesystem.require_metadata();
  BackupContents contents;
  contents.mount_point = target.filesystem.mount().mount_point;
  contents.device = target.filesystem.mount().device;
  Wanted wanted;
  const std::vector<Seen> seen = decide(context, target, wanted, contents);
  for (const Identity& user : context.users_to_list(metadata)) {
    context.throw_if_interrupted();
    // One user's bad records keep nobody else's out of the backup.
    try {
      const std::optional<UserStore> store = UserStore::open(metadata, user);
      if (store) UserRecords(*store, wanted, contents).add();
    } catch (const Error& error) {
      contents.damaged.push_back({error.path(), user.uid, error.code(), error.what()});
    }
  }
  require_something(target, contents);
  for (const Seen& one : seen) {
    if (!holds_policy(contents.backup, one.key)) contents.not_managed.push_back(one.path);
  }
  contents.backup.created = now_rfc3339();
  contents.backup.filesystem = target.filesystem.uuid();
  contents.backup.mount_point = contents.mount_point;
  return contents;
}

WrittenBackup write_backup(const Context& context, const BackupContents& contents,
                           const NewFile& file) {
  const std::string text = emit(contents.backup);
  // What cannot be read again is no backup.
  if (parse_backup(text).entries.size() != contents.backup.entries.size()) {
    throw Error(Errc::internal, "the backup reads back other than written");
  }
  context.throw_if_interrupted();
  file.write(text);
  const FileInfo directory = file_info(file.directory_fd());
  return {file.is_private(), directory.device == contents.device, directory.encrypted};
}

ReadBackup read_backup(const std::string& file) {
  const NamedText read = read_named_text(file, kMaxBackupSize);
  try {
    return {parse_backup(read.text), read.readable_by_others};
  } catch (const Error& error) {
    throw Error(error.code(), printable(file) + ": " + error.what(), error.sys_errno())
        .with_path(file);
  }
}

}  // namespace fscryptctl
