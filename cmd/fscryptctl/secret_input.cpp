#include "secret_input.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "fscryptctl/crypto/recovery_key.h"
#include "fscryptctl/crypto/secret.h"
#include "secret_file.h"
#include "signals.h"
#include "terminal.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kKeySize = ProtectorKey::kSize;
// Enough for a key in any format with room for a mistake to be seen.
constexpr std::size_t kMaxKeyText = 4096;
// Enough for one with explanations.
constexpr std::size_t kMaxRecoveryKeyFile = 64 * 1024;

SecretBytes copy_of(const SecretBytes& secret) { return SecretBytes(secret.view()); }

/// A recovery key is accepted wherever a passphrase is.
bool accepts(const SecretProvider::Request& request, Source kind) {
  return std::any_of(request.ways.begin(), request.ways.end(), [kind](Method way) {
    return kind == Source::raw_key ? way == Method::raw_key : way != Method::raw_key;
  });
}

bool accepts_passphrase(const SecretProvider::Request& request) {
  return std::any_of(request.ways.begin(), request.ways.end(), is_hashed);
}

bool only_login(const SecretProvider::Request& request) {
  return std::all_of(request.ways.begin(), request.ways.end(), [](Method way) {
    return way == Method::login || way == Method::recovery_key;
  });
}

KeyFormat key_format_from(const std::string& name) {
  if (name == "raw") return KeyFormat::raw;
  if (name == "hex") return KeyFormat::hex;
  if (name == "base64") return KeyFormat::base64;
  throw Error(Errc::usage, "invalid key format: " + printable(name));
}

const char* format_name(KeyFormat format) {
  switch (format) {
    case KeyFormat::raw:
      return "raw";
    case KeyFormat::hex:
      return "hex";
    case KeyFormat::base64:
      return "base64";
  }
  return "";
}

SecretBytes not_empty(SecretBytes passphrase) {
  if (passphrase.empty()) throw Error(Errc::usage, "the passphrase is empty");
  return passphrase;
}

/// Where standard input is a terminal, what is typed there must not be seen.
SecretBytes read_passphrase(const std::string& file) {
  std::optional<Terminal> terminal;
  if (file == "-" && isatty(STDIN_FILENO) != 0) terminal = Terminal::open();
  return terminal ? not_empty(terminal->read_secret("passphrase: ")) : SecretFile(file).line();
}

/// A whole file; of standard input, which may hold more than this, one line. Before it explanations
/// and empty lines may stand.
SecretBytes read_recovery_key_text(const std::string& file) {
  if (file != "-") return without_comments(SecretFile(file).bytes(kMaxRecoveryKeyFile));
  if (isatty(STDIN_FILENO) != 0) {
    if (std::optional<Terminal> terminal = Terminal::open()) {
      return terminal->read_secret("recovery key: ");
    }
  }
  SecretFile input(file);
  for (;;) {
    std::optional<SecretBytes> line = input.next_line();
    if (!line) throw Error(Errc::missing_input, "end of input: " + input.name());
    const ByteView bytes = line->view();
    if (!bytes.empty() && bytes[0] != '#' && bytes[0] != '\r') return std::move(*line);
  }
}

Error no_raw_key(const SecretProvider::Request& request) {
  return Error(Errc::missing_input,
               one_line(request.target) + " opens with a raw key: give --key-file");
}

/// What was wrong with what was typed last, as far as a person can do better next time.
std::string wrong(const SecretProvider::Request& request) {
  if (!request.fault.empty()) return "wrong recovery key (" + request.fault + ")";
  return accepts_passphrase(request) ? "wrong passphrase" : "wrong recovery key";
}

}  // namespace

void add_existing_secret_options(CLI::App& app, SecretOptions& options) {
  add_text(app, "--passphrase-file", "FILE", options.passphrase_file,
           "passphrase: the first line of a file, - for standard input");
  add_text(app, "--key-file", "FILE", options.key_file,
           "raw key: a file of 32 bytes, - for standard input");
  const auto assign = [&options](const CLI::results_t& results) {
    options.key_format = key_format_from(results.front());
    return true;
  };
  app.add_option("--key-format", assign, "how key files are written (default: raw)")
      ->type_name("raw|hex|base64");
  add_recovery_key_file_option(app, options);
}

