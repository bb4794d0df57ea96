#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/filesystem.h"
#include "fscryptctl/metadata/store.h"

namespace fscryptctl {

/// How a command names the protector that it is about.
struct ProtectorWish {
  std::optional<std::string> path;       ///< something that it opens
  std::optional<std::string> protector;  ///< its name or id; MOUNTPOINT:NAME wins over `mount`
  std::string mount;                     ///< where to look when no path is named
  std::optional<Source> kind;            ///< of the secrets that are given, if that is known
};

/// Where protectors lie that a wish could mean.
struct ProtectorChoice {
  Filesystem filesystem;
  UserStore store;
  std::vector<ProtectorSummary> candidates;  ///< at least one; the secret decides among several
  std::string target;                        ///< what a person thinks she opens
};

/// Of several protectors of a path the given secret may choose; without a path only one may
/// qualify. Throws ambiguous (with candidates), not_managed, not_set_up, no_such_protector, and
/// what looking throws.
[[nodiscard]] ProtectorChoice choose_protector(const Context& context, const ProtectorWish& wish);

}  // namespace fscryptctl
