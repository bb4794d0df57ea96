#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/base/error.h"

/// The part of YAML that this project reads, for records and for the configuration: one document,
/// maps, lists and scalars. No tags, anchors, aliases, directives, empty values, duplicate keys;
/// printable ASCII only. Errors are corrupt_metadata and never quote what was read.
namespace fscryptctl::yaml {

/// A value. Scalars stay text: what they mean is for the reader of the field.
struct Node {
  enum class Kind { plain, quoted, list, map };

  Kind kind = Kind::plain;
  std::string key;             ///< under which it stands in its map; empty elsewhere
  std::string text;            ///< of a scalar, escapes decoded (any bytes, NUL too)
  std::vector<Node> children;  ///< of a list or map, in the order of the text
};

/// Reads a text of at most kMaxTextSize with one document, a map. A text with nothing but comments
/// is an empty map.
inline constexpr std::size_t kMaxTextSize = 16 * 1024;
[[nodiscard]] Node read_document(std::string_view text);

/// Takes a map apart. Ask for each key once, then call finish(), which refuses the keys that nobody
/// asked for. The map must outlive it. All throw if the node is not what was asked for.
class Fields {
 public:
  explicit Fields(const Node& map);

  [[nodiscard]] const Node& required(std::string_view key);
  [[nodiscard]] const Node* optional(std::string_view key);
  void finish() const;

 private:
  const Node& map_;
  std::size_t taken_ = 0;
};

/// A plain scalar: letters, digits and `_`, `-`, `:` within.
[[nodiscard]] const std::string& plain(const Node& node);
/// A double- or single-quoted scalar.
[[nodiscard]] const std::string& quoted(const Node& node);
/// A plain scalar of decimal digits without leading zero, within the range.
[[nodiscard]] std::uint64_t integer(const Node& node, std::uint64_t min, std::uint64_t max);
[[nodiscard]] const std::vector<Node>& list(const Node& node);

/// The error for text that breaks a rule.
[[nodiscard]] Error corrupt(const std::string& fact);

}  // namespace fscryptctl::yaml
