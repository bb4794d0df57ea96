#pragma once

#include <cstdint>

#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

inline WrappedKey sample_wrapped_key(std::size_t key_size, std::uint8_t fill) {
  WrappedKey wrapped;
  wrapped.salt.fill(fill);
  wrapped.ciphertext.assign(key_size, static_cast<std::uint8_t>(fill + 1));
  wrapped.mac.fill(static_cast<std::uint8_t>(fill + 2));
  return wrapped;
}

inline ProtectorWrapping sample_hashed_wrapping(Method method, std::uint64_t generation) {
  Argon2id kdf{{3, 131072, 2}, {}};
  kdf.salt.fill(0x5a);
  return {method, generation, kdf, sample_wrapped_key(32, 0x10)};
}

inline ProtectorWrapping sample_key_wrapping(Method method) {
  return {method, 1, std::nullopt, sample_wrapped_key(32, 0x20)};
}

/// A passphrase protector with a recovery key.
inline ProtectorRecord sample_protector() {
  ProtectorRecord record;
  record.summary.id = *ProtectorId::from_hex("572b248e70045051");
  record.summary.name = "private";
  record.summary.created = "2026-11-22T10:11:12Z";
  record.wrappings = {sample_hashed_wrapping(Method::passphrase, 1),
                      sample_key_wrapping(Method::recovery_key)};
  record.summary.ways = ways_of(record.wrappings);
  return record;
}

/// A login protector while a password change is unproven.
inline ProtectorRecord sample_login_protector() {
  ProtectorRecord record = sample_protector();
  record.summary.name = "login";
  record.summary.source = Source::login;
  record.summary.user = "alice";
  record.summary.machine_id = "0123456789abcdef0123456789abcdef";
  record.wrappings = {sample_hashed_wrapping(Method::login, 3),
                      sample_hashed_wrapping(Method::login, 2),
                      sample_key_wrapping(Method::recovery_key)};
  record.summary.ways = ways_of(record.wrappings);
  return record;
}

inline PolicyRecord sample_policy() {
  PolicyRecord record;
  record.summary.key_identifier = *KeyIdentifier::from_hex("8699c2c53707405da5aba5ae4d8583c0");
  record.summary.paths = {"alice/private"};
  record.wrappings = {{*ProtectorId::from_hex("572b248e70045051"), sample_wrapped_key(64, 0x30)}};
  record.summary.protectors = protectors_of(record.wrappings);
  return record;
}

inline GoogleWrappedKey sample_google_key(std::size_t key_size, std::uint8_t fill) {
  GoogleWrappedKey wrapped;
  wrapped.iv.fill(fill);
  wrapped.ciphertext.assign(key_size, static_cast<std::uint8_t>(fill + 1));
  wrapped.mac.fill(static_cast<std::uint8_t>(fill + 2));
  return wrapped;
}

/// As google/fscrypt's records are imported.
inline ProtectorRecord sample_imported_protector() {
  ProtectorRecord record = sample_protector();
  record.wrappings = {sample_hashed_wrapping(Method::passphrase, 1)};
  record.wrappings.front().wrapped = sample_google_key(32, 0x40);
  summarise(record);
  return record;
}

inline PolicyRecord sample_imported_policy() {
  PolicyRecord record = sample_policy();
  record.wrappings = {{*ProtectorId::from_hex("572b248e70045051"), sample_google_key(64, 0x50)},
                      {*ProtectorId::from_hex("572b248e70045052"), sample_wrapped_key(64, 0x60)}};
  summarise(record);
  return record;
}

}  // namespace fscryptctl
