#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "fscryptctl/core/context.h"

namespace fscryptctl {

struct KdfWishes {
  bool recalibrate = false;
  std::optional<std::chrono::milliseconds> time;
  std::optional<std::uint64_t> memory_mib;
  std::optional<std::uint32_t> lanes;

  [[nodiscard]] bool any() const noexcept { return recalibrate || time || memory_mib || lanes; }
};

/// The costs that are wished for, the rest as `setup` chooses it for this machine. Throws usage
/// (impossible wishes).
[[nodiscard]] KdfCosts wished_costs(const KdfWishes& wishes);

struct ConfigResult {
  bool changed = false;
  std::optional<KdfCosts> kdf;  ///< what the configuration says now
};

/// Writes the configuration if there is none, its hashing costs calibrated to this machine; with
/// wishes writes them into an existing one. Throws usage (impossible wishes), permission, no_space.
[[nodiscard]] ConfigResult set_up_configuration(const Context& context, const KdfWishes& wishes);

/// Makes the filesystem's metadata directory and, for `user`, an own one in it. True if anything
/// changed. Throws not_enabled, filesystem, permission, no_space, untrusted_metadata.
[[nodiscard]] bool set_up_filesystem(Context& context, const Filesystem& filesystem,
                                     std::optional<Identity> user, bool all_users);

/// Throws unless enable_encryption may be tried: filesystem for types without a way to, permission.
void require_enableable(const Context& context, const Filesystem& filesystem);

/// Turns the filesystem's encryption feature on. Throws as require_enableable, no_such_path (the
/// program for it is not installed), io.
void enable_encryption(Context& context, const Filesystem& filesystem);

}  // namespace fscryptctl
