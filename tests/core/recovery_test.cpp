#include "fscryptctl/core/recovery.h"

#include <catch2/catch.hpp>
#include <deque>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/random.h"
#include "kernel/fake_kernel.h"

using namespace fscryptctl;

namespace {

constexpr KdfCosts kCheap{1, 64, 1};
// More than any machine permits: whoever hashes gets kdf_limit.
constexpr KdfCosts kTooMuch{1, 4'000'000'000, 1};

Secret passphrase(std::string_view text) {
  return {Source::passphrase, SecretBytes(as_bytes(text))};
}

Secret as_passphrase(const RecoveryKey& key) {
  return {Source::passphrase, write_recovery_key(key)};
}

Secret as_recovery_key(SecretBytes text) { return {Source::passphrase, std::move(text), true}; }

class Prepared final : public SecretProvider {
 public:
  template <class... Secrets>
  explicit Prepared(Secrets... secrets) {
    (secrets_.push_back(std::move(secrets)), ...);
  }
  std::optional<Secret> existing(const Request& request) override {
    requests.push_back(request);
    if (secrets_.empty()) return std::nullopt;
    Secret next = std::move(secrets_.front());
    secrets_.pop_front();
    return next;
  }
  Secret fresh(Source, const std::string&) override { throw Error(Errc::missing_input, "none"); }

  std::vector<Request> requests;

 private:
  std::deque<Secret> secrets_;
};

struct Bench {
  test::FakeKernel kernel;
  std::vector<std::string> explained{};
  Context context{kernel,
                  {},
                  own_identity(),
                  std::nullopt,
                  "/nonexistent/f.yaml",
                  std::nullopt,
                  [] {},
                  [this](const std::string& text) { explained.push_back(text); }};
};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return std::string(errc_info(error.code()).reason) + ": " + error.what();
  }
  return "nothing was thrown";
}

/// A protector with a recovery key.
struct Made {
  OpenProtector protector = make_protector(passphrase("correct horse"), "private", kCheap);
  RecoveryKey key = random_key<RecoveryKey>();

  Made() { protector.record = with_recovery_key(protector, key, 1); }
};

void make_hashing_impossible(ProtectorRecord& record) {
  record.wrappings.front().kdf->costs = kTooMuch;
  record.summary.ways = ways_of(record.wrappings);
}

}  // namespace

TEST_CASE("a recovery key is one more wrapping of the same key", "[recovery]") {
  const Made made;
  const ProtectorRecord& record = made.protector.record;
  REQUIRE(record.wrappings.size() == 2);
  CHECK(record.wrappings[1].method == Method::recovery_key);
  CHECK(record.wrappings[1].generation == 2);
  CHECK_FALSE(record.wrappings[1].kdf);
  CHECK(record.summary.has_recovery_key());
  CHECK(opens_with(record, made.key));
  CHECK_FALSE(opens_with(record, random_key<RecoveryKey>()));
}

TEST_CASE("a second recovery key takes the place of the first", "[recovery]") {
  const Made made;
  const auto second = random_key<RecoveryKey>();
  const ProtectorRecord record = with_recovery_key(made.protector, second, 9);
  REQUIRE(record.wrappings.size() == 2);
  CHECK(record.wrappings[0] == made.protector.record.wrappings[0]);
  CHECK(record.wrappings[1].generation == 9);
  CHECK(opens_with(record, second));
  CHECK_FALSE(opens_with(record, made.key));
  const ProtectorRecord without = without_recovery_key(record);
  CHECK(without.wrappings.size() == 1);
  CHECK_FALSE(without.summary.has_recovery_key());
}

TEST_CASE("a recovery key opens without any hashing", "[recovery]") {
  Bench bench;
  Made made;
  make_hashing_impossible(made.protector.record);
  for (const bool typed_for_a_passphrase : {true, false}) {
    Prepared provider(typed_for_a_passphrase ? as_passphrase(made.key)
                                             : as_recovery_key(write_recovery_key(made.key)));
    Opener opener(provider, bench.context);
    const OpenProtector& open = opener.open_any({{made.protector.record}, {}}, "/p", false);
    CHECK(equal_secrets(open.key.secret(), made.protector.key.secret()));
    CHECK(open.opened_with == Method::recovery_key);
  }
  CHECK(bench.explained.empty());
}

