// google/fscryptctl's commands, for scripts that were written for it. What they say and how they
// fail is that program's contract, not this one's: see low_level_call.h.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "commands.h"
#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/kernel/hardware_keys.h"
#include "fscryptctl/kernel/linux_kernel.h"
#include "fscryptctl/kernel/raw_policy.h"
#include "low_level_call.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kMaxRawKeySize = 64;
constexpr std::array kPaddings = {4, 8, 16, 32};  // by their number in the policy's flags
constexpr unsigned kPaddingMask = 3;

struct FlagName {
  unsigned flag;
  const char* name;
};
constexpr std::array kFlagNames = {FlagName{0x04, "DIRECT_KEY"}, FlagName{0x08, "IV_INO_LBLK_64"},
                                   FlagName{0x10, "IV_INO_LBLK_32"}};
constexpr std::uint8_t kDirectKey = 0x04;
constexpr std::uint8_t kIvInoLblk64 = 0x08;
constexpr std::uint8_t kIvInoLblk32 = 0x10;

std::string text_of(int sys_errno) { return std::generic_category().message(sys_errno); }

std::string fscrypt_error(int sys_errno) {
  switch (sys_errno) {
    case ENOTTY:
      return "your kernel is too old to support filesystem encryption, or the filesystem you are "
             "using does not support encryption";
    case EOPNOTSUPP:
      return "filesystem encryption has been disabled in the kernel config, or you need to enable "
             "encryption on your filesystem (see the README for more detailed instructions).";
    default:
      return text_of(sys_errno);
  }
}

std::string get_policy_error(int sys_errno) {
  switch (sys_errno) {
    case ENODATA:
      return "file or directory not encrypted";
    case EINVAL:
    case EOVERFLOW:
      return "file or directory uses an unrecognized encryption policy version";
    default:
      return fscrypt_error(sys_errno);
  }
}

std::string set_policy_error(int sys_errno) {
  switch (sys_errno) {
    case EEXIST:
      return "file or directory already encrypted";
    case EINVAL:
      return "invalid encryption options provided";
    default:
      return fscrypt_error(sys_errno);
  }
}

std::string key_error(const Error& error) {
  // What is not the kernel's answer, and what it could not say: the filesystem does encrypt, only
  // not with hardware-wrapped keys.
  const bool own_words = error.sys_errno() == 0 ||
                         (error.code() == Errc::filesystem && error.sys_errno() == EOPNOTSUPP);
  return own_words ? error.what() : fscrypt_error(error.sys_errno());
}

/// Calls `work`; its failure becomes "WHAT: " and what `describe` makes of the Error.
template <class Work, class Describe>
auto described(const std::string& what, Work work, Describe describe) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    throw Error(error.code(), what + ": " + describe(error), error.sys_errno());
  }
}

/// For anything that the kernel can answer for. O_NONBLOCK: a FIFO must not wait for its writer.
UniqueFd open_path(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd) throw Error(Errc::io, "opening " + path + ": " + text_of(errno), errno);
  return fd;
}

