#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "fscryptctl/crypto/kdf.h"

namespace fscryptctl {
namespace {

constexpr std::uint32_t kFirstKib = 1024;

using Milliseconds = std::chrono::duration<double, std::milli>;

/// Hashes something without a secret and says how long it took.
Milliseconds measure(const KdfCosts& costs) {
  const SecretBytes passphrase(16);
  const auto start = std::chrono::steady_clock::now();
  (void)derive_wrapping_key(passphrase, KdfSalt{}, costs);
  const Milliseconds taken = std::chrono::steady_clock::now() - start;
  // Never zero, whatever the clock's steps: it is divided by.
  return std::max(taken, Milliseconds(0.001));
}

std::uint32_t scaled(std::uint32_t value, double factor, std::uint32_t low, std::uint32_t high) {
  const double wanted = std::floor(value * factor);
  if (wanted <= low) return low;
  return wanted >= high ? high : static_cast<std::uint32_t>(wanted);
}

/// The most passes over this memory that other machines with the usual limits still accept.
std::uint32_t most_passes(std::uint32_t memory_kib) {
  const std::uint64_t passes = machine_kdf_limits(std::nullopt).memory_kib_passes / memory_kib;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(passes, 1, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace

KdfCosts calibrate(std::chrono::milliseconds target, std::uint32_t memory_kib,
                   std::uint32_t lanes) {
  const Milliseconds wanted = std::max(target, std::chrono::milliseconds(1));
  memory_kib = std::max(memory_kib, kMinMemoryKibPerLane);
  lanes = std::clamp(lanes, 1U, std::min(kMaxLanes, memory_kib / kMinMemoryKibPerLane));
  const std::uint32_t least_kib = kMinMemoryKibPerLane * lanes;

  // One pass over more and more memory. No step is expected to take longer than the target, and
  // the last one begins below half of it: so all of them together take about twice the target.
  KdfCosts costs{1, std::clamp(kFirstKib, least_kib, memory_kib), lanes};
  Milliseconds taken = measure(costs);
  while (costs.memory_kib < memory_kib && taken * 2 < wanted) {
    costs.memory_kib =
        scaled(costs.memory_kib, std::min(wanted / taken, 4.0), least_kib, memory_kib);
    taken = measure(costs);
  }
  if (costs.memory_kib < memory_kib || taken > wanted) {
    costs.memory_kib = scaled(costs.memory_kib, wanted / taken, least_kib, memory_kib);
    return costs;
  }

  costs.passes = scaled(1, wanted / taken, 1, most_passes(memory_kib));
  // The first pass also pays for the memory's first use, so the estimate is too small: once more.
  if (costs.passes > 1) {
    taken = measure(costs);
    costs.passes = scaled(costs.passes, wanted / taken, 1, most_passes(memory_kib));
  }
  return costs;
}

}  // namespace fscryptctl
