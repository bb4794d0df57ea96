#include "fscryptctl/crypto/recovery_key.h"

#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <string>

#include "fscryptctl/crypto/random.h"

using namespace fscryptctl;

namespace {

const std::string kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
// Made by metadata-format/reader.py of the bytes c0 c1 .. df.
const std::string kText = "R30W5GY4-4RQ3CFJG-69SB5WSJ-KEESZ8DZ-3MPKTKA0-XDNYRV7D-DDQQ6XVB-VFVR6N20";

RecoveryKey example_key() {
  RecoveryKey key;
  for (std::size_t i = 0; i < 32; ++i) {
    key.writable()[i] = static_cast<std::uint8_t>(0xc0 + i);
  }
  return key;
}

std::string text_of(const RecoveryKey& key) {
  const SecretBytes text = write_recovery_key(key);
  return {text.view().begin(), text.view().end()};
}

std::string without_dashes(std::string text) {
  std::erase(text, '-');
  return text;
}

const std::string kSymbols = without_dashes(kText);

RecoveryKeyReading reading(const std::string& text) { return read_recovery_key(as_bytes(text)); }

std::string fault(const std::string& text) {
  const RecoveryKeyReading result = reading(text);
  CHECK(result.key.has_value() == result.fault.empty());
  return result.fault;
}

std::string group(std::size_t place) { return "group " + std::to_string(place / 8 + 1); }

bool reads_as(const std::string& text, const RecoveryKey& key) {
  const RecoveryKeyReading result = reading(text);
  return result.key && equal_secrets(result.key->secret(), key.secret());
}

}  // namespace

TEST_CASE("a recovery key is written as the format says", "[recovery]") {
  CHECK(text_of(example_key()) == kText);
  CHECK(kText.size() == kRecoveryKeyTextSize);
}

TEST_CASE("what is written is read again", "[recovery]") {
  for (int i = 0; i < 500; ++i) {
    const auto key = random_key<RecoveryKey>();
    const std::string text = text_of(key);
    CHECK(reads_as(text, key));
    CHECK(text.find_first_not_of(kAlphabet + "-") == std::string::npos);
    CHECK(fault_of_copy(key, as_bytes(text)).empty());
  }
}

TEST_CASE("people spell a recovery key as they like", "[recovery]") {
  std::string lower = kText;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::string look_alikes = kText;
  for (char& c : look_alikes) {
    if (c == '0') c = 'o';
    if (c == '1') c = 'L';
    if (c == 'V') c = 'u';
  }
  const std::string spellings[] = {
      lower,
      kSymbols,
      look_alikes,
      "  " + kText + "\r\n",
      kText.substr(0, 35) + "\n" + kText.substr(36),
      "R 3 0 W 5 G Y 4--" + kText.substr(9),
  };
  for (const std::string& spelling : spellings) CHECK(reads_as(spelling, example_key()));
}

TEST_CASE("every single wrong character is found and its group named", "[recovery]") {
  for (std::size_t place = 0; place < 64; ++place) {
    for (const char other : kAlphabet + "*!%") {
      if (other == kSymbols[place]) continue;
      std::string typed = kSymbols;
      typed[place] = other;
      CHECK(fault(typed) == group(place) + " is mistyped");
      CHECK(reading(typed).resembles);
      CHECK(fault_of_copy(example_key(), as_bytes(typed)) == group(place) + " is mistyped");
    }
  }
}

TEST_CASE("a character of another alphabet is one mistake", "[recovery]") {
  for (const std::string other : {"\u00e9", "\u2013", "\U0001f600", "\xa9", "\xff"}) {
    std::string typed = kSymbols;
    typed.replace(20, 1, other);
    CHECK(fault(typed) == "group 3 is mistyped");
    CHECK_FALSE(fault(kSymbols + other).empty());
  }
}

TEST_CASE("every exchange of two characters of a group is found and the group named",
          "[recovery]") {
  for (int i = 0; i < 50; ++i) {
    const std::string symbols = without_dashes(text_of(random_key<RecoveryKey>()));
    for (std::size_t a = 0; a < 64; ++a) {
      for (std::size_t b = a + 1; b < a / 8 * 8 + 8; ++b) {
        if (symbols[a] == symbols[b]) continue;
        std::string typed = symbols;
        std::swap(typed[a], typed[b]);
        CHECK(fault(typed) == group(a) + " is mistyped");
      }
    }
  }
}

