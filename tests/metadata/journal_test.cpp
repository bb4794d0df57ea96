#include "fscryptctl/metadata/journal.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/random.h"

namespace fscryptctl {
namespace {

Journal example() {
  Journal journal;
  journal.operation = *OperationId::from_hex("00112233445566778899aabbccddeeff");
  journal.command = Journal::Command::reencrypt;
  journal.strategy = Journal::Strategy::low_space;
  journal.state = Journal::State::moving;
  journal.verify = false;
  journal.bound = true;
  journal.key = KeyIdentifier::from_hex("8699c2c53707405da5aba5ae4d8583c0");
  journal.previous = KeyIdentifier::from_hex("0123456789abcdef0123456789abcdef");
  journal.path = "alice/private";
  journal.original = {12, 34};
  journal.replacement = {56, 78};
  journal.original_mode = 0555;
  journal.mode = 02770;
  journal.since = {-1, 999'999'999};
  journal.files = 3;
  journal.bytes = 0xffff'ffff'ffff'ffff;
  return journal;
}

Journal::Part part() { return {{1, 2}, {3, 4}, "a/\xff", 500, 400, {-5, 1}, {6, 2}, {7, 3}}; }

Errc failure(std::string_view text) {
  try {
    static_cast<void>(parse_journal(text));
  } catch (const Error& error) {
    return error.code();
  }
  return Errc::internal;
}

TEST_CASE("A journal reads back as it was written") {
  const auto key = random_key<JournalKey>();
  Journal journal = example();
  CHECK(parse_journal(emit(journal, key)) == journal);
  journal.part = part();
  CHECK(parse_journal(emit(journal, key)) == journal);
  journal.previous.reset();
  CHECK(parse_journal(emit(journal, key)) == journal);
  journal.key.reset();
  journal.command = Journal::Command::decrypt;
  CHECK(parse_journal(emit(journal, key)) == journal);
}

TEST_CASE("A journal is authentic only as it was written, and with its key") {
  const auto key = random_key<JournalKey>();
  Journal journal = example();
  journal.part = part();
  const std::string text = emit(journal, key);
  CHECK(is_authentic(text, key));
  CHECK_FALSE(is_authentic(text, random_key<JournalKey>()));
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const int flip : {1, 2, 16}) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      bool taken = false;
      try {
        taken = is_authentic(changed, key);
      } catch (const Error& error) {
        CHECK(error.code() == Errc::corrupt_metadata);
      }
      CHECK_FALSE(taken);
    }
  }
}

TEST_CASE("The key of a journal is another for another policy key or operation") {
  const auto policy_key = random_key<PolicyKey>();
  const OperationId first = *OperationId::from_hex("00112233445566778899aabbccddeeff");
  const OperationId second = *OperationId::from_hex("10112233445566778899aabbccddeeff");
  const JournalKey key = journal_key_of(policy_key, first);
  CHECK(equal_secrets(key.secret(), journal_key_of(policy_key, first).secret()));
  CHECK_FALSE(equal_secrets(key.secret(), journal_key_of(policy_key, second).secret()));
  CHECK_FALSE(equal_secrets(key.secret(), journal_key_of(random_key<PolicyKey>(), first).secret()));
}

TEST_CASE("What is no journal is refused") {
  const std::string text = emit(example(), random_key<JournalKey>());
  const auto replaced = [&](const std::string& what, const std::string& with) {
    std::string changed = text;
    const std::size_t at = changed.find(what);
    REQUIRE(at != std::string::npos);
    return changed.replace(at, what.size(), with);
  };
  CHECK(failure("") == Errc::corrupt_metadata);
  CHECK(failure(text.substr(0, text.size() - 1)) == Errc::corrupt_metadata);
  CHECK(failure(text + "x: 1\n") == Errc::corrupt_metadata);
  CHECK(failure(replaced("journal-1", "journal-2")) == Errc::newer_format);
  CHECK(failure(replaced("reencrypt", "upgrade")) == Errc::newer_format);
  CHECK(failure(replaced("moving", "flying")) == Errc::newer_format);
  CHECK(failure(replaced("verify: 0", "verify: 2")) == Errc::corrupt_metadata);
  CHECK(failure(replaced("mode: 365", "mode: 4096")) == Errc::corrupt_metadata);
  CHECK(failure(replaced(":999999999", ":1000000000")) == Errc::corrupt_metadata);
  for (const char* wrong : {"original: 12", "original: 12:", "original: 12:034", "original: 12:3:4",
                            "original: 12:4294967296", "original: \"12:34\""}) {
    CHECK(failure(replaced("original: 12:34", wrong)) == Errc::corrupt_metadata);
  }
  CHECK(failure(replaced("\"alice/private\"", "\"../etc\"")) == Errc::corrupt_metadata);
  CHECK(failure(replaced("files: 3\n", "files: 3\nfiles: 3\n")) == Errc::corrupt_metadata);
  CHECK(failure(replaced("files: 3\n", "")) == Errc::corrupt_metadata);
  CHECK(failure(replaced("files: 3\n", "files: 3\npart_source: 1:1\n")) == Errc::corrupt_metadata);
}

TEST_CASE("What the fuzzer begins with are journals but for their MAC") {
  for (const char* name : {"copy", "part"}) {
    CAPTURE(name);
    std::ifstream file(std::string(FSCRYPTCTL_SOURCE_DIR "/tests/fuzz/journals/") + name + ".yaml");
    std::ostringstream text;
    text << file.rdbuf();
    CHECK_NOTHROW(parse_journal(text.str() + "---\nmac: " + std::string(64, '0') + "\n"));
  }
}

}  // namespace
}  // namespace fscryptctl
