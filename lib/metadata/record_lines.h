#pragma once

#include <string_view>

#include "strict_yaml.h"

namespace fscryptctl {

/// Reads one document of a record, without its `---`: exactly the lines that
/// metadata-format/README.md
/// ("Records as text") names, and to the same tree that YAML would read from them. That is much
/// less than YAML, so it needs no YAML parser: listing thousands of records spends most of its time
/// here. Tests and the fuzzer hold it against yaml-cpp. Throws corrupt_metadata.
[[nodiscard]] yaml::Node read_record_lines(std::string_view document);

}  // namespace fscryptctl