TEST_CASE("exchanged groups are found", "[recovery]") {
  for (std::size_t a = 0; a < 8; ++a) {
    for (std::size_t b = a + 1; b < 8; ++b) {
      std::string typed = kSymbols;
      typed.replace(a * 8, 8, kSymbols, b * 8, 8);
      typed.replace(b * 8, 8, kSymbols, a * 8, 8);
      CHECK(fault(typed) ==
            "groups " + std::to_string(a + 1) + " and " + std::to_string(b + 1) + " are mistyped");
    }
  }
}

TEST_CASE("a lost or extra character is found, and nearly always located", "[recovery]") {
  int located = 0;
  int all = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string symbols = without_dashes(text_of(random_key<RecoveryKey>()));
    for (std::size_t place = 0; place < 64; ++place, all += 2) {
      std::string fewer = symbols;
      fewer.erase(place, 1);
      std::string more = symbols;
      more.insert(place, 1, 'Q');
      CHECK_FALSE(fault(fewer).empty());
      CHECK_FALSE(fault(more).empty());
      CHECK(reading(fewer).resembles);
      located += fault(fewer) == group(place) + " has 1 character too few" ? 1 : 0;
      located += fault(more) == group(place) + " has 1 character too many" ? 1 : 0;
    }
  }
  // The last character of one group may as well be the first of the next.
  CHECK(located > all * 8 / 10);
}

TEST_CASE("a missing group and one typed twice are named", "[recovery]") {
  for (std::size_t place = 0; place < 64; place += 8) {
    std::string missing = kSymbols;
    missing.erase(place, 8);
    CHECK(fault(missing) == group(place) + " is missing");
    std::string twice = kSymbols;
    twice.insert(place, kSymbols.substr(place, 8));
    CHECK_FALSE(fault(twice).empty());
  }
}

TEST_CASE("groups of two keys are not one key", "[recovery]") {
  const std::string other = without_dashes(text_of(random_key<RecoveryKey>()));
  std::string typed = kSymbols;
  typed.replace(24, 8, other, 24, 8);
  CHECK(fault(typed) == "it is mistyped, in a group that could be right by itself");
  // Whoever knows the key can say which.
  CHECK(fault_of_copy(example_key(), as_bytes(typed)) == "group 4 is mistyped");
}

TEST_CASE("no other text is taken for a recovery key", "[recovery]") {
  CHECK(fault("") == "it has 0 characters, expected 64");
  CHECK(fault("correct horse battery staple") == "it has 25 characters, expected 64");
  CHECK(fault(std::string(5000, 'x')) == "it has many more than the 64 characters");
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    const std::size_t size = 50 + random() % 30;
    for (std::size_t j = 0; j < size; ++j) text += kAlphabet[random() % 32];
    const RecoveryKeyReading result = reading(text);
    CHECK_FALSE(result.key);
    // Three groups of eight by chance: 56 / 32^3, and fewer with another length.
    if (i < 200) CHECK_FALSE(result.resembles);
  }
}

TEST_CASE("any bytes can be read for a recovery key", "[recovery]") {
  std::mt19937 random(2);
  for (int i = 0; i < 20000; ++i) {
    std::string text = i % 2 == 0 ? kText : "";
    for (std::size_t changes = random() % 20; changes > 0; --changes) {
      const std::size_t at = text.empty() ? 0 : random() % text.size();
      const char byte = static_cast<char>(random());
      if (random() % 3 == 0 && !text.empty()) {
        text.erase(at, 1 + random() % 9);
      } else {
        text.insert(at, 1 + random() % 3, byte);
      }
    }
    const RecoveryKeyReading result = reading(text);
    if (result.key) CHECK(reads_as(kText, *result.key));
    CHECK(result.key.has_value() == result.fault.empty());
    CHECK(fault_of_copy(example_key(), as_bytes(text)).empty() == result.key.has_value());
  }
}

TEST_CASE("all bits of a key count", "[recovery]") {
  std::set<std::string> texts;
  for (std::size_t bit = 0; bit < 256; ++bit) {
    RecoveryKey key = example_key();
    key.writable()[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    texts.insert(text_of(key));
    CHECK(reads_as(text_of(key), key));
  }
  CHECK(texts.size() == 256);
}
