#include "fscryptctl/core/protector.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <deque>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/key_identifier.h"
#include "fscryptctl/crypto/random.h"
#include "kernel/fake_kernel.h"

using namespace fscryptctl;

namespace {

constexpr KdfCosts kCheap{1, 64, 1};

Secret passphrase(std::string_view text) {
  return {Source::passphrase, SecretBytes(as_bytes(text))};
}

Secret raw_key(std::uint8_t byte) {
  return {Source::raw_key, SecretBytes(Bytes(WrappingKey::kSize, byte))};
}

/// Gives prepared secrets one after the other and counts how often it was asked.
class Prepared final : public SecretProvider {
 public:
  template <class... Secrets>
  explicit Prepared(Secrets... secrets) {
    (secrets_.push_back(std::move(secrets)), ...);
  }
  std::optional<Secret> existing(const Request& request) override {
    ++asked;
    last_request = request;
    if (secrets_.empty()) return std::nullopt;
    Secret next = std::move(secrets_.front());
    secrets_.pop_front();
    return next;
  }
  Secret fresh(Source, const std::string&) override { throw Error(Errc::missing_input, "none"); }

  int asked = 0;
  Request last_request{};

 private:
  std::deque<Secret> secrets_;
};

struct Bench {
  test::FakeKernel kernel;
  Context context{kernel,      {}, own_identity(), std::nullopt, "/nonexistent/fscryptctl.yaml",
                  std::nullopt};
};

Errc code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  FAIL("nothing was thrown");
  return Errc::internal;
}

std::vector<ProtectorRecord> made_with(const std::vector<std::string>& passphrases) {
  std::vector<ProtectorRecord> records;
  for (const std::string& text : passphrases) {
    records.push_back(make_protector(passphrase(text), "p" + text, kCheap).record);
  }
  return records;
}

ProtectorSummary named(const std::string& name, const std::string& id) {
  ProtectorSummary summary;
  summary.name = name;
  summary.id = *ProtectorId::from_hex(id);
  return summary;
}

/// The record as if google/fscrypt had made it: passphrase "one", protector key 00 to 1f.
ProtectorRecord imported_protector() {
  ProtectorRecord record;
  record.summary.id = *ProtectorId::from_hex("572b248e70045051");
  record.summary.name = "imported";
  record.summary.created = "2026-11-22T10:11:12Z";
  // Made by metadata-format/reader.py with a salt and an IV of zeros.
  GoogleWrappedKey wrapped{
      {}, *from_hex("12e3e2e24cd12b9a2696abf662098f96ce6609cd6cbbaf2b1ca196725e51befe"), {}};
  std::ranges::copy(*from_hex("45e6c0af191c2ba00df206c0f18ad5f04e3a25a4730505550da719fc96cea7e2"),
                    wrapped.mac.begin());
  record.wrappings = {{Method::passphrase, 1, Argon2id{kCheap, {}}, wrapped}};
  summarise(record);
  return record;
}

}  // namespace

TEST_CASE("a new protector opens with its secret and is named after its key") {
  Bench bench;
  const OpenProtector made = make_protector(passphrase("right"), "mine", kCheap);
  CHECK(made.record.summary.id == protector_id_of(made.key));
  CHECK(made.record.wrappings.size() == 1);

  Prepared secrets(passphrase("right"));
  Opener opener(secrets, bench.context);
  const OpenProtector& opened = opener.open_any({{made.record}, {}}, "d", false);
  CHECK(equal_secrets(opened.key.secret(), made.key.secret()));
}

TEST_CASE("a wrong passphrase may be corrected as long as the provider has another one") {
  Bench bench;
  const auto records = made_with({"right"});
  Prepared secrets(passphrase("wrong"), passphrase("Right"), passphrase("right"));
  Opener opener(secrets, bench.context);
  CHECK_NOTHROW(opener.open_any({records, {}}, "d", false));
  CHECK(secrets.asked == 3);
  CHECK(secrets.last_request.wrong_so_far == 2);

  Prepared only_wrong(passphrase("wrong"));
  Opener other(only_wrong, bench.context);
  CHECK(code_of([&] { (void)other.open_any({records, {}}, "d", false); }) == Errc::wrong_key);
}

TEST_CASE("one answer is tried on every path of a command") {
  Bench bench;
  const auto first = made_with({"same"});
  const auto second = made_with({"same"});
  Prepared secrets(passphrase("same"));
  Opener opener(secrets, bench.context);
  (void)opener.open_any({first, {}}, "a", false);
  (void)opener.open_any({second, {}}, "b", false);
  (void)opener.open_any({first, {}}, "a", false);
  CHECK(secrets.asked == 1);
}