TEST_CASE("a recovery key is tried on all candidates before anything is hashed", "[recovery]") {
  Bench bench;
  std::vector<ProtectorRecord> records;
  for (int i = 0; i < 6; ++i) {
    records.push_back(make_protector(passphrase("other"), "p", kCheap).record);
  }
  const Made made;
  records.push_back(made.protector.record);
  Prepared provider(as_passphrase(made.key));
  Opener opener(provider, bench.context);
  CHECK(opener.open_any({records, {}}, "/p", false).record == made.protector.record);
  CHECK(bench.explained.empty());
}

TEST_CASE("a passphrase that reads as a recovery key is a passphrase all the same", "[recovery]") {
  Bench bench;
  const auto other_key = random_key<RecoveryKey>();
  const OpenProtector made = make_protector(as_passphrase(other_key), "p", kCheap);
  Prepared provider(as_passphrase(other_key));
  Opener opener(provider, bench.context);
  CHECK(opener.open_any({{made.record}, {}}, "/p", false).opened_with == Method::passphrase);
}

TEST_CASE("what is given as a recovery key is never hashed", "[recovery]") {
  Bench bench;
  const OpenProtector made = make_protector(passphrase("correct horse"), "p", kCheap);
  Prepared provider(as_recovery_key(SecretBytes(as_bytes("correct horse"))));
  Opener opener(provider, bench.context);
  CHECK(message_of([&] {
          (void)opener.open_any({{made.record}, {}}, "/p", false);
        }) == "wrong_key: wrong recovery key for /p: it has 12 characters, expected 64");
  CHECK(bench.explained.empty());
}

TEST_CASE("a mistyped recovery key is told where; a wrong passphrase is told nothing",
          "[recovery]") {
  Bench bench;
  const Made made;
  SecretBytes typo = write_recovery_key(made.key);
  typo.writable()[20] = typo.view()[20] == 'X' ? 'Y' : 'X';
  Prepared provider(passphrase("guess"), Secret{Source::passphrase, std::move(typo)},
                    as_passphrase(random_key<RecoveryKey>()));
  Opener opener(provider, bench.context);
  const auto open = [&] { (void)opener.open_any({{made.protector.record}, {}}, "/p", false); };
  CHECK(message_of(open) == "wrong_key: wrong recovery key for /p");
  REQUIRE(provider.requests.size() == 4);
  CHECK(provider.requests[1].fault.empty());
  CHECK(provider.requests[2].fault == "group 3 is mistyped");
  CHECK(provider.requests[3].fault.empty());
  CHECK(provider.requests[0].ways == std::vector{Method::passphrase, Method::recovery_key});
}

TEST_CASE("a recovery key opens what has a raw key", "[recovery]") {
  Bench bench;
  OpenProtector made = make_protector({Source::raw_key, SecretBytes(Bytes(32, 7))}, "raw", kCheap);
  const auto key = random_key<RecoveryKey>();
  made.record = with_recovery_key(made, key, 1);
  Prepared provider(as_passphrase(key));
  Opener opener(provider, bench.context);
  CHECK(opener.open_any({{made.record}, {}}, "/p", false).opened_with == Method::recovery_key);

  // The same bytes as a raw key are another secret.
  Prepared raw(Secret{Source::raw_key, SecretBytes(key.view())});
  Opener other(raw, bench.context);
  CHECK(message_of([&] {
          (void)other.open_any({{made.record}, {}}, "/p", false);
        }) == "wrong_key: wrong key for /p");
}

TEST_CASE("a known recovery key opens further copies", "[recovery]") {
  Bench bench;
  const Made made;
  Prepared provider;
  Opener opener(provider, bench.context);
  opener.remember(as_passphrase(made.key));
  CHECK(opener.try_known(made.protector.record));
  CHECK_FALSE(opener.try_known(without_recovery_key(made.protector.record)));
}

TEST_CASE("a new passphrase leaves the recovery key as it is", "[recovery]") {
  const Made made;
  const ProtectorRecord changed =
      with_new_secret(made.protector, passphrase("battery staple"), kCheap, 1);
  CHECK(opens_with(changed, made.key));
  CHECK(changed.wrappings.back() == made.protector.record.wrappings.back());
}
