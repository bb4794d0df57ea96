#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

/// A backup is one text that holds many records; normative text: metadata-format/README.md,
/// "Backups". Reading takes hostile bytes, and errors never quote them.

inline constexpr std::size_t kMaxBackupSize = std::size_t{64} << 20U;
inline constexpr std::size_t kMaxBackupEntries = 65536;

using AnyRecord = std::variant<PolicyRecord, ProtectorRecord>;

/// "policy" or "protector", and the identifier in hexadecimal.
[[nodiscard]] std::string kind_of(const AnyRecord& record);
[[nodiscard]] std::string id_of(const AnyRecord& record);

struct BackupEntry {
  uid_t uid;  ///< whose record it is
  AnyRecord record;
  std::string text;  ///< the record's own, byte for byte
};

struct Backup {
  std::string created;                       ///< RFC 3339 UTC
  std::optional<FilesystemUuid> filesystem;  ///< a hint, as the next
  std::string mount_point;                   ///< empty if it is not known or not UTF-8
  std::vector<BackupEntry> entries;          ///< at least one, none twice for the same user
};

/// Throws internal for a backup that breaks the format's limits.
[[nodiscard]] std::string emit(const Backup& backup);

/// Throws corrupt_metadata (also when it was cut off), newer_format.
[[nodiscard]] Backup parse_backup(std::string_view text);

}  // namespace fscryptctl
