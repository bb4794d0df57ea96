#pragma once

#include <string>
#include <string_view>

#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

/// Strict YAML for records; normative text: metadata-format/README.md. Parsing reads hostile
/// bytes: size, characters and directives are checked before yaml-cpp sees them, then only events
/// are taken (no anchors, aliases, tags; depth 5, 500 events; no duplicate or unknown keys;
/// integers parsed here). Errors never quote the bytes.
///
/// All parse functions throw corrupt_metadata, or newer_format for an unknown format, algorithm,
/// source, method or KDF name.

/// Reads the first document only and ignores the rest.
[[nodiscard]] PolicySummary parse_policy_summary(std::string_view text);
[[nodiscard]] ProtectorSummary parse_protector_summary(std::string_view text);
/// Read both documents; facts that stand in both must agree.
[[nodiscard]] PolicyRecord parse_policy(std::string_view text);
[[nodiscard]] ProtectorRecord parse_protector(std::string_view text);

/// Canonical text: parse(emit(r)) == r and emit(parse(t)) == t for what emit wrote. Path hints that
/// do not fit into kMaxRecordSize or kMaxPaths are left out, the oldest first.
/// Throws internal for a record that breaks the format's limits otherwise.
[[nodiscard]] std::string emit(const PolicyRecord& record);
[[nodiscard]] std::string emit(const ProtectorRecord& record);

}  // namespace fscryptctl
