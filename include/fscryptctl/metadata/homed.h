#pragma once

#include <string_view>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/homed_slot.h"

namespace fscryptctl {

/// The wrappings that systemd-homed keeps in extended attributes of a home directory. Parsing reads
/// hostile bytes; errors quote nothing.

/// The value of one attribute. Throws corrupt_metadata, newer_format (another version), kdf_limit.
[[nodiscard]] HomedSlot parse_homed_slot(std::string_view value);

struct HomedSlots {
  std::vector<HomedSlot> slots;  ///< in the order of their numbers
  std::vector<Error> unusable;   ///< why others cannot be used; their path is the attribute
};
/// The slots of an open directory, at most 64 of them. Only root sees them (trusted attributes).
/// Throws io, filesystem (no such attributes here).
[[nodiscard]] HomedSlots read_homed_slots(int directory_fd);

}  // namespace fscryptctl