void add_recovery_key_file_option(CLI::App& app, SecretOptions& options) {
  add_text(app, "--recovery-key-file", "FILE", options.recovery_key_file,
           "recovery key: a file with it, - for a line of standard input");
}

void add_new_secret_options(CLI::App& app, SecretOptions& options) {
  add_text(app, "--new-passphrase-file", "FILE", options.new_passphrase_file, "new passphrase");
  add_text(app, "--new-key-file", "FILE", options.new_key_file, "new raw key");
}

CommandLineSecrets::CommandLineSecrets(const SecretOptions& options, Spelling spelling,
                                       Invocation& invocation)
    : given_{Given{"--passphrase-file", options.passphrase_file, Source::passphrase},
             Given{"--key-file", options.key_file, Source::raw_key},
             Given{.option = "--recovery-key-file",
                   .file = options.recovery_key_file,
                   .recovery_key = true},
             Given{"--new-passphrase-file", options.new_passphrase_file, Source::passphrase},
             Given{"--new-key-file", options.new_key_file, Source::raw_key}},
      key_format_(options.key_format),
      spelling_(spelling),
      invocation_(invocation) {
  require_consistent();
}

void CommandLineSecrets::require_consistent() const {
  for (std::size_t i = 0; i < kSlots; ++i) {
    for (std::size_t j = i + 1; j < kSlots; ++j) {
      const Given& a = given_[i];
      const Given& b = given_[j];
      if (!a.file || !b.file) continue;
      const std::string both = std::string(a.option) + " and " + b.option;
      const bool alike = a.kind == b.kind && a.recovery_key == b.recovery_key;
      if (!alike && *a.file == *b.file && *a.file != "-") {
        throw Error(Errc::usage, both + " name the same file").with_path(*a.file);
      }
      const bool both_new = (spelling_ == Spelling::all_new || i >= kNewPassphrase) &&
                            !a.recovery_key && !b.recovery_key;
      if (both_new) throw Error(Errc::usage, both + " both give the new secret");
    }
  }
}

bool CommandLineSecrets::opens(Slot slot) const {
  return given_[slot].file && (spelling_ != Spelling::existing_and_new || slot < kNewPassphrase);
}

CommandLineSecrets::Given* CommandLineSecrets::given_new(Source kind) {
  const std::size_t first = spelling_ == Spelling::all_new ? kPassphrase : kNewPassphrase;
  for (std::size_t slot = first; slot < kSlots; ++slot) {
    Given& given = given_[slot];
    if (!given.file || given.recovery_key) continue;
    const bool key_wanted = kind == Source::raw_key;
    if (key_wanted != (given.kind == Source::raw_key)) {
      throw Error(Errc::usage, std::string(given.option) + " does not fit: a new " +
                                   (key_wanted ? "raw key" : "passphrase") + " is needed");
    }
    return &given;
  }
  return nullptr;
}

Secret CommandLineSecrets::take(Given& given) {
  if (given.file == "-") {
    // Standard input holds them in the order of the slots, whatever is asked for first.
    for (Given* other = given_.data(); other != &given; ++other) {
      if (other->file == "-" && !other->bytes) other->bytes = read(*other);
    }
  }
  if (!given.bytes) given.bytes = read(given);
  return {given.kind, copy_of(*given.bytes), given.recovery_key};
}

SecretBytes CommandLineSecrets::read(const Given& given) {
  if (given.recovery_key) return read_recovery_key_text(*given.file);
  if (given.kind != Source::raw_key) return read_passphrase(*given.file);
  if (*given.file != "-") return read_key(*given.file);
  SecretFile input("-");
  if (key_format_ != KeyFormat::raw) return decoded_key(input.line(), input.name());
  // Of a pipe exactly the key is read: waiting for its end could be waiting for ever.
  const std::uint64_t size = input.remaining().value_or(kKeySize);
  if (size > kKeySize && last_on_standard_input(given)) {
    refuse_key(input.name(), "has " + std::to_string(size) + " bytes, expected 32");
  }
  return decoded_key(input.bytes(kKeySize), input.name());
}

