#include "encrypt_options.h"

#include <unistd.h>

#include <bit>

#include "admin.h"
#include "arguments.h"
#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

using Typed = NewPolicyOptions::Typed;

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

/// A login password can be changed by others, on a server or by root, and whoever then does not
/// remember the previous one needs another way in: a recovery key is made unless it is declined,
/// and off a terminal that has to be said.
RecoveryKeyOutput::Wish recovery_key_wish(const Invocation& invocation,
                                          const EncryptRequest& request,
                                          const RecoveryKeyOptions& options) {
  if (request.source != Source::login || options.none) return RecoveryKeyOutput::Wish::offered;
  const bool off_terminal = invocation.globals.no_prompt || ::isatty(STDIN_FILENO) == 0;
  if (!options.output && off_terminal) {
    throw Error(Errc::usage,
                "with the login password goes a recovery key: give --recovery-key-output FILE or "
                "--no-recovery-key");
  }
  return RecoveryKeyOutput::Wish::required;
}

/// Options that would do nothing, and what may look like the option for a new key.
void check_recovery_options(const EncryptRequest& request, const RecoveryKeyOptions& options,
                            const SecretOptions& secrets, bool only_new) {
  const bool makes_protector = only_new || request.source || request.name;
  if (options.output && !makes_protector) {
    throw Error(
        Errc::usage,
        "no protector is made that could get a recovery key: see fscryptctl recovery create");
  }
  if (secrets.recovery_key_file && only_new && !request.ensure) {
    throw Error(
        Errc::usage,
        "--recovery-key-file opens what exists; --recovery-key-output makes a recovery key");
  }
}

}  // namespace

void add_new_policy_options(CLI::App& app, NewPolicyOptions& options) {
  EncryptRequest& request = options.request;
  NewPolicyOptions::Typed& typed = options.typed;
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
  add_existing_secret_options(app, options.secrets);
  add_new_secret_options(app, options.secrets);
  add_recovery_key_options(app, options.recovery);
}

bool settle(NewPolicyOptions& options, Invocation& invocation, Context& context) {
  EncryptRequest& request = options.request;
  request.options = context.config().encryption;
  apply(options.typed, request);
  if (invocation.globals.mount) {
    for (std::string& name : request.protectors) name.insert(0, *invocation.globals.mount + ":");
  }
  const bool only_new = request.protectors.empty() && !request.policy;
  const SecretOptions& secrets = options.secrets;
  if (!request.source && only_new && (secrets.key_file || secrets.new_key_file)) {
    request.source = Source::raw_key;
  }
  if (!request.source && (only_new || request.name)) request.source = context.config().source;
  return only_new;
}

RecoveryKeyOutput recovery_key_output(const NewPolicyOptions& options, bool only_new,
                                      Invocation& invocation) {
  check_recovery_options(options.request, options.recovery, options.secrets, only_new);
  return {options.recovery, recovery_key_wish(invocation, options.request, options.recovery),
          invocation};
}

}  // namespace fscryptctl
