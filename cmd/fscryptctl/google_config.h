#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/metadata/config.h"

namespace fscryptctl {

inline constexpr const char* kGoogleConfigPath = "/etc/fscrypt.conf";

/// What google/fscrypt's configuration says, as far as ours can say it too: source, hashing costs,
/// modes and padding. Throws corrupt_metadata for a text that is not such a configuration.
[[nodiscard]] Config parse_google_config(std::string_view text);

/// nullopt if there is no such file. It must be a regular file of root's that others cannot write.
/// Throws untrusted_metadata, corrupt_metadata, io.
[[nodiscard]] std::optional<Config> read_google_config(const std::string& path);

}  // namespace fscryptctl
