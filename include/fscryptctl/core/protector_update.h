#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fscryptctl/core/protector.h"
#include "fscryptctl/core/protector_choice.h"

namespace fscryptctl {

struct CopyState {
  std::string mount_point;
  bool written;  ///< false: stale, it still opens with the previous secret or could not be written
};

struct UpdatedProtector {
  ProtectorSummary protector;
  std::vector<CopyState> copies;  ///< the record that was chosen first
};

/// Makes the record with other wrappings of the same protector key. New wrappings get at least
/// `generation`, which is above that of every copy that the proven secret opens.
using ChangeWrappings =
    std::function<ProtectorRecord(const OpenProtector& open, std::uint64_t generation)>;

/// Opens one of the chosen protectors and gives it other wrappings, identical in all its copies on
/// other filesystems that the secret just proven, or one that `change` made known to the opener,
/// opens to the same key; other copies stay. `change`
/// may hash and ask: no lock is held meanwhile, and it is called again if somebody else was faster.
/// Each store reads back what it wrote before the old record goes.
/// Throws wrong_key and what opening throws, metadata_locked, no_space, and what `change` throws.
[[nodiscard]] UpdatedProtector update_protector(Context& context, const ProtectorChoice& choice,
                                                Opener& opener, const ChangeWrappings& change);

}  // namespace fscryptctl
