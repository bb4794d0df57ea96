#include "google_config.h"

#include <catch2/catch.hpp>

#include "fscryptctl/base/error.h"

using namespace fscryptctl;

namespace {

const std::string kUsual = R"({
  "source": "pam_passphrase",
  "hash_costs": {"time": "7", "memory": "131072", "parallelism": "4", "truncation_fixed": true},
  "options": {"padding": "16", "contents": "AES_256_XTS", "filenames": "AES_256_HCTR2",
              "policy_version": "2"},
  "use_fs_keyring_for_v1_policies": false,
  "allow_cross_user_metadata": false
})";

bool is_refused(const std::string& text) {
  try {
    (void)parse_google_config(text);
    return false;
  } catch (const Error& error) {
    return error.code() == Errc::corrupt_metadata;
  }
}

std::string with(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace

TEST_CASE("the defaults of google/fscrypt") {
  const Config config = parse_google_config(kUsual);
  CHECK(config.source == Source::login);
  CHECK(config.kdf == KdfCosts{7, 131072, 4});
  CHECK(config.encryption.filenames == Mode::aes_256_hctr2);
  CHECK(config.encryption.padding_bytes == 16);
  CHECK_FALSE(config.kdf_limit_mib);
  CHECK(parse_google_config("{}") == Config{});
  CHECK(parse_google_config(R"({"source": "raw_key"})").source == Source::raw_key);
  CHECK(parse_google_config(
            with(with(kUsual, "AES_256_XTS", "Adiantum"), "AES_256_HCTR2", "Adiantum"))
            .encryption.contents == Mode::adiantum);
}

TEST_CASE("what is no configuration of google/fscrypt is refused") {
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{"), std::string("7"),
        with(kUsual, "\"7\"", "\"-7\""), with(kUsual, "\"7\"", "\"7x\""),
        with(kUsual, "\"7\"", "7.5"), with(kUsual, "\"7\"", "\"\""), with(kUsual, "\"7\"", "null"),
        with(kUsual, "\"7\"", "\"99999999999999999999\""), with(kUsual, "\"131072\"", "\"8\""),
        with(kUsual, "\"16\"", "\"5\""), with(kUsual, "AES_256_XTS", "AES_512_XTS"),
        with(kUsual, "pam_passphrase", "tpm"), with(kUsual, "\"pam_passphrase\"", "{}"),
        with(kUsual, "\"AES_256_XTS\"", "1"), with(kUsual, "AES_256_XTS", "Adiantum"),
        with(kUsual, R"({"time")", R"([{"time")")}) {
    CAPTURE(text);
    CHECK(is_refused(text));
  }
}
