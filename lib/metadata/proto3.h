#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

/// The part of Protocol Buffers (proto3) that google/fscrypt writes: varints, and length-delimited
/// bytes, texts and messages. Stricter than the format asks: other wire types, unknown fields,
/// fields that stand twice and numbers with superfluous bytes are refused, since no writer makes
/// them and what they mean could be anything. Errors are corrupt_metadata and quote nothing.
namespace fscryptctl::proto3 {

/// A message taken apart. The bytes must outlive it. Ask for each field once, then call finish(),
/// which refuses what nobody asked for. A field that is not there has its type's zero value.
class Message {
 public:
  explicit Message(std::string_view bytes);

  [[nodiscard]] std::uint64_t integer(std::uint32_t number);
  [[nodiscard]] bool boolean(std::uint32_t number);
  [[nodiscard]] std::string_view bytes(std::uint32_t number);
  /// Well-formed UTF-8.
  [[nodiscard]] std::string_view text(std::uint32_t number);
  /// Every occurrence, in order.
  [[nodiscard]] std::vector<std::string_view> repeated(std::uint32_t number);
  void finish() const;

 private:
  struct Field {
    std::uint32_t number;
    bool is_integer;
    std::uint64_t integer;
    std::string_view bytes;
  };
  [[nodiscard]] const Field* single(std::uint32_t number, bool is_integer);

  std::vector<Field> fields_;
  std::size_t taken_ = 0;
};

}  // namespace fscryptctl::proto3
