#pragma once

#include <string>
#include <vector>

#include "fscryptctl/core/protector_update.h"
#include "fscryptctl/core/status.h"
#include "fscryptctl/kernel/holders.h"
#include "output.h"

namespace fscryptctl {

/// The words and objects that scripts read (the JSON contract is in fscryptctl(1), "JSON").

[[nodiscard]] std::string key_state_name(KeyState state);
void put_key(Json& object, const KeyStatus& key);
/// As `key_identifier`, or `key_descriptor` for version 1.
void put_specifier(Json& object, const KeySpecifier& key);
[[nodiscard]] Json json_of(const EncryptionOptions& options);
[[nodiscard]] Json json_of(const KdfCosts& costs);
[[nodiscard]] Json json_of(const KernelPolicy& policy);
[[nodiscard]] Json json_of(const FilesystemStatus& filesystem);
[[nodiscard]] Json json_of(const ProtectorStatus& protector);
[[nodiscard]] Json json_of(const PolicyStatus& policy);
[[nodiscard]] Json json_of(const DirectoryStatus& directory);
[[nodiscard]] Json json_of(const DamagedRecord& damaged);
[[nodiscard]] Json json_of(const Holder& holder);
[[nodiscard]] Json json_of(const CopyState& copy);

[[nodiscard]] Json json_list(const Protectors& protectors);
template <class Item>
[[nodiscard]] Json json_list(const std::vector<Item>& items) {
  Json list = Json::array();
  for (const Item& item : items) list.push_back(json_of(item));
  return list;
}

/// "1 record", "2 records"
[[nodiscard]] std::string counted(std::size_t number, const std::string& one,
                                  const std::string& many);
/// "locked", "unlocked", "partly locked", "damaged", "missing", "not encrypted"
[[nodiscard]] std::string state_word(const DirectoryStatus& directory);
/// The same with what is unfinished: "convert unfinished", "unlocked, decrypt unfinished"
[[nodiscard]] std::string listed_state(const DirectoryStatus& directory);
/// `passphrase "private"`, `login`, `key file "backup"`
[[nodiscard]] std::string way_in(const ProtectorSummary& protector);
/// All ways in, separated by commas.
[[nodiscard]] std::string ways_in(const DirectoryStatus& directory);
/// "AES-256-XTS / AES-256-CTS, version 2"
[[nodiscard]] std::string describe(const KernelPolicy& policy);

/// A line for each; without a header as details of a directory.
[[nodiscard]] std::string protector_table(const Protectors& protectors, bool header);

/// Who keeps files in use; the shell that runs the command is marked.
[[nodiscard]] std::string holder_table(const HolderScan& scan);

/// What a copy that was not written still opens with, and what brings it up to date.
[[nodiscard]] std::string describe_stale(const CopyState& copy, const ProtectorSummary& protector);
[[nodiscard]] Json json_ids(const std::vector<KeyIdentifier>& ids);

/// Damaged records stand beside the rest, as `damaged`, and the exit code tells.
void report_damage(Output& out, const std::vector<DamagedRecord>& damaged);

}  // namespace fscryptctl
