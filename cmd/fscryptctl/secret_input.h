#pragma once

#include <CLI/App.hpp>
#include <array>
#include <optional>
#include <string>

#include "fscryptctl/core/secrets.h"
#include "fscryptctl/crypto/base64.h"
#include "invocation.h"

namespace fscryptctl {

/// Where secrets come from, as given on the command line; "-" is standard input.
struct SecretOptions {
  std::optional<std::string> passphrase_file;
  std::optional<std::string> key_file;
  std::optional<std::string> new_passphrase_file;
  std::optional<std::string> new_key_file;
  KeyFormat key_format = KeyFormat::raw;
};

/// --passphrase-file, --key-file, --key-format
void add_existing_secret_options(CLI::App& app, SecretOptions& options);
/// --new-passphrase-file, --new-key-file; after add_existing_secret_options
void add_new_secret_options(CLI::App& app, SecretOptions& options);

/// What --passphrase-file and --key-file mean to a command.
enum class Spelling {
  existing_and_new,  ///< they open what exists, --new-... make what is new
  all_new,           ///< nothing exists yet: both spellings give the new secret, one of them only
};

/// Secrets from options, standard input or the terminal, for one run.
class CommandLineSecrets final : public SecretProvider {
 public:
  /// Throws usage for options that contradict each other. Reads nothing yet.
  CommandLineSecrets(const SecretOptions& options, Spelling spelling, Invocation& invocation);

  [[nodiscard]] std::optional<Secret> existing(const Request& request) override;
  [[nodiscard]] Secret fresh(Source kind, const std::string& target) override;

  /// Prompts for one target before its secret counts as wrong.
  static constexpr int kTries = 3;

 private:
  /// One secret given by an option.
  struct Given {
    std::optional<std::string> file;
    Source kind = Source::passphrase;
    SecretBytes bytes{};  ///< once read
    bool handed_out = false;
  };
  enum Slot { kPassphrase, kKey, kNewPassphrase, kNewKey, kSlots };

  [[nodiscard]] SecretBytes read(Given& given);
  void read_standard_input_up_to(Slot last);
  [[nodiscard]] std::optional<Secret> given_existing(bool passphrase_fits, bool key_fits);
  [[nodiscard]] std::optional<Secret> line_of_standard_input();
  [[nodiscard]] std::optional<Secret> prompt_existing(const Request& request);
  [[nodiscard]] SecretBytes prompt_fresh(const std::string& target);

  std::array<Given, kSlots> given_;
  KeyFormat key_format_;
  Spelling spelling_;
  Invocation& invocation_;
  bool standard_input_used_ = false;
  std::string prompted_target_;
  int prompts_ = 0;
};

}  // namespace fscryptctl
