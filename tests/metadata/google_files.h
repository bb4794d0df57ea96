#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// Files as google/fscrypt writes them.
namespace fscryptctl::test {

inline std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value > 0x7f; value >>= 7U) bytes += static_cast<char>(0x80U | (value & 0x7fU));
  return bytes += static_cast<char>(value);
}
inline std::string field(unsigned number, std::uint64_t value) {
  return varint(number << 3U) + varint(value);
}
inline std::string field(unsigned number, std::string_view bytes) {
  return varint(number << 3U | 2U) + varint(bytes.size()) + std::string(bytes);
}

inline std::string wrapped_key_data(std::size_t key_size) {
  return field(1, std::string(16, 'i')) + field(2, std::string(key_size, 'c')) +
         field(3, std::string(32, 'm'));
}
inline std::string hashing_costs(std::uint64_t lanes = 4, bool truncation_fixed = true) {
  return field(2, 3) + field(3, 131072) + field(4, lanes) +
         (truncation_fixed ? field(5, 1) : std::string());
}

inline constexpr std::string_view kGoogleProtectorId = "0123456789abcdef";
inline constexpr std::string_view kGooglePolicyId = "0123456789abcdef0123456789abcdef";

inline std::string google_protector(std::uint64_t source = 2,
                                    const std::string& costs = hashing_costs(),
                                    std::uint64_t uid = 0) {
  return field(1, kGoogleProtectorId) + field(2, source) +
         (source == 1 ? std::string() : field(3, "mine")) + field(4, costs) +
         field(5, std::string(16, 's')) + (uid == 0 ? std::string() : field(6, uid)) +
         field(7, wrapped_key_data(32));
}
inline std::string google_raw_protector() {
  return field(1, kGoogleProtectorId) + field(2, 3) + field(3, "raw") +
         field(7, wrapped_key_data(32));
}
inline std::string google_options(std::uint64_t contents = 1, std::uint64_t filenames = 4,
                                  std::uint64_t padding = 32, std::uint64_t version = 2) {
  return field(1, padding) + field(2, contents) + field(3, filenames) +
         (version == 0 ? std::string() : field(4, version));
}
inline std::string google_policy_wrapping(std::string_view protector = kGoogleProtectorId) {
  return field(1, protector) + field(2, wrapped_key_data(64));
}
inline std::string google_policy(const std::string& options = google_options(),
                                 std::string_view id = kGooglePolicyId) {
  return field(1, id) + field(2, options) + field(3, google_policy_wrapping()) +
         field(3, google_policy_wrapping("fedcba9876543210"));
}

}  // namespace fscryptctl::test
