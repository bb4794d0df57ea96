#pragma once

#include <cstdint>
#include <span>

#include "fscryptctl/crypto/secret.h"

namespace fscryptctl {

/// Fills with the kernel's random bytes (getrandom(2), blocking until seeded). Throws io.
void fill_random(std::span<std::uint8_t> out);

/// A fresh key of any role.
template <class KeyType>
[[nodiscard]] KeyType random_key() {
  KeyType key;
  fill_random(key.writable());
  return key;
}

}  // namespace fscryptctl