bool CommandLineSecrets::last_on_standard_input(const Given& given) const {
  return std::none_of(&given + 1, given_.data() + kSlots,
                      [](const Given& other) { return other.file == "-"; });
}

SecretBytes CommandLineSecrets::read_key(const std::string& file) {
  SecretFile input(file);
  const std::optional<std::uint64_t> size = input.remaining();
  if (size > kMaxKeyText) {
    refuse_key(file, "has " + std::to_string(*size) + " bytes, expected 32");
  }
  return decoded_key(input.bytes(kMaxKeyText), file);
}

SecretBytes CommandLineSecrets::decoded_key(const SecretBytes& text, const std::string& file) {
  std::optional<SecretBytes> key = decode_key(text, key_format_);
  if (key) return std::move(*key);
  if (key_format_ != KeyFormat::raw) {
    refuse_key(file, std::string("does not hold 32 bytes as ") + format_name(key_format_));
  }
  refuse_key(file, "has " + std::to_string(text.size()) + " bytes, expected 32");
}

void CommandLineSecrets::refuse_key(const std::string& file, const std::string& problem) {
  invocation_.out.hints.malformed_key_file = key_format_ == KeyFormat::raw;
  throw Error(Errc::usage, "key file " + printable(file) + " " + problem).with_path(file);
}

std::optional<Secret> CommandLineSecrets::existing(const Request& request) {
  throw_if_interrupted();  // hashing may have taken a while
  const bool given = opens(kPassphrase) || opens(kKey) || opens(kRecoveryKey) ||
                     opens(kNewPassphrase) || opens(kNewKey);
  if (given) return next_given(request);
  if (!accepts(request, Source::passphrase)) throw no_raw_key(request);
  if (isatty(STDIN_FILENO) == 0) return line_of_standard_input(request);
  return prompt_existing(request);
}

std::optional<Secret> CommandLineSecrets::hand_out(Slot slot) {
  if (!opens(slot) || std::exchange(given_[slot].handed_out, true)) return std::nullopt;
  return take(given_[slot]);
}

std::optional<Secret> CommandLineSecrets::next_given(const Request& request) {
  // First, since it needs no hashing; and whatever it is to open, for only the record can tell.
  if (opens(kRecoveryKey)) invocation_.out.hints.recovery_key_tried = true;
  if (std::optional<Secret> recovery_key = hand_out(kRecoveryKey)) return recovery_key;
  bool any_fits = opens(kRecoveryKey);
  for (std::size_t i = 0; i < kSlots; ++i) {
    if (!opens(static_cast<Slot>(i)) || !accepts(request, given_[i].kind)) continue;
    any_fits = true;
    if (std::optional<Secret> secret = hand_out(static_cast<Slot>(i))) return secret;
  }
  // For --ensure: a secret of another kind than the directory's is simply not the right one.
  if (any_fits || spelling_ == Spelling::all_new) return std::nullopt;
  const bool key = accepts(request, Source::raw_key);
  throw Error(Errc::missing_input, one_line(request.target) +
                                       (key ? " opens with a raw key: give --key-file"
                                            : " opens with a passphrase: give --passphrase-file"));
}

std::optional<Secret> CommandLineSecrets::line_of_standard_input(const Request& request) {
  if (std::exchange(line_taken_, true)) return std::nullopt;
  if (accepts(request, Source::raw_key) && !accepts_passphrase(request)) {
    // Only for a recovery key; without one it is the key file that was forgotten.
    std::optional<SecretBytes> line = SecretFile("-").next_line();
    if (!line) throw no_raw_key(request);
    return as_passphrase(std::move(*line));
  }
  return as_passphrase(SecretFile("-").line());
}

