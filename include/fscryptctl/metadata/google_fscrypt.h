#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

/// The files of google/fscrypt below MOUNTPOINT/.fscrypt: Protocol Buffers, and texts that link to
/// another filesystem's. Parsing reads hostile bytes. All parse functions throw corrupt_metadata,
/// or newer_format for what this tool's versions up to 0.3.3 do not write; errors quote nothing.

inline constexpr std::size_t kMaxGoogleFileSize = 16 * 1024;

/// A file of `protectors/`. Its one wrapping is GoogleWrappedKey; the hashing's lanes are what that
/// tool really uses, which is not always what the file says.
struct GoogleProtector {
  ProtectorId id;
  Source source = Source::passphrase;
  std::string name;          ///< any UTF-8; empty for login
  std::optional<uid_t> uid;  ///< with login, and only then
  ProtectorWrapping wrapping;
};
/// `id` is what the file is named after.
[[nodiscard]] GoogleProtector parse_google_protector(std::string_view bytes, const ProtectorId& id);

/// A file of `policies/` with a version 2 policy.
struct GooglePolicy {
  KeyIdentifier key_identifier;
  EncryptionOptions options;
  std::vector<PolicyWrapping> wrappings;  ///< 1..16, by different protectors
};
/// `name` is the file's: 32 hex digits, or 16 for version 1. Throws policy_version for a file of
/// version 1 that is in order.
[[nodiscard]] GooglePolicy parse_google_policy(std::string_view bytes, std::string_view name);

/// A file PROTECTOR.link: on which filesystem the protector is.
struct GoogleLink {
  std::string uuid;  ///< hex digits and hyphens; may be empty
  std::string path;  ///< absolute; may be empty, but not both
};
[[nodiscard]] GoogleLink parse_google_link(std::string_view text);

}  // namespace fscryptctl
