// Feeds bytes to the codec as a disk from a stranger would. Whatever it accepts must come out of
// writing and reading again as the same record.
//
// cmake -DFSCRYPTCTL_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++
// -DCMAKE_CXX_FLAGS=-fsanitize=address,undefined

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../../lib/metadata/record_lines.h"
#include "../../lib/metadata/strict_yaml.h"
#include "../metadata/same_tree.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/digest.h"
#include "fscryptctl/crypto/recovery_key.h"
#include "fscryptctl/metadata/backup_codec.h"
#include "fscryptctl/metadata/journal.h"
#include "fscryptctl/metadata/share_codec.h"
#include "fscryptctl/metadata/yaml_codec.h"

namespace {

using namespace fscryptctl;

void require(bool kept) {
  if (!kept) std::abort();
}

// The errors that a reader may be told; any other exception ends the run.
template <class Read>
void read(Read parse) {
  try {
    parse();
  } catch (const Error& error) {
    require(error.code() == Errc::corrupt_metadata || error.code() == Errc::newer_format);
  }
}

// The canonical spelling is the shortest, so writing leaves out nothing that was read.
template <class Record>
void check_written(std::string_view text, const Record& record, Record (*parse)(std::string_view)) {
  const std::string written = emit(record);
  require(written.size() <= text.size());
  require(parse(written) == record);
}

void check_policy(std::string_view text) {
  const PolicyRecord record = parse_policy(text);
  require(parse_policy_summary(text) == record.summary);
  check_written(text, record, parse_policy);
}

void check_protector(std::string_view text) {
  const ProtectorRecord record = parse_protector(text);
  require(parse_protector_summary(text) == record.summary);
  check_written(text, record, parse_protector);
}

// Records are read line by line, without a YAML parser; that they are YAML all the same is
// promised.
void check_document(std::string_view document) {
  constexpr std::ptrdiff_t kFewLines = 100;  // yaml-cpp's reader here has a limit of its own
  const yaml::Node ours = read_record_lines(document);
  if (std::count(document.begin(), document.end(), '\n') > kFewLines) return;
  require(same_tree(ours, yaml::read_document(document)));
}

void check_backup(std::string_view text) {
  const Backup backup = parse_backup(text);
  require(emit(parse_backup(emit(backup))) == emit(backup));
}

void check_share(std::string_view text) {
  const SharedPolicy shared = parse_share(text);
  require(parse_share(emit(shared)) == shared);
}

void check_journal(std::string_view text) {
  const Journal journal = parse_journal(text);
  const JournalKey key;  // which one is no matter here
  const std::string written = emit(journal, key);
  require(parse_journal(written) == journal && is_authentic(written, key));
}

/// The same with the line of a MAC, so that what comes before it is tried, too.
std::string with_mac(std::string_view text) {
  return std::string(text) + "---\nmac: " + std::string(64, '0') + "\n";
}

/// The same with the digest that fits, so that what comes after it is tried, too.
std::string with_digest(std::string_view text) {
  std::string whole(text);
  whole += "---\n";
  const std::string digest = to_hex(sha256_of(as_bytes(whole)));
  return whole + "sha256: " + digest + "\n";
}

// Whatever is taken for a recovery key is one, however it is spelled.
void check_recovery_key(ByteView text) {
  const RecoveryKeyReading reading = read_recovery_key(text);
  require(reading.key.has_value() == reading.fault.empty());
  if (!reading.key) return;
  const SecretBytes written = write_recovery_key(*reading.key);
  const RecoveryKeyReading again = read_recovery_key(written.view());
  require(again.key && equal_secrets(again.key->secret(), reading.key->secret()));
  require(fault_of_copy(*reading.key, text).empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t end = std::min(rest.find("---\n"), rest.size());
    const std::string_view document = rest.substr(0, end);
    read([&] { check_document(document); });
    rest.remove_prefix(std::min(end + 4, rest.size()));
  }
  read([&] { (void)parse_policy_summary(text); });
  read([&] { (void)parse_protector_summary(text); });
  read([&] { check_policy(text); });
  read([&] { check_protector(text); });
  read([&] { check_backup(text); });
  read([&] { check_backup(with_digest(text)); });
  read([&] { check_share(text); });
  read([&] { check_share(with_digest(text)); });
  read([&] { check_journal(text); });
  read([&] { check_journal(with_mac(text)); });
  check_recovery_key({data, size});
  return 0;
}
