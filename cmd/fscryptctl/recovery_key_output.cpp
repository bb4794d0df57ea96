#include "recovery_key_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include "fscryptctl/crypto/random.h"
#include "qr_code.h"
#include "secret_file.h"
#include "signals.h"

namespace fscryptctl {
namespace {

// A person who has mistyped it so often has not written it down.
constexpr int kTries = 10;
constexpr mode_t kFileMode = S_IRUSR | S_IWUSR;
// Larger than any file that is written here.
constexpr std::size_t kMaxFileSize = 16 * 1024;

// The first line of a file, before a record relies on its key and after. Equally long: the one is
// written over the other, and no crash then can harm the key further down.
constexpr std::string_view kUnused =
    "# fscryptctl recovery key, NOT IN USE YET (\"fscryptctl recovery verify\" knows better)\n";
constexpr std::string_view kInUse =
    "# fscryptctl recovery key                                                            \n";
static_assert(kUnused.size() == kInUse.size());

std::string_view text_of(const SecretBytes& secret) {
  return {reinterpret_cast<const char*>(secret.view().data()), secret.size()};
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  std::array<char, 16> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d", &utc)};
}

/// What stands above the key. All that comes from elsewhere is printable and of one line.
std::string label_line(const RecoveryKeyKeeper::Label& label) {
  return "of protector \"" + printable(label.protector.name) + "\" (" + label.protector.id.hex() +
         ") on " + printable(label.mount_point) + ", made " + today() + "\n";
}

std::string explanation(const RecoveryKeyKeeper::Label& label) {
  return "# " + label_line(label) + "# for " + printable(label.target) +
         "\n"
         "#\n"
         "# It opens every directory that this protector opens, whatever the passphrase is by\n"
         "# then. So can whoever finds it: keep it apart from the machine, on paper for instance,\n"
         "# and delete this file.\n"
         "#\n"
         "# To use it, type it wherever a passphrase is asked for: in any case, with or without\n"
         "# dashes and spaces; O is read as 0, I and L as 1. Or name this file:\n"
         "#\n"
         "#   fscryptctl unlock DIRECTORY --recovery-key-file FILE\n"
         "#   fscryptctl change-passphrase DIRECTORY --recovery-key-file FILE\n"
         "#   fscryptctl recovery verify DIRECTORY --recovery-key-file FILE\n"
         "\n";
}

SecretBytes joined(std::initializer_list<std::string_view> parts) {
  std::size_t size = 0;
  for (const std::string_view part : parts) size += part.size();
  SecretBytes all(size);
  auto at = all.writable().begin();
  for (const std::string_view part : parts) at = std::copy(part.begin(), part.end(), at);
  return all;
}

SecretBytes file_contents(const RecoveryKey& key, const RecoveryKeyKeeper::Label& label,
                          bool with_qr_code) {
  const SecretBytes text = write_recovery_key(key);
  SecretBytes code;
  if (with_qr_code) code = qr_code(text.view(), QrStyle::paper);
  return joined(
      {kUnused, explanation(label), text_of(text), "\n", with_qr_code ? "\n" : "", text_of(code)});
}

Error cannot_write(int problem, const std::string& file) {
  if (problem == EEXIST) {
    return Error(Errc::usage, printable(file) + " exists already, and is not overwritten")
        .with_path(file);
  }
  return system_error(problem, "writing " + printable(file)).with_path(file);
}

void write_at(int fd, std::string_view text, off_t at, const std::string& file) {
  while (!text.empty()) {
    const ssize_t written = pwrite(fd, text.data(), text.size(), at);
    if (written < 0 && errno == EINTR) {
      throw_if_interrupted();
      continue;
    }
    if (written < 0) throw cannot_write(errno, file);
    text.remove_prefix(static_cast<std::size_t>(written));
    at += written;
  }
}

void sync(int fd, const std::string& file) {
  if (fsync(fd) != 0) throw cannot_write(errno, file);
}

/// The directory that a file is, or will be, in. Sets errno.
UniqueFd open_parent(const std::string& file) {
  const std::size_t slash = file.find_last_of('/');
  std::string parent = ".";
  if (slash != std::string::npos) parent = file.substr(0, std::max<std::size_t>(slash, 1));
  return UniqueFd(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

std::string name_of(const std::string& file) {
  const std::size_t slash = file.find_last_of('/');
  std::string name = slash == std::string::npos ? file : file.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    throw Error(Errc::usage, printable(file) + " is not the name of a file").with_path(file);
  }
  return name;
}

/// Nobody but this user can have written or read it.
bool is_private(int fd) {
  const FileInfo info = file_info(fd);
  return S_ISREG(info.mode) && info.uid == geteuid() && info.links == 1 &&
         (info.mode & (S_IRWXG | S_IRWXO)) == 0 && info.size <= kMaxFileSize;
}

}  // namespace

void add_recovery_key_options(CLI::App& app, RecoveryKeyOptions& options) {
  add_text(app, "--recovery-key-output", "FILE", options.output,
           "make a recovery key and write it here, - for standard output");
  app.add_flag("--no-recovery-key", options.none, "make no recovery key and do not offer one");
}

RecoveryKeyOutput::RecoveryKeyOutput(const RecoveryKeyOptions& options, Wish wish,
                                     Invocation& invocation)
    : options_(options), wish_(wish), invocation_(invocation) {
  if (options_.none && options_.output) {
    throw Error(Errc::usage, "--recovery-key-output and --no-recovery-key contradict each other");
  }
  if (to_file()) static_cast<void>(name_of(*options_.output));
  if (options_.qr_code) require_qr_codes();
  if (wish_ != Wish::required) return;
  if (!options_.output && !terminal()) {
    throw Error(Errc::missing_input,
                "no terminal to show the recovery key on: say with --output where it goes");
  }
  // Before anybody is asked for anything.
  if (to_file() && !left_over()) require_free_name();
}

RecoveryKeyOutput::~RecoveryKeyOutput() {
  if (in_use_) return;
  if (on_standard_output_) invocation_.out.forget_secret();
  remove_file();
}

void RecoveryKeyOutput::require_free_name() const {
  struct stat info {};
  if (lstat(options_.output->c_str(), &info) == 0) throw cannot_write(EEXIST, *options_.output);
}

/// What is printed on a terminal is there for a person, who is made to type it again.
bool RecoveryKeyOutput::to_standard_output() const {
  if (options_.output != "-") return false;
  return invocation_.out.json_wanted() || isatty(STDOUT_FILENO) == 0 || !terminal();
}

std::optional<Terminal> RecoveryKeyOutput::terminal() const {
  if (invocation_.globals.no_prompt) return std::nullopt;
  return Terminal::open();
}

std::optional<RecoveryKey> RecoveryKeyOutput::keep(const Label& label) {
  if (options_.none) return std::nullopt;
  if (to_file()) {
    if (std::optional<RecoveryKey> left = left_over()) {
      add_label(label);
      return left;
    }
    RecoveryKey key = random_key<RecoveryKey>();
    write_file(key, label);
    return key;
  }
  if (to_standard_output()) {
    RecoveryKey key = random_key<RecoveryKey>();
    invocation_.out.secret("recovery_key", write_recovery_key(key));
    on_standard_output_ = true;
    return key;
  }
  std::optional<Terminal> screen = terminal();
  const bool offered = wish_ == Wish::offered && !options_.output;
  // A script may have a terminal behind it, but nobody who waits for its questions.
  if (!screen || (offered && isatty(STDIN_FILENO) == 0)) return std::nullopt;
  const std::string secret = label.protector.source == Source::raw_key ? "key file" : "passphrase";
  if (offered && !screen->ask("make a recovery key, in case the " + secret + " is lost?")) {
    return std::nullopt;
  }
  RecoveryKey key = random_key<RecoveryKey>();
  show(*screen, key, label);
  have_typed_again(*screen, key);
  return key;
}

void RecoveryKeyOutput::show(Terminal& terminal, const RecoveryKey& key, const Label& label) const {
  const SecretBytes text = write_recovery_key(key);
  terminal.say("the recovery key of protector \"" + printable(label.protector.name) + "\":");
  terminal.say("");
  terminal.show(joined({"  ", text_of(text), "\n\n"}));
  if (options_.qr_code) {
    terminal.show(qr_code(text.view(), QrStyle::terminal));
    terminal.say("");
  }
  terminal.say("write it down and keep it apart from this machine: whoever has it can read the");
  terminal.say("files, and it is not shown again");
}

void RecoveryKeyOutput::have_typed_again(Terminal& terminal, const RecoveryKey& key) const {
  for (int i = 0; i < kTries; ++i) {
    const SecretBytes typed = terminal.read_shown("type it from what you wrote down: ");
    const std::string fault = fault_of_copy(key, typed.view());
    if (fault.empty()) return;
    terminal.say("not the same: " + fault);
  }
  throw Error(Errc::usage, "the recovery key was not typed as shown");
}

void RecoveryKeyOutput::write_file(const RecoveryKey& key, const Label& label) {
  const std::string& file = *options_.output;
  directory_ = open_parent(file);
  if (!directory_) throw cannot_write(errno, file);
  name_ = name_of(file);
  file_ = UniqueFd(openat(directory_.get(), name_.c_str(),
                          O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kFileMode));
  if (!file_) throw cannot_write(errno, file);
  made_file_ = true;
  // The file creation mask may have taken permissions away.
  if (fchmod(file_.get(), kFileMode) != 0 && errno != EPERM) throw cannot_write(errno, file);
  write_at(file_.get(), text_of(file_contents(key, label, options_.qr_code)), 0, file);
  sync(file_.get(), file);
  sync(directory_.get(), file);
  throw_if_interrupted();
  if (file_info(file_.get()).encrypted) {
    invocation_.out.note(printable(file) +
                         " lies in an encrypted directory: who cannot unlock that cannot read it");
  }
}

std::optional<RecoveryKey> RecoveryKeyOutput::left_over() {
  if (!to_file()) return std::nullopt;
  const std::string& file = *options_.output;
  UniqueFd directory = open_parent(file);
  if (!directory) return std::nullopt;
  std::string name = name_of(file);
  UniqueFd fd(openat(directory.get(), name.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd || !is_private(fd.get())) return std::nullopt;
  SecretBytes contents(kMaxFileSize);
  const ssize_t size = pread(fd.get(), contents.writable().data(), contents.size(), 0);
  // An empty one was left by a run that was killed as soon as it had made it.
  if (size == 0) unlinkat(directory.get(), name.c_str(), 0);
  if (size <= 0) return std::nullopt;
  contents.truncate(static_cast<std::size_t>(size));
  if (!text_of(contents).starts_with(kUnused)) return std::nullopt;
  RecoveryKeyReading reading = read_recovery_key(without_comments(contents).view());
  if (!reading.key) return std::nullopt;
  directory_ = std::move(directory);
  name_ = std::move(name);
  file_ = std::move(fd);
  left_ = std::move(contents);
  // That run may have been killed before this.
  sync(file_.get(), file);
  sync(directory_.get(), file);
  return std::move(reading.key);
}

/// That run may have been about another protector, which the key may open: what it wrote stays.
void RecoveryKeyOutput::add_label(const Label& label) {
  if (text_of(left_).find(label.protector.id.hex()) != std::string_view::npos) return;
  write_at(file_.get(), "# also " + label_line(label), static_cast<off_t>(left_.size()),
           *options_.output);
  sync(file_.get(), *options_.output);
}

void RecoveryKeyOutput::finish() {
  if (!file_) return;
  const std::string& file = *options_.output;
  // The key is safe in any case: a first line that stays as it was is no reason to fail.
  try {
    write_at(file_.get(), kInUse, 0, file);
    sync(file_.get(), file);
  } catch (const Error& error) {
    invocation_.out.note("the recovery key is in use, but " + printable(file) +
                         " still says that it is not: " + error.what());
  }
}

/// Only if the name still leads to it.
void RecoveryKeyOutput::remove_file() noexcept {
  if (!made_file_) return;
  struct stat ours {};
  struct stat named {};
  if (fstat(file_.get(), &ours) != 0 ||
      fstatat(directory_.get(), name_.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0 ||
      ours.st_ino != named.st_ino || ours.st_dev != named.st_dev) {
    return;
  }
  if (unlinkat(directory_.get(), name_.c_str(), 0) == 0) (void)fsync(directory_.get());
}

}  // namespace fscryptctl
