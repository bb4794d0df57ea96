#include "fscryptctl/metadata/backup_codec.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/record_rules.h"
#include "fscryptctl/metadata/yaml_codec.h"
#include "record_fields.h"
#include "record_layout.h"
#include "record_lines.h"
#include "record_writer.h"
#include "sealed_text.h"
#include "strict_yaml.h"

namespace fscryptctl {
namespace {

using yaml::corrupt;
using yaml::Fields;
using yaml::Node;

constexpr std::string_view kMark = "---\n";
constexpr std::uint64_t kMaxUid = std::numeric_limits<uid_t>::max() - 1;
constexpr std::size_t kMaxMountPointSize = 4096;
/// An entry is a document of its own and the two of its record.
constexpr std::size_t kDocumentsOfEntry = 3;

bool valid_mount_point(std::string_view path) {
  return path.starts_with('/') && path.size() <= kMaxMountPointSize && is_utf8(path) &&
         path.find('\0') == std::string_view::npos;
}

/// The same record twice would leave open which one counts.
class Seen {
 public:
  [[nodiscard]] bool add(const BackupEntry& entry) {
    return seen_.emplace(entry.uid, entry.record.index(), id_of(entry.record)).second;
  }

 private:
  std::set<std::tuple<uid_t, std::size_t, std::string>> seen_;
};

/// Takes the documents one after the other. A line `---` is no part of a value, as in a record.
class Documents {
 public:
  explicit Documents(std::string_view text) : rest_(text) {}

  [[nodiscard]] bool more() const noexcept { return !rest_.empty(); }

  /// The next `count` documents with the mark before each.
  [[nodiscard]] std::string_view take(std::size_t count) {
    std::size_t end = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (end >= rest_.size()) throw corrupt("the backup has too few documents");
      const std::size_t next = rest_.find("\n---\n", end + kMark.size() - 1);
      end = next == std::string_view::npos ? rest_.size() : next + 1;
    }
    const std::string_view taken = rest_.substr(0, end);
    rest_.remove_prefix(end);
    return taken;
  }

 private:
  std::string_view rest_;
};

Node read_own_document(std::string_view document) {
  document.remove_prefix(kMark.size());
  return read_record_lines(document);
}

struct Header {
  Backup backup;
  std::uint64_t records;
};

Header read_header(std::string_view document) {
  const Node node = read_own_document(document);
  Fields fields(node);
  (void)yaml::plain(fields.required("format"));  // judged before
  Header header{};
  header.backup.created = yaml::plain(fields.required("created"));
  if (!valid_time(header.backup.created)) throw corrupt("the creation time is invalid");
  if (const Node* filesystem = fields.optional("filesystem")) {
    header.backup.filesystem = FilesystemUuid::from_hex(yaml::plain(*filesystem));
    if (!header.backup.filesystem) throw corrupt("an identifier is malformed");
  }
  if (const Node* mount_point = fields.optional("mount_point")) {
    header.backup.mount_point = yaml::quoted(*mount_point);
    if (!valid_mount_point(header.backup.mount_point)) throw corrupt("a path is malformed");
  }
  header.records = yaml::integer(fields.required("records"), 1, kMaxBackupEntries);
  fields.finish();
  return header;
}

BackupEntry read_entry(Documents& documents) {
  const Node node = read_own_document(documents.take(1));
  Fields fields(node);
  const std::string kind = yaml::plain(fields.required("kind"));
  const auto uid = static_cast<uid_t>(yaml::integer(fields.required("uid"), 0, kMaxUid));
  fields.finish();
  const std::string_view text = documents.take(kDocumentsOfEntry - 1);
  if (kind == "policy") return {uid, parse_policy(text), std::string(text)};
  if (kind == "protector") return {uid, parse_protector(text), std::string(text)};
  throw corrupt("a record is of an unknown kind");
}

void require_limits(const Backup& backup) {
  const auto broken = [](const char* rule) {
    return Error(Errc::internal, std::string("a backup to be written breaks a rule: ") + rule);
  };
  if (backup.entries.empty()) throw broken("it holds nothing");
  if (backup.entries.size() > kMaxBackupEntries) throw broken("too many records");
  if (!valid_time(backup.created)) throw broken("the creation time");
  Seen seen;
  for (const BackupEntry& entry : backup.entries) {
    if (!seen.add(entry)) throw broken("a record stands there twice");
  }
}

}  // namespace

std::string kind_of(const AnyRecord& record) {
  return std::holds_alternative<PolicyRecord>(record) ? "policy" : "protector";
}

std::string id_of(const AnyRecord& record) {
  if (const auto* policy = std::get_if<PolicyRecord>(&record)) {
    return policy->summary.key_identifier.hex();
  }
  return std::get<ProtectorRecord>(record).summary.id.hex();
}

std::string emit(const Backup& backup) {
  require_limits(backup);
  Lines header;
  header.begin_document();
  header.field("format", "fscryptctl-backup-1");
  header.field("created", backup.created);
  if (backup.filesystem) header.field("filesystem", backup.filesystem->hex());
  if (valid_mount_point(backup.mount_point)) {
    header.field("mount_point", quote(backup.mount_point));
  }
  header.field("records", std::to_string(backup.entries.size()));
  std::string text = header.take();
  for (const BackupEntry& entry : backup.entries) {
    Lines lines;
    lines.begin_document();
    lines.field("kind", kind_of(entry.record));
    lines.field("uid", std::to_string(entry.uid));
    text += lines.take() + entry.text;
  }
  text = with_digest(std::move(text));
  if (text.size() > kMaxBackupSize) {
    throw Error(Errc::usage, "the backup would be larger than " +
                                 std::to_string(kMaxBackupSize >> 20U) + " MiB");
  }
  return text;
}

Backup parse_backup(std::string_view text) {
  if (text.size() > kMaxBackupSize) throw corrupt("the backup is too long");
  require_known_format(text, "backup");
  Documents documents(without_digest(text));
  Header header = read_header(documents.take(1));
  Seen seen;
  while (documents.more()) {
    // Counted before it is read, so that what is too much costs nothing.
    if (header.backup.entries.size() == header.records) throw corrupt("there are too many records");
    BackupEntry entry = read_entry(documents);
    if (!seen.add(entry)) throw corrupt("a record stands there twice");
    header.backup.entries.push_back(std::move(entry));
  }
  if (header.backup.entries.size() != header.records) throw corrupt("there are too few records");
  return std::move(header.backup);
}

}  // namespace fscryptctl
