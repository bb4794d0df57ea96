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
  std::optional<std::string> recovery_key_file;
  std::optional<std::string> new_passphrase_file;
  std::optional<std::string> new_key_file;
  KeyFormat key_format = KeyFormat::raw;
};

/// --passphrase-file, --key-file, --key-format, --recovery-key-file
void add_existing_secret_options(CLI::App& app, SecretOptions& options);
/// --recovery-key-file alone, for a command that nothing else opens
void add_recovery_key_file_option(CLI::App& app, SecretOptions& options);
/// --new-passphrase-file, --new-key-file; besides add_existing_secret_options
void add_new_secret_options(CLI::App& app, SecretOptions& options);

/// What --passphrase-file and --key-file mean to a command.
enum class Spelling {
  existing_and_new,  ///< they open what exists; --new-... make what is new
  all_new,           ///< nothing exists yet: both spellings give the new secret, one of them only
                     ///< (a recovery key is never one).
                     ///< existing() gives the same one, for commands that find their work done
  new_may_open,      ///< as existing_and_new, and what is new may be there already: tried last
};

/// Secrets from options, standard input or the terminal, for one run.
class CommandLineSecrets final : public SecretProvider {
 public:
  /// Throws usage for options that contradict each other. Reads nothing yet.
  CommandLineSecrets(const SecretOptions& options, Spelling spelling, Invocation& invocation);

  [[nodiscard]] std::optional<Secret> existing(const Request& request) override;
  [[nodiscard]] Secret fresh(Source kind, const std::string& target) override;

  /// What opens a login protector is asked for as the previous password: the command replaces it.
  void replaces_login_password() noexcept { replaces_login_password_ = true; }

  /// Prompts for one target before its secret counts as wrong.
  static constexpr int kTries = 3;

 private:
  /// A secret that an option gives.
  struct Given {
    const char* option = "";
    std::optional<std::string> file;
    Source kind = Source::passphrase;
    std::optional<SecretBytes> bytes{};  ///< once read: a pipe can be read only once
    bool handed_out = false;
    bool recovery_key = false;  ///< of no kind, it opens whatever has one
  };
  // In the order in which standard input holds them.
  enum Slot { kPassphrase, kKey, kRecoveryKey, kNewPassphrase, kNewKey, kSlots };

  void require_consistent() const;
  [[nodiscard]] bool opens(Slot slot) const;
  [[nodiscard]] Given* given_new(Source kind);
  [[nodiscard]] Secret take(Given& given);
  [[nodiscard]] SecretBytes read(const Given& given);
  [[nodiscard]] SecretBytes read_key(const std::string& file);
  [[nodiscard]] std::optional<Secret> hand_out(Slot slot);
  [[nodiscard]] SecretBytes decoded_key(const SecretBytes& text, const std::string& file);
  [[noreturn]] void refuse_key(const std::string& file, const std::string& problem);
  [[nodiscard]] bool last_on_standard_input(const Given& given) const;
  [[nodiscard]] std::optional<Secret> next_given(const Request& request);
  [[nodiscard]] std::optional<Secret> line_of_standard_input(const Request& request);
  [[nodiscard]] Secret as_passphrase(SecretBytes text);
  [[nodiscard]] std::optional<Secret> prompt_existing(const Request& request);
  [[nodiscard]] const char* asked_for(const Request& request) const;
  [[nodiscard]] static std::string tries_left(int prompts);
  [[nodiscard]] SecretBytes prompt_fresh(Source kind, const std::string& target);

  std::array<Given, kSlots> given_;
  KeyFormat key_format_;
  Spelling spelling_;
  Invocation& invocation_;
  bool line_taken_ = false;
  std::string prompted_target_;
  int prompts_ = 0;
  int login_prompts_ = 0;  ///< for a new login password
  bool replaces_login_password_ = false;
};

}  // namespace fscryptctl
