#include "fscryptctl/base/error.h"

#include <cerrno>
#include <csignal>
#include <cstring>

#include "fscryptctl/base/bytes.h"

namespace fscryptctl {
namespace {

Errc errc_of(int sys_errno) noexcept {
  switch (sys_errno) {
    case ENOSPC:
    case EDQUOT:
      return Errc::no_space;
    case EACCES:
    case EPERM:
      return Errc::permission;
    case ENOENT:
      return Errc::no_such_path;
    case ENOTDIR:
      return Errc::not_a_directory;
    default:
      return Errc::io;
  }
}

std::string describe(int sys_errno) {
  // Unlike strerror: no shared buffer, and the same text in every locale.
  const char* description = strerrordesc_np(sys_errno);
  return description != nullptr ? description : "error " + std::to_string(sys_errno);
}

struct Range {
  char32_t first;
  char32_t last;
};

/// Characters that a terminal acts on or that hide, reorder or imitate text (Unicode's Cc, Zl, Zp
/// and most of Cf). The zero width joiners U+200C and U+200D stay: scripts and emoji need them.
constexpr Range kNotPrintable[] = {
    {0x00, 0x1f},     {0x7f, 0x9f},     {0xad, 0xad},       {0x61c, 0x61c},   {0x180e, 0x180e},
    {0x200b, 0x200b}, {0x200e, 0x200f}, {0x2028, 0x202e},   {0x2060, 0x206f}, {0xfeff, 0xfeff},
    {0xfff9, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0xe0fff},
};

bool is_printable(char32_t code_point) noexcept {
  for (const Range& range : kNotPrintable) {
    if (code_point >= range.first && code_point <= range.last) return false;
  }
  return true;
}

void append_escaped(std::string& out, std::string_view bytes) {
  for (const char byte : bytes) {
    out += "\\x";
    out += to_hex(as_bytes({&byte, 1}));
  }
}

}  // namespace

ErrcInfo errc_info(Errc code) noexcept {
  // No default: a new Errc without a row here must not compile.
  switch (code) {
    case Errc::io:
      return {"failure", "io", 1};
    case Errc::no_space:
      return {"failure", "no_space", 1};
    case Errc::key_quota:
      return {"failure", "key_quota", 1};
    case Errc::declined:
      return {"failure", "declined", 1};
    case Errc::internal:
      return {"failure", "internal", 1};
    case Errc::usage:
      return {"usage", "usage", 2};
    case Errc::missing_input:
      return {"usage", "missing_input", 2};
    case Errc::ambiguous:
      return {"usage", "ambiguous", 2};
    case Errc::not_a_directory:
      return {"usage", "not_a_directory", 2};
    case Errc::filesystem_root:
      return {"usage", "filesystem_root", 2};
    case Errc::wrong_key:
      return {"wrong_key", "wrong_key", 3};
    case Errc::stale_copy:
      return {"wrong_key", "stale_copy", 3};
    case Errc::previous_login_password:
      return {"wrong_key", "previous_login_password", 3};
    case Errc::no_such_path:
      return {"not_found", "path", 4};
    case Errc::no_such_user:
      return {"not_found", "user", 4};
    case Errc::not_set_up:
      return {"not_found", "not_set_up", 4};
    case Errc::not_managed:
      return {"not_found", "not_managed", 4};
    case Errc::not_encrypted:
      return {"not_found", "not_encrypted", 4};
    case Errc::no_such_policy:
      return {"not_found", "policy", 4};
    case Errc::no_such_protector:
      return {"not_found", "protector", 4};
    case Errc::files_in_use:
      return {"busy", "files_in_use", 5};
    case Errc::other_users:
      return {"busy", "other_users", 5};
    case Errc::metadata_locked:
      return {"busy", "metadata_locked", 5};
    case Errc::not_enabled:
      return {"unsupported", "not_enabled", 6};
    case Errc::no_kernel_support:
      return {"unsupported", "no_kernel_support", 6};
    case Errc::filesystem:
      return {"unsupported", "filesystem", 6};
    case Errc::mode:
      return {"unsupported", "mode", 6};
    case Errc::policy_version:
      return {"unsupported", "policy_version", 6};
    case Errc::permission:
      return {"permission", "permission", 7};
    case Errc::corrupt_metadata:
      return {"corrupt_metadata", "corrupt_metadata", 8};
    case Errc::untrusted_metadata:
      return {"corrupt_metadata", "untrusted", 8};
    case Errc::newer_format:
      return {"corrupt_metadata", "newer_format", 8};
    case Errc::last_way:
      return {"refused", "last_way", 9};
    case Errc::not_empty:
      return {"refused", "not_empty", 9};
    case Errc::already_encrypted:
      return {"refused", "already_encrypted", 9};
    case Errc::in_use:
      return {"refused", "in_use", 9};
    case Errc::kdf_limit:
      return {"refused", "kdf_limit", 9};
    case Errc::exists:
      return {"refused", "exists", 9};
    case Errc::conflict:
      return {"refused", "conflict", 9};
    case Errc::recovery_key_exists:
      return {"refused", "recovery_key_exists", 9};
    case Errc::unconvertible:
      return {"refused", "unconvertible", 9};
    case Errc::too_late:
      return {"refused", "too_late", 9};
    case Errc::unexpected:
      return {"unexpected", "unexpected", 10};
    case Errc::interrupted:
      return {"interrupted", "interrupted", 128 + SIGINT};
  }
  return {"failure", "internal", 1};  // a value that is no Errc
}

Error system_error(int sys_errno, const std::string& what) {
  return {errc_of(sys_errno), what + ": " + describe(sys_errno), sys_errno};
}

std::string printable(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const auto character = first_utf8_character(bytes);
    const std::string_view taken = bytes.substr(0, character ? character->size : 1);
    if (!character || !is_printable(character->code_point)) {
      append_escaped(out, taken);
    } else if (taken == "\\") {
      out += "\\\\";
    } else {
      out += taken;
    }
    bytes.remove_prefix(taken.size());
  }
  return out;
}

}  // namespace fscryptctl
