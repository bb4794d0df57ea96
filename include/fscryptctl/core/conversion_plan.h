#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/context.h"
#include "fscryptctl/core/conversion_site.h"
#include "fscryptctl/kernel/holders.h"
#include "fscryptctl/metadata/journal.h"
#include "fscryptctl/tree/scan.h"

namespace fscryptctl {

/// What a conversion takes, and what is in its way.
struct ConversionPlan {
  std::string path;
  std::string mount_point;
  Journal::Strategy strategy = Journal::Strategy::copy;
  TreeScan scan;
  std::uint64_t bytes_needed = 0;  ///< free space that the strategy needs
  std::uint64_t bytes_needed_low_space = 0;
  std::uint64_t bytes_free = 0;  ///< for this user, quota counted
  std::uint64_t inodes_needed = 0;
  std::uint64_t inodes_free = 0;
  HolderScan holders;
  double seconds = 0;  ///< an estimate

  [[nodiscard]] bool fits() const noexcept;
  [[nodiscard]] bool fits_low_space() const noexcept;
};

/// Looks; changes nothing. `encrypts`: the result is encrypted. Throws as scan_tree.
[[nodiscard]] ConversionPlan make_plan(const Context& context, const ConversionSite& site,
                                       Journal::Strategy strategy, bool encrypts,
                                       TreeProgress& progress, const Tick& tick);

/// What the filesystem and the user's quota have room for.
[[nodiscard]] std::uint64_t free_bytes(const ConversionSite& site);

/// "mount point", "encrypted", ... for people and scripts.
[[nodiscard]] std::string_view obstacle_name(Obstacle::Kind kind);

/// Why it is not begun: in_use, already_encrypted, unconvertible, permission, no_space; nullopt if
/// nothing is in the way.
[[nodiscard]] std::optional<Error> refusal(const ConversionPlan& plan);

}  // namespace fscryptctl
