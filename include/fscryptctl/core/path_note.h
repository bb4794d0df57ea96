#pragma once

#include <optional>
#include <string>

#include "fscryptctl/core/context.h"

namespace fscryptctl {

/// Where the encrypted directory lies that `path` is or lies below, as records note it. nullopt if
/// that cannot be told. Before it is unlocked: then names below it change.
[[nodiscard]] std::optional<std::string> encrypted_directory_hint(const Context& context,
                                                                  const Filesystem& filesystem,
                                                                  const std::string& path) noexcept;

/// Notes in the policy's record where its directory was found, if it was moved there. For after its
/// secret was proven. A convenience for listings that must not get in anybody's way: it waits for
/// no lock, and whatever fails is only explained.
void note_hint(Context& context, const Filesystem& filesystem, const FoundPolicy& found,
               const std::string& hint) noexcept;

}  // namespace fscryptctl