TEST_CASE("unnamed, a secret is hashed four times at most, and the rest is not called wrong") {
  Bench bench;
  const auto five = made_with({"1", "2", "3", "4", "fifth"});
  Prepared secrets(passphrase("fifth"));
  Opener opener(secrets, bench.context);
  try {
    (void)opener.open_any({five, {}}, "d", false);
    FAIL("it was opened");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::ambiguous);
    REQUIRE(error.candidates().size() == 1);
    CHECK(error.candidates().front().find("pfifth") != std::string::npos);
  }

  Prepared again(passphrase("fifth"));
  Opener named(again, bench.context);
  CHECK_NOTHROW(named.open_any({five, {}}, "d", true));
}

TEST_CASE("the same hashing is done once, however many protectors share it") {
  Bench bench;
  // Copies of a protector have identical wrappings.
  const auto one = made_with({"right"});
  const std::vector<ProtectorRecord> copies(6, one.front());
  Prepared secrets(passphrase("wrong"));
  Opener opener(secrets, bench.context);
  CHECK(code_of([&] { (void)opener.open_any({copies, {}}, "d", false); }) == Errc::wrong_key);
}

TEST_CASE("a record that costs more than the limit is refused, not called wrong") {
  Bench bench;
  auto records = made_with({"right"});
  records.front().wrappings.front().kdf->costs.passes = 1U << 30U;
  Prepared secrets(passphrase("right"));
  Opener opener(secrets, bench.context);
  CHECK(code_of([&] { (void)opener.open_any({records, {}}, "d", true); }) == Errc::kdf_limit);

  SECTION("but another protector may do") {
    records.push_back(made_with({"right"}).front());
    Prepared more(passphrase("right"));
    Opener other(more, bench.context);
    CHECK_NOTHROW(other.open_any({records, {}}, "d", true));
  }
}

TEST_CASE("a secret that may belong to an unreadable protector is not called wrong") {
  Bench bench;
  const ReadProtectors read{made_with({"right"}), Error(Errc::corrupt_metadata, "damaged")};
  Prepared wrong(passphrase("wrong"));
  Opener opener(wrong, bench.context);
  CHECK(code_of([&] { (void)opener.open_any(read, "d", false); }) == Errc::corrupt_metadata);
  Prepared right(passphrase("right"));
  Opener other(right, bench.context);
  CHECK_NOTHROW(other.open_any(read, "d", false));
}

TEST_CASE("a raw key opens raw-key protectors only") {
  Bench bench;
  const OpenProtector made = make_protector(raw_key(7), "key", kCheap);
  CHECK_FALSE(made.record.wrappings.front().kdf);
  Prepared right(raw_key(7));
  Opener opener(right, bench.context);
  CHECK_NOTHROW(opener.open_any({{made.record}, {}}, "d", false));
  CHECK(right.last_request.ways == std::vector<Method>{Method::raw_key});

  Prepared text(passphrase(std::string(32, '\7')));
  Opener other(text, bench.context);
  CHECK(code_of([&] { (void)other.open_any({{made.record}, {}}, "d", false); }) == Errc::wrong_key);
}

TEST_CASE("a new secret replaces the old one and keeps key, id and recovery key") {
  Bench bench;
  OpenProtector made = make_protector(passphrase("old"), "mine", kCheap);
  ProtectorWrapping recovery;
  recovery.method = Method::recovery_key;
  recovery.generation = 3;
  const WrappingKey recovery_key{SecretBytes(Bytes(32, 9))};
  recovery.wrapped = wrap(recovery_key, context_of(made.record, recovery), made.key);
  made.record.wrappings.push_back(recovery);

  const ProtectorRecord changed = with_new_secret(made, passphrase("new"), kCheap, 0);
  CHECK(changed.summary.id == made.record.summary.id);
  REQUIRE(changed.wrappings.size() == 2);
  CHECK(changed.wrappings.front().generation == 4);
  CHECK(changed.wrappings.back() == recovery);
  CHECK(with_new_secret(made, passphrase("new"), kCheap, 40).wrappings.front().generation == 40);

  Prepared new_one(passphrase("new"));
  Opener opener(new_one, bench.context);
  CHECK(equal_secrets(opener.open_any({{changed}, {}}, "d", true).key.secret(), made.key.secret()));
  Prepared old_one(passphrase("old"));
  Opener other(old_one, bench.context);
  CHECK(code_of([&] { (void)other.open_any({{changed}, {}}, "d", true); }) == Errc::wrong_key);

  CHECK(code_of([&] { (void)with_new_secret(made, raw_key(1), kCheap, 0); }) == Errc::usage);
}

