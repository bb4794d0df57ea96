#include "fscryptctl/crypto/kdf.h"

#include <argon2.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include "argon2_threads.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/machine_memory.h"

namespace fscryptctl {
namespace {

constexpr std::uint64_t kMaxMemoryKib = 1024UL * 1024;
constexpr std::uint64_t kMaxMemoryKibPasses = 16 * kMaxMemoryKib;
constexpr std::uint64_t kPassesPerRaisedMemory = 16;
constexpr std::uint32_t kMaxDefaultMemoryKib = 128U * 1024;
constexpr std::uint32_t kMaxDefaultLanes = 4;

/// Argon2's memory, out of which a passphrase could be guessed much faster than through the costs.
/// The library asks for it through a callback and, after a failure, forgets it: so it belongs to
/// the one HashMemory that the hashing thread has on its stack.
class HashMemory {
 public:
  HashMemory() noexcept { current() = this; }
  ~HashMemory() {
    if (pages_ != nullptr) {
      explicit_bzero(pages_, size_);
      unmap();
    }
    current() = nullptr;
  }
  HashMemory(const HashMemory&) = delete;
  HashMemory& operator=(const HashMemory&) = delete;

  static int allocate(std::uint8_t** memory, std::size_t size) noexcept {
    return current()->map(memory, size) ? 0 : -1;
  }
  /// The library has wiped it already (FLAG_clear_internal_memory, on by default).
  static void release(std::uint8_t* /*memory*/, std::size_t /*size*/) noexcept {
    current()->unmap();
  }

 private:
  /// The callbacks have no argument of ours.
  static HashMemory*& current() noexcept {
    static thread_local HashMemory* memory = nullptr;
    return memory;
  }

  bool map(std::uint8_t** memory, std::size_t size) noexcept {
    void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return false;
    // Not locked: an ordinary user may lock 8 MiB. A child that another thread of the program forks
    // meanwhile has no use for it.
    (void)madvise(pages, size, MADV_DONTDUMP);
    (void)madvise(pages, size, MADV_WIPEONFORK);
    pages_ = pages;
    size_ = size;
    *memory = static_cast<std::uint8_t*>(pages);
    return true;
  }

  void unmap() noexcept {
    (void)munmap(pages_, size_);
    pages_ = nullptr;
  }

  void* pages_ = nullptr;
  std::size_t size_ = 0;
};

argon2_context argon2_arguments(const SecretBytes& passphrase, const KdfSalt& salt,
                                const KdfCosts& costs, WrappingKey& key) noexcept {
  argon2_context context{};
  context.out = key.writable().data();
  context.outlen = WrappingKey::kSize;
  // The library's struct has pointers to non-const; without ARGON2_FLAG_CLEAR_* it only reads.
  context.pwd = const_cast<std::uint8_t*>(passphrase.view().data());
  context.pwdlen = static_cast<std::uint32_t>(passphrase.size());
  context.salt = const_cast<std::uint8_t*>(salt.data());
  context.saltlen = static_cast<std::uint32_t>(salt.size());
  context.t_cost = costs.passes;
  context.m_cost = costs.memory_kib;
  context.lanes = costs.lanes;
  // A hostile record may ask for 255 lanes. The result does not depend on the number of threads.
  context.threads = std::min(costs.lanes, crypto::usable_cores());
  context.version = kArgon2Version;
  context.allocate_cbk = &HashMemory::allocate;
  context.free_cbk = &HashMemory::release;
  context.flags = ARGON2_DEFAULT_FLAGS;
  return context;
}

std::string mib(std::uint64_t kib) { return std::to_string((kib + 1023) / 1024) + " MiB"; }

std::uint64_t saturating_multiply(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<std::uint64_t>::max()
                                                : product;
}

}  // namespace

bool valid_costs(const KdfCosts& costs) noexcept {
  return costs.passes >= 1 && costs.lanes >= 1 && costs.lanes <= kMaxLanes &&
         costs.memory_kib >= kMinMemoryKibPerLane * costs.lanes;
}

KdfLimits machine_kdf_limits(std::optional<std::uint64_t> raised_memory_kib) {
  const std::uint64_t raised = raised_memory_kib.value_or(0);
  return {std::max(std::min(kMaxMemoryKib, machine_memory_kib("/") / 2), raised),
          std::max(kMaxMemoryKibPasses, saturating_multiply(raised, kPassesPerRaisedMemory))};
}

std::optional<std::string> over_limit(const KdfCosts& costs, const KdfLimits& limits) {
  if (costs.memory_kib > limits.memory_kib) {
    return "hashing the passphrase takes " + mib(costs.memory_kib) +
           " of memory, the limit here is " + mib(limits.memory_kib);
  }
  // Both factors have 32 bits.
  if (std::uint64_t{costs.memory_kib} * costs.passes > limits.memory_kib_passes) {
    return "hashing the passphrase takes " + std::to_string(costs.passes) + " passes over " +
           mib(costs.memory_kib) + " of memory, more than the limit here";
  }
  return std::nullopt;
}

WrappingKey derive_wrapping_key(const SecretBytes& passphrase, const KdfSalt& salt,
                                const KdfCosts& costs) {
  if (!valid_costs(costs)) throw Error(Errc::internal, "invalid hashing costs");
  WrappingKey key;
  argon2_context context = argon2_arguments(passphrase, salt, costs, key);
  const HashMemory memory;
  const int result = argon2id_ctx(&context);
  if (result == ARGON2_MEMORY_ALLOCATION_ERROR) {
    throw Error(Errc::io,
                "not enough memory to hash the passphrase (" + mib(costs.memory_kib) + ")", ENOMEM);
  }
  if (result != ARGON2_OK) throw Error(Errc::internal, "hashing the passphrase failed");
  return key;
}

std::uint32_t default_memory_kib() {
  const std::uint64_t eighth = machine_memory_kib("/") / 8;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
      eighth, std::uint64_t{kMinMemoryKibPerLane} * kMaxDefaultLanes, kMaxDefaultMemoryKib));
}

std::uint32_t default_lanes() { return std::min(crypto::usable_cores(), kMaxDefaultLanes); }

bool weak_costs(const KdfCosts& costs) noexcept {
  constexpr std::uint32_t kSmallestKib = 19U * 1024;
  constexpr std::uint32_t kSmallestKibOfOnePass = 46U * 1024;
  return costs.memory_kib < kSmallestKib ||
         (costs.passes < 2 && costs.memory_kib < kSmallestKibOfOnePass);
}

}  // namespace fscryptctl
