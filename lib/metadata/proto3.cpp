#include "proto3.h"

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/error.h"

namespace fscryptctl::proto3 {
namespace {

constexpr std::uint64_t kMaxFieldNumber = (1U << 29U) - 1;
constexpr std::uint64_t kVarint = 0;
constexpr std::uint64_t kLengthDelimited = 2;

Error malformed() { return {Errc::corrupt_metadata, "the message is malformed"}; }

/// Seven bits a byte, the lowest first; all bytes but the last have the top bit set.
std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (bytes.empty()) throw malformed();
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    const std::uint64_t part = byte & 0x7fU;
    if (shift == 63 && part > 1) throw malformed();  // more than 64 bits
    value |= part << shift;
    if ((byte & 0x80U) == 0) {
      if (byte == 0 && shift > 0) throw malformed();  // a byte that adds nothing
      return value;
    }
  }
  throw malformed();
}

std::string_view take_bytes(std::string_view& bytes) {
  const std::uint64_t size = take_varint(bytes);
  if (size > bytes.size()) throw malformed();
  const std::string_view taken = bytes.substr(0, static_cast<std::size_t>(size));
  bytes.remove_prefix(taken.size());
  return taken;
}

}  // namespace

Message::Message(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::uint64_t tag = take_varint(bytes);
    const std::uint64_t number = tag >> 3U;
    const std::uint64_t type = tag & 7U;
    if (number == 0 || number > kMaxFieldNumber) throw malformed();
    Field field{static_cast<std::uint32_t>(number), type == kVarint, 0, {}};
    if (type == kVarint) {
      field.integer = take_varint(bytes);
    } else if (type == kLengthDelimited) {
      field.bytes = take_bytes(bytes);
    } else {
      throw malformed();
    }
    fields_.push_back(field);
  }
}

const Message::Field* Message::single(std::uint32_t number, bool is_integer) {
  const Field* found = nullptr;
  for (const Field& field : fields_) {
    if (field.number != number) continue;
    if (found != nullptr || field.is_integer != is_integer) throw malformed();
    found = &field;
    ++taken_;
  }
  return found;
}

std::uint64_t Message::integer(std::uint32_t number) {
  const Field* const field = single(number, true);
  return field == nullptr ? 0 : field->integer;
}

bool Message::boolean(std::uint32_t number) {
  const std::uint64_t value = integer(number);
  if (value > 1) throw malformed();
  return value == 1;
}

std::string_view Message::bytes(std::uint32_t number) {
  const Field* const field = single(number, false);
  return field == nullptr ? std::string_view() : field->bytes;
}

std::string_view Message::text(std::uint32_t number) {
  const std::string_view value = bytes(number);
  if (!is_utf8(value)) throw malformed();
  return value;
}

std::vector<std::string_view> Message::repeated(std::uint32_t number) {
  std::vector<std::string_view> all;
  for (const Field& field : fields_) {
    if (field.number != number) continue;
    if (field.is_integer) throw malformed();
    all.push_back(field.bytes);
    ++taken_;
  }
  return all;
}

void Message::finish() const {
  if (taken_ != fields_.size()) throw malformed();
}

}  // namespace fscryptctl::proto3
