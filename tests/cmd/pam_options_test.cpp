#include "options.h"

#include <catch2/catch.hpp>
#include <vector>

using fscryptctl::pam::is_card_service;
using fscryptctl::pam::Options;

namespace {

Options parse(std::vector<const char*> words) {
  return Options::parse(static_cast<int>(words.size()), words.data());
}

}  // namespace

TEST_CASE("the module's options replace its defaults") {
  const Options options = parse({"prompt=login,kdm", "skip=cron", "budget=2", "minlength=8"});
  CHECK(options.prompt == std::set<std::string>{"login", "kdm"});
  CHECK(options.skip == std::set<std::string>{"cron"});
  CHECK(options.budget == std::chrono::seconds(2));
  CHECK(options.shortest == 8);
  CHECK(options.unknown.empty());
  CHECK(parse({"prompt=always"}).prompt_everywhere);
  CHECK(parse({"prompt=never"}).prompt.empty());
  CHECK(parse({"skip=none"}).skip.empty());
  CHECK(parse({"keep_unlocked"}).keep_unlocked);
  CHECK(parse({"quiet"}).quiet);
}

TEST_CASE("what is no option changes nothing and is named") {
  for (const char* word : {"prompt=", "budget=", "budget=-1", "budget=61", "budget=5s",
                           "minlength=x", "minlength=65", "quiet=1", "unlock", ""}) {
    const Options options = parse({word, "quiet"});
    CHECK(options.unknown == word);
    CHECK(options.budget == std::chrono::seconds(5));
    CHECK(options.shortest == 6);
    CHECK(options.quiet);
  }
}

TEST_CASE("services for cards and fingerprints are told by their names") {
  CHECK(is_card_service("gdm-smartcard"));
  CHECK(is_card_service("gdm-fingerprint"));
  CHECK_FALSE(is_card_service("gdm-password"));
  CHECK_FALSE(is_card_service("login"));
}
