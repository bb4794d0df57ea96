#include "handoff.h"

#include <linux/keyctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/random.h"
#include "fscryptctl/crypto/wrap.h"

namespace fscryptctl::pam {
namespace {

constexpr unsigned kSeconds = 180;
constexpr std::size_t kMaxKeys = 16;
constexpr std::size_t kNameSize = 16;
constexpr std::size_t kEntrySize = ProtectorId::kSize + 32 + ProtectorKey::kSize + 32;

using KeySerial = long;

bool is_root_alone() {
  uid_t real = 1;
  uid_t effective = 1;
  uid_t saved = 1;
  return ::getresuid(&real, &effective, &saved) == 0 && real == 0 && effective == 0 && saved == 0;
}

std::string description_of(const std::string& name, uid_t user) {
  return "fscryptctl:" + std::to_string(user) + ":" + name;
}

/// Not a record's context: no record has this method.
ProtectorKeyContext context_for(const ProtectorId& id, uid_t user) {
  return {id, "handed-over", user, std::nullopt};
}

void append(Bytes& bytes, ByteView more) { bytes.insert(bytes.end(), more.begin(), more.end()); }

ByteView part(ByteView bytes, std::size_t& at, std::size_t size) {
  const ByteView found = bytes.subspan(at, size);
  at += size;
  return found;
}

ProtectorKeys unpack(ByteView payload, const WrappingKey& key, uid_t user) {
  ProtectorKeys keys;
  if (payload.size() % kEntrySize != 0) return keys;
  for (std::size_t at = 0; at < payload.size();) {
    ProtectorId id;
    WrappedKey wrapped;
    std::ranges::copy(part(payload, at, ProtectorId::kSize), id.bytes.begin());
    std::ranges::copy(part(payload, at, wrapped.salt.size()), wrapped.salt.begin());
    const ByteView ciphertext = part(payload, at, ProtectorKey::kSize);
    wrapped.ciphertext.assign(ciphertext.begin(), ciphertext.end());
    std::ranges::copy(part(payload, at, wrapped.mac.size()), wrapped.mac.begin());
    if (auto protector = unwrap(key, context_for(id, user), wrapped)) {
      keys.insert_or_assign(id, std::move(*protector));
    }
  }
  return keys;
}

/// "NAME:KEY", both hexadecimal.
struct Ticket {
  std::string name;
  WrappingKey key;
};

std::optional<Ticket> parse(const std::string& ticket) {
  if (ticket.size() != 2 * kNameSize + 1 + 2 * WrappingKey::kSize || ticket[2 * kNameSize] != ':') {
    return std::nullopt;
  }
  const std::string name = ticket.substr(0, 2 * kNameSize);
  std::optional<Bytes> key = from_hex(std::string_view(ticket).substr(2 * kNameSize + 1));
  if (!from_hex(name) || !key) return std::nullopt;
  Ticket parsed{name, WrappingKey(SecretBytes(*key))};
  explicit_bzero(key->data(), key->size());
  return parsed;
}

}  // namespace

std::optional<std::string> hand_over(const ProtectorKeys& keys, uid_t user) {
  if (!is_root_alone() || keys.empty()) return std::nullopt;
  const auto key = random_key<WrappingKey>();
  std::array<std::uint8_t, kNameSize> random{};
  fill_random(random);
  const std::string name = to_hex(random);
  Bytes payload;
  for (const auto& [id, protector] : keys) {
    if (payload.size() == kMaxKeys * kEntrySize) break;
    const WrappedKey wrapped = wrap(key, context_for(id, user), protector);
    append(payload, id.bytes);
    append(payload, wrapped.salt);
    append(payload, wrapped.ciphertext);
    append(payload, wrapped.mac);
  }
  const KeySerial serial = ::syscall(SYS_add_key, "user", description_of(name, user).c_str(),
                                     payload.data(), payload.size(), KEY_SPEC_USER_KEYRING);
  if (serial < 0) throw system_error(errno, "cannot leave keys in root's keyring");
  ::syscall(SYS_keyctl, KEYCTL_SET_TIMEOUT, serial, kSeconds);
  // PAM's environment wants a C string. In one piece, so that the caller can wipe all of it.
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string ticket;
  ticket.reserve(2 * kNameSize + 1 + 2 * WrappingKey::kSize);
  ticket.append(name).append(":");
  for (const std::uint8_t byte : key.view()) {
    ticket += kDigits[byte >> 4U];
    ticket += kDigits[byte & 0xfU];
  }
  return ticket;
}

ProtectorKeys take_over(const std::string& text, uid_t user) {
  const std::optional<Ticket> ticket = parse(text);
  if (!ticket || !is_root_alone()) return {};
  // Linked to the process, too: by its number alone it could not be read here.
  const KeySerial serial =
      ::syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user",
                description_of(ticket->name, user).c_str(), KEY_SPEC_PROCESS_KEYRING);
  if (serial < 0) return {};
  std::array<std::uint8_t, kMaxKeys * kEntrySize> payload{};
  const long size = ::syscall(SYS_keyctl, KEYCTL_READ, serial, payload.data(), payload.size());
  ::syscall(SYS_keyctl, KEYCTL_UNLINK, serial, KEY_SPEC_USER_KEYRING);
  ::syscall(SYS_keyctl, KEYCTL_UNLINK, serial, KEY_SPEC_PROCESS_KEYRING);
  ::syscall(SYS_keyctl, KEYCTL_INVALIDATE, serial);
  if (size < 0 || static_cast<std::size_t>(size) > payload.size()) return {};
  return unpack(ByteView(payload).first(static_cast<std::size_t>(size)), ticket->key, user);
}

}  // namespace fscryptctl::pam
