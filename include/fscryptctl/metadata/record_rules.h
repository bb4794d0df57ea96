#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

/// The rules of the format that the types of a record cannot express; normative text:
/// metadata-format/README.md. Reading and writing both ask here.

/// A protector's name: UTF-8, 1..255 bytes, no control characters, no ':' and no '/'.
[[nodiscard]] bool valid_name(std::string_view name);
/// A hint of the user's name: as a name, but ':' and '/' may stand in it.
[[nodiscard]] bool valid_user_hint(std::string_view user);
/// RFC 3339 in UTC with whole seconds, a time that exists: "2026-11-22T10:11:12Z".
[[nodiscard]] bool valid_time(std::string_view text);
/// 1..4096 bytes, relative, no NUL, no empty component and none that is "." or "..".
[[nodiscard]] bool valid_path_hint(std::string_view path);

/// True for what google/fscrypt can say of a policy: its wrappings cover neither the modes nor
/// anything else, so more than that must not stand beside them.
[[nodiscard]] bool fits_google_fscrypt(const EncryptionOptions& options) noexcept;

/// The first rule that is broken, as an error message, or nullopt.
[[nodiscard]] std::optional<std::string> broken_rule(const ProtectorSummary& summary);
[[nodiscard]] std::optional<std::string> broken_rule(const PolicySummary& summary);
/// Whole records: the rules for their wrappings and for the summary that follows from these.
[[nodiscard]] std::optional<std::string> broken_rule(const ProtectorRecord& record);
[[nodiscard]] std::optional<std::string> broken_rule(const PolicyRecord& record);

}  // namespace fscryptctl