/// Whoever typed a recovery key need not be told that one is accepted.
Secret CommandLineSecrets::as_passphrase(SecretBytes text) {
  const RecoveryKeyReading reading = read_recovery_key(text.view());
  invocation_.out.hints.recovery_key_tried = reading.key || reading.resembles;
  return {Source::passphrase, std::move(text)};
}

/// What to ask for, of something that is to be opened.
const char* CommandLineSecrets::asked_for(const Request& request) const {
  if (!accepts_passphrase(request)) return "recovery key for ";
  if (!only_login(request)) return "passphrase for ";
  return replaces_login_password_ ? "previous login password for " : "login password for ";
}

std::string CommandLineSecrets::tries_left(int prompts) {
  const int left = kTries - prompts;
  return std::to_string(left) + (left == 1 ? " try left" : " tries left");
}

std::optional<Secret> CommandLineSecrets::prompt_existing(const Request& request) {
  if (std::exchange(prompted_target_, request.target) != request.target) prompts_ = 0;
  if (prompts_ == kTries) return std::nullopt;
  std::optional<Terminal> terminal;
  if (!invocation_.globals.no_prompt) terminal = Terminal::open();
  if (!terminal) {
    throw Error(
        Errc::missing_input,
        accepts_passphrase(request)
            ? "no passphrase for " + one_line(request.target) + ": give --passphrase-file"
            : "no recovery key for " + one_line(request.target) + ": give --recovery-key-file");
  }
  if (prompts_ > 0) terminal->say(wrong(request) + ", " + tries_left(prompts_));
  ++prompts_;
  const std::string prompt = asked_for(request) + one_line(request.target) + ": ";
  return as_passphrase(not_empty(terminal->read_secret(prompt)));
}

Secret CommandLineSecrets::fresh(Source kind, const std::string& target) {
  throw_if_interrupted();
  Given* const given = given_new(kind);
  // Typed, not piped: nobody notices a typing mistake in what is asked for once.
  const bool typed = given != nullptr && given->file == "-" && kind != Source::raw_key &&
                     isatty(STDIN_FILENO) != 0;
  if (given != nullptr && !typed) {
    Secret secret = take(*given);
    secret.kind = kind;
    return secret;
  }
  const bool all_new = spelling_ == Spelling::all_new;
  if (kind == Source::raw_key) {
    throw Error(Errc::missing_input,
                std::string("no new raw key: give ") + (all_new ? "--key-file" : "--new-key-file"));
  }
  return {kind, prompt_fresh(kind, target)};
}

SecretBytes CommandLineSecrets::prompt_fresh(Source kind, const std::string& target) {
  // What makes something new is never taken from a standard input that nobody spoke of.
  std::optional<Terminal> terminal;
  if (!invocation_.globals.no_prompt && isatty(STDIN_FILENO) != 0) terminal = Terminal::open();
  if (!terminal) {
    throw Error(
        Errc::missing_input,
        std::string("no new passphrase: give ") +
            (spelling_ == Spelling::all_new ? "--passphrase-file" : "--new-passphrase-file"));
  }
  const char* const what =
      kind == Source::login ? "present login password, for " : "new passphrase for ";
  const std::string prompt = what + one_line(target) + ": ";
  // It is checked and, if it is wrong, asked for again.
  if (kind == Source::login && login_prompts_++ > 0) {
    terminal->say("this is not the login password, " + tries_left(login_prompts_ - 1));
  }
  for (int i = 0; i < kTries; ++i) {
    SecretBytes secret = terminal->read_secret(prompt);
    if (secret.empty()) {
      terminal->say("a passphrase must not be empty");
      continue;
    }
    // Nothing new for the person: it is checked.
    if (kind == Source::login || equal_secrets(secret, terminal->read_secret("the same again: ")))
      return secret;
    terminal->say("that was not the same");
  }
  throw Error(Errc::usage, "no passphrase was given twice");
}

}  // namespace fscryptctl