TEST_CASE("names that would be mistaken for something else are refused") {
  for (const std::string& bad :
       {std::string(), std::string("login"), std::string("a:b"), std::string("a/b"),
        std::string("a\nb"), std::string("\x7f"), std::string("\xc2\x80"), std::string("\xff"),
        std::string("beef"), std::string("0123456789abcdef"), std::string(256, 'a')}) {
    CAPTURE(bad);
    CHECK(invalid_name(bad));
  }
  for (const char* good : {"bee", "mine", "0123456789abcdef0", "K\xc3\xb6nig", "a b"}) {
    CAPTURE(good);
    CHECK_FALSE(invalid_name(good));
  }
}

TEST_CASE("a default name is made valid and unique") {
  const std::vector<ProtectorSummary> taken{named("private", "00000000000000aa"),
                                            named("private-2", "00000000000000bb")};
  CHECK(free_name("private", taken) == "private-3");
  CHECK(free_name("photos", taken) == "photos");
  CHECK(free_name("cafe", taken) == "cafe-2");
  CHECK(free_name("login", {}) == "login-2");
  CHECK(free_name("a:b\n", {}) == "a-b-");
  CHECK_FALSE(invalid_name(free_name("\xff\xfe", {})));
  CHECK_FALSE(invalid_name(free_name(std::string(300, '\xc3'), {})));
  CHECK_FALSE(invalid_name(free_name("", {})));
}

TEST_CASE("a protector is found by name, id, or the beginning of its id, in this order") {
  const std::vector<ProtectorSummary> all{named("mine", "aaaa000000000001"),
                                          named("work", "aaaa000000000002"),
                                          named("aaaa000000000002x", "bbbb000000000003")};
  CHECK(&find_protector(all, "mine") == &all[0]);
  CHECK(&find_protector(all, "aaaa000000000002") == &all[1]);
  CHECK(&find_protector(all, "bbbb") == &all[2]);
  CHECK(code_of([&] { (void)find_protector(all, "bbb"); }) == Errc::no_such_protector);
  CHECK(code_of([&] { (void)find_protector(all, "aaaa"); }) == Errc::ambiguous);
  CHECK(code_of([&] { (void)find_protector(all, "Mine"); }) == Errc::no_such_protector);
}

TEST_CASE("an imported protector opens, and moves with its next secret") {
  Bench bench;
  Prepared provider(passphrase("wrong"), passphrase("one"));
  Opener opener(provider, bench.context);
  const OpenProtector& open = opener.open_any({{imported_protector()}, {}}, "/d", true);
  CHECK(open.key.view()[31] == 31);
  const ProtectorRecord changed = with_new_secret(open, passphrase("two"), kCheap, 1);
  CHECK(changed.summary.algorithm == WrapAlgorithm::fscryptctl_wrap_1);
  CHECK(changed.wrappings.front().generation == 2);
  CHECK(changed.wrappings.front().kdf->salt != KdfSalt{});
  opener.remember(passphrase("two"));
  CHECK(opener.try_known(changed));
}

TEST_CASE("a proven secret wraps an imported protector key again") {
  Bench bench;
  const ProtectorRecord record = imported_protector();
  Prepared provider(passphrase("wrong"), passphrase("one"));
  Opener opener(provider, bench.context);
  const OpenProtector& open = opener.open_any({{record}, {}}, "/d", true);
  const std::optional<ProtectorWrapping> again = opener.wrap_again(record, open.key);
  REQUIRE(again);
  CHECK(algorithm_of(again->wrapped) == WrapAlgorithm::fscryptctl_wrap_1);
  CHECK(again->kdf == record.wrappings.front().kdf);
  ProtectorRecord moved = record;
  moved.wrappings = {*again};
  summarise(moved);
  Opener other(provider, bench.context);
  other.remember(passphrase("one"));
  CHECK(other.try_known(moved));
  CHECK_FALSE(other.wrap_again(record, random_key<ProtectorKey>()));
  Opener without(provider, bench.context);
  without.remember(passphrase("two"));
  CHECK_FALSE(without.wrap_again(record, open.key));
}

TEST_CASE("the secret that opened a protector can be used again, and no other one") {
  Bench bench;
  Prepared provider(passphrase("wrong"), passphrase("right"));
  Opener opener(provider, bench.context);
  const ProtectorRecord record = make_protector(passphrase("right"), "p", kCheap).record;
  CHECK_FALSE(opener.known_secret(record));
  (void)opener.open_any({{record}, std::nullopt}, "p", true);
  const std::optional<Secret> secret = opener.known_secret(record);
  REQUIRE(secret);
  CHECK(secret->kind == Source::passphrase);
  CHECK(equal_secrets(secret->bytes, passphrase("right").bytes));
  CHECK_FALSE(opener.known_secret(make_protector(passphrase("third"), "q", kCheap).record));
  CHECK(provider.asked == 2);
}
