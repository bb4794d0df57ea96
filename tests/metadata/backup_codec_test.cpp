#include "fscryptctl/metadata/backup_codec.h"

#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/digest.h"
#include "fscryptctl/metadata/yaml_codec.h"
#include "sample_records.h"

namespace fscryptctl {
namespace {

BackupEntry entry_of(uid_t uid, const AnyRecord& record) {
  return {uid, record, std::visit([](const auto& one) { return emit(one); }, record)};
}

Backup sample_backup() {
  Backup backup;
  backup.created = "2026-11-22T10:11:12Z";
  backup.filesystem = FilesystemUuid::from_hex("00112233445566778899aabbccddeeff");
  backup.mount_point = "/mnt/caf\xc3\xa9";
  backup.entries = {entry_of(1000, sample_protector()), entry_of(1000, sample_policy()),
                    entry_of(1001, sample_login_protector())};
  return backup;
}

constexpr std::size_t kDigestLine = 73;

/// The text with the digest that fits it, as somebody would make it who changed it on purpose.
std::string with_digest(std::string text) {
  text.resize(text.size() - kDigestLine);
  return text + "sha256: " + to_hex(sha256_of(as_bytes(text))) + "\n";
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t place = text.find(from);
  REQUIRE(place != std::string::npos);
  return with_digest(text.replace(place, from.size(), to));
}

/// nullopt if it is accepted.
std::optional<Errc> refusal(std::string_view text) {
  try {
    (void)parse_backup(text);
    return std::nullopt;
  } catch (const Error& error) {
    return error.code();
  }
}

TEST_CASE("a backup comes out of writing and reading as it was") {
  const Backup backup = sample_backup();
  const Backup read = parse_backup(emit(backup));
  CHECK(read.created == backup.created);
  CHECK(read.filesystem == backup.filesystem);
  CHECK(read.mount_point == backup.mount_point);
  REQUIRE(read.entries.size() == backup.entries.size());
  for (std::size_t i = 0; i < read.entries.size(); ++i) {
    CHECK(read.entries[i].uid == backup.entries[i].uid);
    CHECK(read.entries[i].record == backup.entries[i].record);
    CHECK(read.entries[i].text == backup.entries[i].text);
  }
  CHECK(emit(read) == emit(backup));
}

TEST_CASE("a record keeps its own spelling in a backup") {
  Backup backup = sample_backup();
  std::string& text = backup.entries[0].text;
  text.replace(text.find("private"), 7, "pr\\x69vate");
  CHECK(parse_backup(emit(backup)).entries[0].text == text);
}

TEST_CASE("a mount point that is not known or no text is left out") {
  Backup backup = sample_backup();
  backup.filesystem.reset();
  for (const char* mount_point : {"", "/mnt/\xff", "relative"}) {
    backup.mount_point = mount_point;
    CHECK(parse_backup(emit(backup)).mount_point.empty());
    CHECK(parse_backup(emit(backup)).filesystem == std::nullopt);
  }
}

TEST_CASE("a backup that was cut off anywhere is refused") {
  const std::string text = emit(sample_backup());
  for (std::size_t size = 0; size < text.size(); ++size) {
    if (refusal(std::string_view(text).substr(0, size)) != Errc::corrupt_metadata) FAIL(size);
  }
  CHECK(refusal(text + "\n") == Errc::corrupt_metadata);
  CHECK(refusal(text + text) == Errc::corrupt_metadata);
}

TEST_CASE("no byte of a backup can change unnoticed") {
  const std::string text = emit(sample_backup());
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const int change : {0x01, 0x20, 0x80}) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ change);
      if (!refusal(damaged)) FAIL(i);
    }
  }
}

