#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

/// A policy key that one user hands to another under a one-time code, as a text; normative text:
/// metadata-format/README.md, "Shares".
struct SharedPolicy {
  std::string created;  ///< RFC 3339 UTC
  KeyIdentifier key_identifier;
  std::optional<FilesystemUuid> filesystem;  ///< a hint, as the next
  std::vector<std::string> paths;            ///< as a policy record's
  EncryptionOptions options;
  WrappedKey wrapped;

  bool operator==(const SharedPolicy&) const = default;
};

/// What the wrapping is bound to.
[[nodiscard]] SharedKeyContext context_of(const SharedPolicy& shared);

/// Throws internal for one that breaks the format's limits otherwise than by the size of its paths;
/// these are left out then, the oldest first.
[[nodiscard]] std::string emit(const SharedPolicy& shared);

/// Reads hostile bytes; errors never quote them. Throws corrupt_metadata, newer_format.
[[nodiscard]] SharedPolicy parse_share(std::string_view text);

}  // namespace fscryptctl