KeyIdentifier parse_identifier(const std::string& text) {
  std::string hex = text;
  std::transform(hex.begin(), hex.end(), hex.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto identifier = KeyIdentifier::from_hex(hex);
  if (!identifier) throw Error(Errc::usage, "invalid key identifier: " + text);
  return *identifier;
}

/// The leading number, as atoi has it: what follows is ignored, 0 if there is none.
long leading_number(std::string_view text) {
  return std::strtol(std::string(text).c_str(), nullptr, 10);
}

std::uint8_t parse_mode(std::string_view name, const char* kind) {
  // Any mode for either use: whether the pair works is the kernel's answer.
  std::optional<Mode> mode = contents_mode_from_name(name);
  if (!mode) mode = filenames_mode_from_name(name);
  if (!mode) {
    throw Error(Errc::usage, std::string("invalid ") + kind + " mode: " + std::string(name));
  }
  return static_cast<std::uint8_t>(*mode);
}

std::uint8_t parse_padding(std::string_view text) {
  const auto* const found = std::find(kPaddings.begin(), kPaddings.end(), leading_number(text));
  if (found == kPaddings.end()) {
    throw Error(Errc::usage, "invalid padding: " + std::string(text));
  }
  return static_cast<std::uint8_t>(found - kPaddings.begin());
}

std::uint8_t parse_data_unit_size(std::string_view text) {
  const long size = leading_number(text);
  for (std::uint8_t bits = 1; bits < 31; ++bits) {
    if (size == 1L << bits) return bits;
  }
  throw Error(Errc::usage, "invalid data unit size: " + std::string(text));
}

void add_key(const std::string& mountpoint, KeyForm form) {
  const SecretBytes key =
      read_key_bytes(form == KeyForm::raw ? kMaxRawKeySize : kMaxHardwareKeySize);
  const UniqueFd fd = open_path(mountpoint);
  LinuxKernel kernel;
  const auto add = [&] { return kernel.add_key(fd.get(), key, form); };
  print_lines({described("adding key to " + mountpoint, add, key_error).hex()});
}

void remove_key(const std::vector<std::string>& operands, RemoveScope scope) {
  const KeyIdentifier key = parse_identifier(operands[0]);
  const UniqueFd fd = open_path(operands[1]);
  LinuxKernel kernel;
  const auto remove = [&] { return kernel.remove_key(fd.get(), key, scope); };
  switch (described("removing key", remove, key_error)) {
    case RemoveOutcome::removed:
      return;
    case RemoveOutcome::other_users:
      return print_lines({"warning: other users still have this key added"});
    case RemoveOutcome::files_busy:
      return print_lines({"warning: some files using this key are still in-use"});
    case RemoveOutcome::absent:
      throw Error(Errc::no_such_policy, "removing key: " + text_of(ENOKEY), ENOKEY);
  }
}

std::string status_text(const KeyStatus& status) {
  switch (status.state) {
    case KeyState::absent:
      return "Absent";
    case KeyState::incompletely_removed:
      return "Incompletely removed";
    case KeyState::present:
      break;
  }
  if (status.user_count == 0 && !status.added_by_self) return "Present";
  return "Present (user_count=" + std::to_string(status.user_count) +
         (status.added_by_self ? ", added_by_self)" : ")");
}

void key_status(const std::vector<std::string>& operands) {
  const KeyIdentifier key = parse_identifier(operands[0]);
  const UniqueFd fd = open_path(operands[1]);
  LinuxKernel kernel;
  const auto ask = [&] { return kernel.key_status(fd.get(), key); };
  print_lines({status_text(described("getting key status", ask, key_error))});
}

std::string mode_text(std::uint8_t number) {
  std::optional<Mode> mode = contents_mode_from_number(number);
  if (!mode) mode = filenames_mode_from_number(number);
  return mode ? std::string(mode_name(*mode)) : "Unknown (" + std::to_string(number) + ")";
}

std::string flags_text(unsigned flags) {
  std::string text = "PAD_" + std::to_string(kPaddings.at(flags & kPaddingMask));
  flags &= ~kPaddingMask;
  for (const FlagName& entry : kFlagNames) {
    if ((flags & entry.flag) != 0) text += std::string(", ") + entry.name;
    flags &= ~entry.flag;
  }
  if (flags == 0) return text;
  return text + ", Unknown (" + to_hex(std::array{static_cast<std::uint8_t>(flags)}) + ")";
}

std::vector<std::string> policy_lines(const RawPolicy& policy) {
  std::vector<std::string> lines = {"\tPolicy version: " + std::to_string(policy.version)};
  if (policy.key.empty()) return lines;  // a version newer than this program
  lines.push_back(
      (policy.version == 1 ? "\tMaster key descriptor: " : "\tMaster key identifier: ") +
      to_hex(policy.key));
  lines.push_back("\tContents encryption mode: " + mode_text(policy.contents_mode));
  lines.push_back("\tFilenames encryption mode: " + mode_text(policy.filenames_mode));
  lines.push_back("\tFlags: " + flags_text(policy.flags));
  if (policy.version == 1) return lines;
  const unsigned bits = policy.log2_data_unit_size;
  lines.push_back("\tData unit size: " +
                  (bits == 0 ? "default" : std::to_string(1ULL << (bits & 63))));
  return lines;
}

void get_policy(const std::string& path) {
  const UniqueFd fd = open_path(path);
  const RawPolicy policy = described(
      "getting policy for " + path, [&] { return read_raw_policy(fd.get()); },
      [](const Error& error) { return get_policy_error(error.sys_errno()); });
  std::vector<std::string> lines = policy_lines(policy);
  lines.insert(lines.begin(), "Encryption policy for " + path + ":");
  print_lines(lines);
}

void set_policy(const std::vector<std::string>& operands, RawPolicy policy) {
  const KeyIdentifier key = parse_identifier(operands[0]);
  policy.key.assign(key.bytes.begin(), key.bytes.end());
  const UniqueFd fd = open_path(operands[1]);
  described(
      "setting policy for " + operands[1], [&] { set_raw_policy(fd.get(), policy); },
      [](const Error& error) { return set_policy_error(error.sys_errno()); });
}

std::vector<LowLevelOption> set_policy_options(RawPolicy& policy) {
  const auto flag = [&policy](std::uint8_t value) {
    return [&policy, value](std::string_view) {
      if (value == kIvInoLblk32) {
        print_lines({"warning: --iv-ino-lblk-32 should normally not be used"});
      }
      policy.flags = static_cast<std::uint8_t>(policy.flags | value);
    };
  };
  return {
      {"contents", "MODE", "cipher for contents (AES-256-XTS)",
       [&](std::string_view value) { policy.contents_mode = parse_mode(value, "contents"); }},
      {"filenames", "MODE", "cipher for names (AES-256-CTS)",
       [&](std::string_view value) { policy.filenames_mode = parse_mode(value, "filenames"); }},
      {"padding", "N", "pad names to 4, 8, 16 or 32 bytes (32)",
       [&](std::string_view value) {
         policy.flags =
             static_cast<std::uint8_t>((policy.flags & ~kPaddingMask) | parse_padding(value));
       }},
      {"direct-key", nullptr, "with Adiantum: no key for each file", flag(kDirectKey)},
      {"iv-ino-lblk-64", nullptr, "for inline encryption (UFS)", flag(kIvInoLblk64)},
      {"iv-ino-lblk-32", nullptr, "for inline encryption (eMMC)", flag(kIvInoLblk32)},
      {"data-unit-size", "N", "bytes encrypted at once (the filesystem's block size)",
       [&](std::string_view value) { policy.log2_data_unit_size = parse_data_unit_size(value); }},
  };
}

RawPolicy default_policy() {
  RawPolicy policy;
  policy.contents_mode = static_cast<std::uint8_t>(Mode::aes_256_xts);
  policy.filenames_mode = static_cast<std::uint8_t>(Mode::aes_256_cts);
  policy.flags = kPaddings.size() - 1;  // the longest, which tells least of a name's length
  return policy;
}

/// The three commands that ask a block device for a key differ in this call only. `longest` is how
/// much of one they read, 0 for nothing.
int run_hardware_key(int argc, char** argv, const char* summary, const char* doing,
                     std::size_t longest,
                     const std::function<SecretBytes(int device_fd, const SecretBytes&)>& call) {
  const auto work = [&](const std::vector<std::string>& operands) {
    const SecretBytes given = longest == 0 ? SecretBytes() : read_key_bytes(longest);
    const UniqueFd fd = open_path(operands[0]);
    const SecretBytes key = described(
        std::string(doing) + " hardware-wrapped key", [&] { return call(fd.get(), given); },
        [](const Error& error) { return std::string(error.what()); });
    print_bytes(key.view());
  };
  return run_low_level({summary, "BLOCK_DEVICE", 1, "must specify a single block device", {}, work},
                       argc, argv);
}

}  // namespace

