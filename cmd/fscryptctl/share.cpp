#include "fscryptctl/core/share.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "commands.h"
#include "fscryptctl/core/new_file.h"
#include "invocation.h"
#include "report.h"
#include "secret_input.h"
#include "signals.h"
#include "terminal.h"

namespace fscryptctl {
namespace {

/// Where the one-time code goes: a file, standard output, or the terminal.
class CodeOutput {
 public:
  /// Throws missing_input if it could be neither shown nor written, and usage, before anything is
  /// asked.
  CodeOutput(const std::optional<std::string>& option, const Invocation& invocation)
      : to_standard_output_(option == "-") {
    if (option && !to_standard_output_) {
      file_.emplace(*option);
      file_->require_free();
    } else if (to_standard_output_ && invocation.out.json_wanted()) {
      throw Error(Errc::usage,
                  "--json needs standard output for itself: name another --code-output");
    } else if (!option) {
      if (!invocation.globals.no_prompt) terminal_ = Terminal::open();
      if (!terminal_) {
        throw Error(Errc::missing_input,
                    "the code cannot be shown without a terminal: give --code-output");
      }
    }
  }

  /// Throws what writing throws. Until keep() is called, a file goes away again.
  void write(const ShareCode& code) {
    const SecretBytes line = line_of(code);
    if (file_) {
      file_->write(line);
      written_ = true;
    } else if (to_standard_output_) {
      write_to_standard_output(line);
    } else {
      terminal_->say("one-time code, shown only now:");
      terminal_->show(line);
    }
  }

  [[nodiscard]] bool before_share() const noexcept { return file_.has_value(); }
  void keep() noexcept { written_ = false; }

  CodeOutput(const CodeOutput&) = delete;
  CodeOutput& operator=(const CodeOutput&) = delete;
  ~CodeOutput() {
    if (written_) file_->remove();
  }

 private:
  static SecretBytes line_of(const ShareCode& code) {
    const SecretBytes text = write_share_code(code);
    SecretBytes line(text.size() + 1);
    std::copy(text.view().begin(), text.view().end(), line.writable().begin());
    line.writable().back() = '\n';
    return line;
  }

  static void write_to_standard_output(const SecretBytes& line) {
    ByteView rest = line.view();
    while (!rest.empty()) {
      const ssize_t count = ::write(STDOUT_FILENO, rest.data(), rest.size());
      if (count < 0 && errno == EINTR) {
        throw_if_interrupted();
      } else if (count < 0) {
        throw system_error(errno, "standard output");
      } else {
        rest = rest.subspan(static_cast<std::size_t>(count));
      }
    }
  }

  bool to_standard_output_;
  bool written_ = false;
  std::optional<NewFile> file_;
  std::optional<Terminal> terminal_;
};

/// The code and the file are worth something only together: if one fails, none stays.
void write_both(const Context& context, const Share& share, const NewFile& file,
                CodeOutput& code_output) {
  context.throw_if_interrupted();
  if (code_output.before_share()) code_output.write(share.code);
  file.write(emit(share.shared));
  try {
    if (!code_output.before_share()) code_output.write(share.code);
  } catch (...) {
    file.remove();
    throw;
  }
  code_output.keep();
}

}  // namespace

int run_share(Invocation& invocation) {
  CLI::App app("seals the key of an encrypted directory for another user, under a one-time code");
  std::string path;
  std::string file;
  std::optional<std::string> code_file;
  std::optional<std::string> protector;
  SecretOptions secret_options;
  add_text(app, "PATH", "", path, "an encrypted directory")->required();
  add_text(app, "--output", "FILE", file, "the file to make for the other user's accept")
      ->required();
  add_text(app, "--code-output", "FILE", code_file,
           "where the code goes instead of the terminal, - for standard output");
  add_text(app, "--protector", "P", protector, "open with this protector only");
  add_existing_secret_options(app, secret_options);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);

  Context context = invocation.make_context();
  Output& out = invocation.out;
  const NewFile output(file);
  output.require_free();
  CodeOutput code_output(code_file, invocation);
  CommandLineSecrets secrets(secret_options, Spelling::existing_and_new, invocation);
  Opener opener(secrets, context);
  const Share share = make_share(context, path, protector, opener);
  write_both(context, share, output, code_output);
  out.set_changed();
  put_path(out.json(), "path", path);
  put_path(out.json(), "output", file);
  out.json()["key_identifier"] = share.shared.key_identifier.hex();
  if (code_file) put_path(out.json(), "code_output", *code_file);
  out.message("wrote " + printable(file) + " for another user");
  out.note("send the file and the code on different ways: whoever has both can open " +
           printable(path));
  out.note("taking access back needs a new key (reencrypt): the other user keeps this one");
  if (!output.is_private()) out.note("others can read the file where it lies");
  return out.exit_code();
}

}  // namespace fscryptctl
