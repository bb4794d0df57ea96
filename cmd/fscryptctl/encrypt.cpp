#include "fscryptctl/core/encrypt.h"

#include <bit>

#include "admin.h"
#include "commands.h"
#include "fscryptctl/core/status.h"
#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "report.h"
#include "secret_input.h"

namespace fscryptctl {
namespace {

/// The options as typed; checked and combined after parsing.
struct Typed {
  std::optional<std::string> source;
  std::optional<std::string> contents;
  std::optional<std::string> filenames;
  std::optional<unsigned> padding;
  std::optional<unsigned> data_unit_size;
  bool direct_key = false;
  bool iv_ino_lblk_64 = false;
  bool iv_ino_lblk_32 = false;
  std::optional<std::string> mode;
  bool no_recovery_key = false;
};

/// A contents mode alone brings the filenames mode that the kernel pairs it with.
Mode partner_of_contents(Mode contents) {
  switch (contents) {
    case Mode::aes_128_cbc:
      return Mode::aes_128_cts;
    case Mode::sm4_xts:
      return Mode::sm4_cts;
    case Mode::adiantum:
      return Mode::adiantum;
    default:
      return Mode::aes_256_cts;
  }
}

Mode partner_of_filenames(Mode filenames) {
  switch (filenames) {
    case Mode::aes_128_cts:
      return Mode::aes_128_cbc;
    case Mode::sm4_cts:
      return Mode::sm4_xts;
    case Mode::adiantum:
      return Mode::adiantum;
    default:
      return Mode::aes_256_xts;
  }
}

void choose_modes(const Typed& typed, EncryptionOptions& options) {
  std::optional<Mode> contents;
  std::optional<Mode> filenames;
  if (typed.contents) {
    contents = contents_mode_from_name(*typed.contents);
    if (!contents) {
      throw Error(Errc::usage, "invalid contents mode: " + printable(*typed.contents));
    }
  }
  if (typed.filenames) {
    filenames = filenames_mode_from_name(*typed.filenames);
    if (!filenames) {
      throw Error(Errc::usage, "invalid filenames mode: " + printable(*typed.filenames));
    }
  }
  if (!contents && !filenames) return;
  options.contents = contents ? *contents : partner_of_filenames(*filenames);
  options.filenames = filenames ? *filenames : partner_of_contents(*contents);
}

void choose_data_unit(const Typed& typed, EncryptionOptions& options) {
  if (!typed.data_unit_size) return;
  if (!std::has_single_bit(*typed.data_unit_size)) {
    throw Error(Errc::usage, "invalid data unit size: " + std::to_string(*typed.data_unit_size));
  }
  options.log2_data_unit_size = static_cast<unsigned>(std::countr_zero(*typed.data_unit_size));
}

std::optional<mode_t> parse_permissions(const std::string& text) {
  if (text == "keep") return std::nullopt;
  const bool octal =
      !text.empty() && text.size() <= 4 && text.find_first_not_of("01234567") == std::string::npos;
  if (!octal) {
    throw Error(Errc::usage, "invalid mode: " + printable(text) + " (octal, or keep)");
  }
  return static_cast<mode_t>(std::stoul(text, nullptr, 8));
}

void apply(const Typed& typed, EncryptRequest& request) {
  if (typed.source) request.source = parse_new_source(*typed.source);
  choose_modes(typed, request.options);
  choose_data_unit(typed, request.options);
  if (typed.padding) request.options.padding_bytes = *typed.padding;
  request.options.direct_key |= typed.direct_key;
  request.options.iv_ino_lblk_64 |= typed.iv_ino_lblk_64;
  request.options.iv_ino_lblk_32 |= typed.iv_ino_lblk_32;
  request.options_given = typed.contents || typed.filenames || typed.padding ||
                          typed.data_unit_size || typed.direct_key || typed.iv_ino_lblk_64 ||
                          typed.iv_ino_lblk_32;
  if (typed.mode) {
    request.mode = parse_permissions(*typed.mode);
    request.keep_mode = !request.mode;
  }
}

void add_options(CLI::App& app, EncryptRequest& request, Typed& typed) {
  add_text(app, "DIRECTORY", "", request.path, "an empty directory")->required();
  app.add_flag("--create", request.create, "make the directory, for its user alone");
  app.add_flag("--ensure", request.ensure,
               "succeed if it is encrypted so already and the secret opens it");
  add_text(app, "--source", "KIND", typed.source,
           "what opens it: passphrase (default), raw-key or login");
  add_text(app, "--name", "NAME", request.name, "of the new protector; default: the directory's");
  add_text(app, "--protector", "P", request.protectors,
           "use this existing protector (NAME, id, or MOUNTPOINT:NAME)");
  add_text(app, "--policy", "PATH|KEYID", request.policy,
           "use the key of another directory, so that files can be moved between the two");
  add_text(app, "--contents", "MODE", typed.contents, "cipher for contents (AES-256-XTS)");
  add_text(app, "--filenames", "MODE", typed.filenames, "cipher for names (AES-256-CTS)");
  add_number(app, "--padding", "N", typed.padding, "pad names to 4, 8, 16 or 32 bytes (32)");
  add_number(app, "--data-unit-size", "N", typed.data_unit_size,
             "bytes encrypted at once (the filesystem's block size)");
  app.add_flag("--direct-key", typed.direct_key, "with Adiantum: no key for each file");
  app.add_flag("--iv-ino-lblk-64", typed.iv_ino_lblk_64, "for inline encryption (UFS)");
  app.add_flag("--iv-ino-lblk-32", typed.iv_ino_lblk_32, "for inline encryption (eMMC)");
  add_text(app, "--mode", "OCTAL|keep", typed.mode, "permissions of the directory");
  app.add_flag("--no-unlock", request.leave_locked, "leave it locked");
  app.add_flag("--no-recovery-key", typed.no_recovery_key, "make no recovery key (none is made)");
}

std::string secret_of(Source source) {
  switch (source) {
    case Source::raw_key:
      return "key file";
    case Source::login:
      return "login password";
    case Source::passphrase:
      break;
  }
  return "passphrase";
}

void report(Invocation& invocation, Context& context, const EncryptRequest& request,
            const EncryptResult& result) {
  Output& out = invocation.out;
  if (out.json_wanted()) {
    const PathStatus status = path_status(context, request.path, true);
    out.json().update(json_of(*status.directory));
    out.json()["key_identifier"] = result.key_identifier.hex();
    put_key(out.json(), result.key);
  }
  const std::string path = printable(request.path);
  if (!result.changed) return out.message(path + " is encrypted already");
  std::string state = result.key.state == KeyState::absent ? "locked" : "unlocked";
  if (result.only_owner_enters) {
    state += "; only " + printable(user_name(result.user.uid)) + " can enter";
  }
  out.message("encrypted " + path + " (" + state + ")");
  out.note("without the " + secret_of(result.protectors.front().source) +
           " nobody can read these files; there is no recovery key and no backup yet");
  if (result.login_copied) {
    const std::string mount =
        printable(filesystem_of_path(context, request.path).mount().mount_point);
    out.note("whoever has the disk of " + mount + " can now try to guess the login password");
  }
}

/// A login password can be changed by others, on a server or by root, and whoever then does not
/// remember the previous one needs another way in. The one place where it is decided whether a
/// recovery key is made with a login protector.
void require_recovery_key_decision(const EncryptRequest& request, const Typed& typed) {
  if (request.source != Source::login || typed.no_recovery_key) return;
  throw Error(Errc::usage,
              "a directory that opens with the login password needs a decision about a recovery "
              "key: give --no-recovery-key");
}

}  // namespace

int run_encrypt(Invocation& invocation) {
  CLI::App app("encrypts an empty directory");
  EncryptRequest request;
  Typed typed;
  SecretOptions secret_options;
  add_options(app, request, typed);
  add_existing_secret_options(app, secret_options);
  add_new_secret_options(app, secret_options);
  invocation.add_mount_option(app);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);

  Context context = invocation.make_context();
  request.options = context.config().encryption;
  apply(typed, request);
  if (invocation.globals.mount) {
    for (std::string& name : request.protectors) name.insert(0, *invocation.globals.mount + ":");
  }
  const bool only_new = request.protectors.empty() && !request.policy;
  if (!request.source && only_new && (secret_options.key_file || secret_options.new_key_file)) {
    request.source = Source::raw_key;
  }
  if (!request.source && (only_new || request.name)) request.source = context.config().source;
  require_recovery_key_decision(request, typed);
  CommandLineSecrets secrets(secret_options,
                             only_new ? Spelling::all_new : Spelling::existing_and_new, invocation);
  const EncryptResult result = encrypt_directory(context, request, secrets);
  if (result.changed) invocation.out.set_changed();
  report(invocation, context, request, result);
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