int run_add_key(int argc, char** argv) {
  KeyForm form = KeyForm::raw;
  const LowLevelOption wrapped{"hw-wrapped-key", nullptr,
                               "the key is hardware-wrapped, made by prepare_hw_wrapped_key",
                               [&](std::string_view) { form = KeyForm::hardware_wrapped; }};
  const auto work = [&](const std::vector<std::string>& operands) { add_key(operands[0], form); };
  return run_low_level({"adds the raw key on standard input to a filesystem, prints its identifier",
                        "MOUNTPOINT",
                        1,
                        "must specify a single mountpoint",
                        {wrapped},
                        work},
                       argc, argv);
}

int run_remove_key(int argc, char** argv) {
  RemoveScope scope = RemoveScope::own_claim;
  const LowLevelOption all_users{"all-users", nullptr, "for all users at once (root only)",
                                 [&](std::string_view) { scope = RemoveScope::all_users; }};
  return run_low_level(
      {"removes a key from a filesystem",
       "KEY_IDENTIFIER MOUNTPOINT",
       2,
       "must specify a key identifier and a mountpoint",
       {all_users},
       [&](const std::vector<std::string>& operands) { remove_key(operands, scope); }},
      argc, argv);
}

int run_key_status(int argc, char** argv) {
  return run_low_level({"shows whether a key is present on a filesystem",
                        "KEY_IDENTIFIER MOUNTPOINT",
                        2,
                        "must specify a key identifier and a mountpoint",
                        {},
                        key_status},
                       argc, argv);
}

int run_get_policy(int argc, char** argv) {
  const auto work = [](const std::vector<std::string>& operands) { get_policy(operands[0]); };
  return run_low_level({"shows the encryption policy of a file or directory",
                        "PATH",
                        1,
                        "must specify a single file or directory",
                        {},
                        work},
                       argc, argv);
}

int run_set_policy(int argc, char** argv) {
  RawPolicy policy = default_policy();
  return run_low_level(
      {"encrypts an empty directory with a key that was added", "KEY_IDENTIFIER DIRECTORY", 2,
       "must specify a key and a directory", set_policy_options(policy),
       [&](const std::vector<std::string>& operands) { set_policy(operands, policy); }},
      argc, argv);
}

int run_import_hw_wrapped_key(int argc, char** argv) {
  return run_hardware_key(
      argc, argv, "wraps the raw key on standard input for a device's hardware, for keeping",
      "importing", kMaxRawKeySize, import_hardware_key);
}

int run_generate_hw_wrapped_key(int argc, char** argv) {
  return run_hardware_key(
      argc, argv, "has a device's hardware make a wrapped key, for keeping", "generating", 0,
      [](int device_fd, const SecretBytes&) { return generate_hardware_key(device_fd); });
}

int run_prepare_hw_wrapped_key(int argc, char** argv) {
  return run_hardware_key(
      argc, argv, "makes the kept key on standard input ready for add_key, until the next boot",
      "preparing", kMaxHardwareKeySize, prepare_hardware_key);
}

}  // namespace fscryptctl