TEST_CASE("what somebody changes on purpose is parsed strictly") {
  Backup backup = sample_backup();
  backup.entries = {entry_of(1000, sample_policy())};
  const std::string text = emit(backup);
  std::size_t accepted = 0;
  for (std::size_t i = 0; i + kDigestLine < text.size(); ++i) {
    for (const char c : {'\n', '-', ' ', '"', ':', '%', '0', '\0', '\xff'}) {
      std::string changed = text;
      changed[i] = c;
      const std::optional<Errc> code = refusal(with_digest(changed));
      // A digit of a ciphertext or a letter of a name is as good as another.
      if (!code) ++accepted;
      if (code && code != Errc::corrupt_metadata && code != Errc::newer_format) FAIL(i);
    }
  }
  CHECK(accepted > 0);
}

TEST_CASE("a backup that breaks a rule is refused") {
  const std::string text = emit(sample_backup());
  const auto corrupt = [&](std::string_view from, std::string_view to) {
    INFO(from << " -> " << to);
    CHECK(refusal(replaced(text, from, to)) == Errc::corrupt_metadata);
  };
  corrupt("records: 3", "records: 2");
  corrupt("records: 3", "records: 4");
  corrupt("records: 3", "records: 0");
  corrupt("records: 3", "records: 65537");
  corrupt("records: 3\n", "");
  corrupt("records: 3\n", "records: 3\nrecords: 3\n");
  corrupt("records: 3\n", "records: 3\nother: 3\n");
  corrupt("kind: protector", "kind: policy");
  corrupt("kind: protector", "kind: directory");
  corrupt("kind: protector\n", "");
  corrupt("uid: 1000", "uid: 01000");
  corrupt("uid: 1000", "uid: -1");
  corrupt("uid: 1000", "uid: 4294967295");
  corrupt("uid: 1000", "uid: 4294967296");
  corrupt("created: 2026-11-22", "created: 2026-02-30");
  corrupt("filesystem: 00", "filesystem: ");
  corrupt("\"/mnt", "\"mnt");
  corrupt("/mnt", "/mn\\x00");
  corrupt("---\nkind", "kind");
  corrupt("---\nkind", "---\n---\nkind");
  corrupt("fscryptctl-backup-1", "fscryptctl-policy-1");
  corrupt("created: ", "created:  ");
  corrupt("created: ", "created: &a ");
}

TEST_CASE("one record twice is refused, of two users it is not") {
  Backup backup = sample_backup();
  backup.entries = {entry_of(1000, sample_policy()), entry_of(1001, sample_policy())};
  const std::string text = emit(backup);
  CHECK(refusal(text) == std::nullopt);
  CHECK(refusal(replaced(text, "uid: 1001", "uid: 1000")) == Errc::corrupt_metadata);
  backup.entries[1].uid = 1000;
  CHECK_THROWS_AS(emit(backup), Error);
  backup.entries.clear();
  CHECK_THROWS_AS(emit(backup), Error);
}

TEST_CASE("later formats are told from damage") {
  const std::string text = emit(sample_backup());
  CHECK(refusal(replaced(text, "fscryptctl-backup-1", "fscryptctl-backup-2")) ==
        Errc::newer_format);
  CHECK(refusal(replaced(text, "fscryptctl-policy-1", "fscryptctl-policy-2")) ==
        Errc::newer_format);
  CHECK(refusal("---\nformat: fscryptctl-backup-2\nanything") == Errc::newer_format);
}

TEST_CASE("what is too long is refused before it is looked at") {
  CHECK(refusal(std::string(kMaxBackupSize + 1, 'x')) == Errc::corrupt_metadata);
  Backup backup = sample_backup();
  backup.entries[0].text.insert(4, std::string(kMaxBackupSize, 'x'));
  CHECK_THROWS_AS(emit(backup), Error);
}

TEST_CASE("errors about a backup quote nothing of it") {
  const std::string text = emit(sample_backup());
  for (const char* const part : {"kind: protector", "created: 2026", "records: 3", "uid: 1000"}) {
    try {
      (void)parse_backup(replaced(text, part, "fingers: crossed"));
      FAIL(part);
    } catch (const Error& error) {
      CHECK(std::string_view(error.what()).find("crossed") == std::string_view::npos);
    }
  }
}

}  // namespace
}  // namespace fscryptctl
