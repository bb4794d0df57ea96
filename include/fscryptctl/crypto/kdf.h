#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// Costs of Argon2id version 1.3 (RFC 9106).
struct KdfCosts {
  std::uint32_t passes;
  std::uint32_t memory_kib;
  std::uint32_t lanes;

  bool operator==(const KdfCosts&) const = default;
};

/// Argon2's version number that we write and read: 0x13.
inline constexpr std::uint32_t kArgon2Version = 19;
inline constexpr std::uint32_t kMaxLanes = 255;
inline constexpr std::uint32_t kMinMemoryKibPerLane = 8;
using KdfSalt = std::array<std::uint8_t, 16>;

/// True within what Argon2id itself can do and the format allows: passes >= 1, 1..255 lanes,
/// memory_kib >= 8 * lanes.
[[nodiscard]] bool valid_costs(const KdfCosts& costs) noexcept;

/// The most that hashing a record may cost on this machine.
struct KdfLimits {
  std::uint64_t memory_kib;           ///< of one hashing
  std::uint64_t memory_kib_passes;    ///< memory times passes
};

/// Half of the memory that machine and cgroup (v2 and v1, the smallest on the path to the root)
/// give this process, at most 1 GiB; memory times passes at most 16 GiB. With `raised_memory_kib`
/// (the user's word) these are lifted to at least it, times 16 for the product.
[[nodiscard]] KdfLimits machine_kdf_limits(std::optional<std::uint64_t> raised_memory_kib);

/// Why the costs are over the limits, or nullopt. Not the record's fault: nothing is corrupt, and
/// another protector may do.
[[nodiscard]] std::optional<std::string> over_limit(const KdfCosts& costs,
                                                    const KdfLimits& limits);

/// Argon2id over the raw bytes of the passphrase. Its memory is ours: not dumped, wiped and freed
/// on every path, not locked. One buffer at a time. A lane for which no thread can be made runs in
/// this one. Throws internal (invalid costs), io (out of memory).
[[nodiscard]] WrappingKey derive_wrapping_key(const SecretBytes& passphrase, const KdfSalt& salt,
                                              const KdfCosts& costs);

/// Memory that new hashing may use: an eighth of what machine and cgroup give, at most 128 MiB.
[[nodiscard]] std::uint32_t default_memory_kib();
/// min(cores that this process may use, 4).
[[nodiscard]] std::uint32_t default_lanes();

/// Costs that take about `target` (at least 1 ms) here: all of `memory_kib` and as many passes as
/// fit, or, when one pass is already too slow, less memory with one pass. Always valid: with less
/// than 8 KiB for a lane there are fewer lanes, and memory is at least 8 KiB. Bounded: measures with
/// a few hashings that together take a few times the target.
[[nodiscard]] KdfCosts calibrate(std::chrono::milliseconds target, std::uint32_t memory_kib,
                                 std::uint32_t lanes);

/// Below what OWASP recommends at least (19 MiB with 2 passes, 46 MiB with one): worth a warning.
[[nodiscard]] bool weak_costs(const KdfCosts& costs) noexcept;

}  // namespace fscryptctl
