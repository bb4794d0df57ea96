#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <utility>

#include "fscryptctl/base/bytes.h"

namespace fscryptctl {

/// Secret bytes in pages of their own: locked where the limit allows, left out of core dumps,
/// wiped when they go. Move-only: no copy, no comparison, no printing, no conversion to a string.
class SecretBytes {
 public:
  SecretBytes() noexcept = default;
  /// `size` zero bytes. Throws std::bad_alloc.
  explicit SecretBytes(std::size_t size);
  /// Takes a copy, the only way in for bytes that are elsewhere already.
  explicit SecretBytes(ByteView bytes);
  SecretBytes(SecretBytes&& other) noexcept;
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();

  [[nodiscard]] ByteView view() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::span<std::uint8_t> writable() noexcept { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// Makes it shorter; what is cut off is wiped. `size` must not be larger than size().
  void truncate(std::size_t size) noexcept;

  /// False once locking any secret of this process in memory has failed (RLIMIT_MEMLOCK).
  [[nodiscard]] static bool all_locked() noexcept;

 private:
  void release() noexcept;

  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_ = 0;
};

/// Equal bytes, compared in constant time for equal sizes.
[[nodiscard]] bool equal_secrets(const SecretBytes& a, const SecretBytes& b) noexcept;

/// A key that can only be used in its role: passing one for another does not compile.
template <class Role, std::size_t N>
class Key {
 public:
  static constexpr std::size_t kSize = N;

  Key() : bytes_(N) {}
  /// Throws std::invalid_argument unless `bytes` has N bytes.
  explicit Key(SecretBytes bytes) : bytes_(checked(std::move(bytes))) {}

  [[nodiscard]] std::span<const std::uint8_t, N> view() const noexcept {
    return std::span<const std::uint8_t, N>(bytes_.view());
  }
  [[nodiscard]] std::span<std::uint8_t, N> writable() noexcept {
    return std::span<std::uint8_t, N>(bytes_.writable());
  }
  [[nodiscard]] const SecretBytes& secret() const noexcept { return bytes_; }

 private:
  static SecretBytes checked(SecretBytes bytes) {
    if (bytes.size() != N) throw std::invalid_argument("key of the wrong size");
    return bytes;
  }

  SecretBytes bytes_;
};

/// What the kernel uses for a directory; never changes while the directory lives.
using PolicyKey = Key<struct PolicyKeyRole, 64>;
/// Wraps policy keys.
using ProtectorKey = Key<struct ProtectorKeyRole, 32>;
/// Wraps a protector key; comes from something that a person or machine has.
using WrappingKey = Key<struct WrappingKeyRole, 32>;

/// The longest passphrase, in bytes.
inline constexpr std::size_t kMaxPassphraseSize = 4096;

}  // namespace fscryptctl
