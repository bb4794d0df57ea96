#include "record_lines.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace fscryptctl {
namespace {

using yaml::corrupt;
using yaml::Node;

constexpr std::string_view kItem = "  - ";
constexpr std::string_view kFieldOfItem = "    ";
constexpr std::uint32_t kLastCodePoint = 0x10ffff;
/// More than any document or item has, so that looking for duplicates stays cheap.
constexpr std::size_t kMaxFields = 32;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_alphanumeric(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c); }

// Takes `prefix` off `text`; false if it does not begin so.
bool consume(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

Error malformed() { return corrupt("a line does not have the form of a record's line"); }

void require_key(std::string_view text) {
  const auto allowed = [](char c) { return is_lower(c) || is_digit(c) || c == '_'; };
  if (text.empty() || !std::all_of(text.begin(), text.end(), allowed)) throw malformed();
  if (text == "null") throw corrupt("a key is missing");
}

void require_word(std::string_view text) {
  const auto allowed = [](char c) {
    return is_alphanumeric(c) || c == '_' || c == '-' || c == ':';
  };
  if (text.empty() || !is_alphanumeric(text.front()) || text.back() == ':' ||
      !std::all_of(text.begin(), text.end(), allowed)) {
    throw malformed();
  }
  if (text == "null" || text == "Null" || text == "NULL") throw corrupt("a value is missing");
}

void append_utf8(std::string& text, std::uint32_t code_point) {
  const auto put = [&text](std::uint32_t byte) { text += static_cast<char>(byte); };
  const auto continuation = [&](unsigned shift) { put(0x80U | ((code_point >> shift) & 0x3fU)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0U | (code_point >> 6U));
    continuation(0);
  } else if (code_point < 0x10000) {
    put(0xe0U | (code_point >> 12U));
    continuation(6);
    continuation(0);
  } else {
    put(0xf0U | (code_point >> 18U));
    continuation(12);
    continuation(6);
    continuation(0);
  }
}

// Takes the digits of an escape off `text`.
std::uint32_t consume_code_point(std::string_view& text, std::size_t digits) {
  std::uint32_t code_point = 0;
  const std::string_view hex = text.substr(0, digits);
  const auto [stop, error] = std::from_chars(hex.data(), hex.data() + hex.size(), code_point, 16);
  // from_chars takes no sign and no prefix for unsigned numbers.
  if (error != std::errc() || hex.size() != digits || stop != hex.data() + digits) {
    throw malformed();
  }
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  if (surrogate || code_point > kLastCodePoint) throw corrupt("an escape names no character");
  text.remove_prefix(digits);
  return code_point;
}

// Takes what follows a backslash off `text`.
void consume_escape(std::string_view& text, std::string& decoded) {
  if (consume(text, "\"")) {
    decoded += '"';
  } else if (consume(text, "\\")) {
    decoded += '\\';
  } else if (consume(text, "x")) {
    append_utf8(decoded, consume_code_point(text, 2));
  } else if (consume(text, "u")) {
    append_utf8(decoded, consume_code_point(text, 4));
  } else if (consume(text, "U")) {
    append_utf8(decoded, consume_code_point(text, 8));
  } else {
    throw malformed();
  }
}

// `text` without its opening quotation mark.
std::string decode_quoted(std::string_view text) {
  std::string decoded;
  for (;;) {
    const std::size_t special = text.find_first_of("\"\\");
    if (special == std::string_view::npos) throw malformed();
    decoded += text.substr(0, special);
    text.remove_prefix(special);
    if (text == "\"") return decoded;
    if (!consume(text, "\\")) throw malformed();
    consume_escape(text, decoded);
  }
}

Node value_of(std::string_view text) {
  Node node;
  if (text == "[]") {
    node.kind = Node::Kind::list;
  } else if (consume(text, "\"")) {
    node.kind = Node::Kind::quoted;
    node.text = decode_quoted(text);
  } else {
    require_word(text);
    node.text = text;
  }
  return node;
}

Node map_node() {
  Node node;
  node.kind = Node::Kind::map;
  return node;
}

void add_field(Node& map, std::string_view key, Node value) {
  require_key(key);
  std::vector<Node>& fields = map.children;
  if (fields.size() == kMaxFields) throw corrupt("there are too many keys");
  if (std::any_of(fields.begin(), fields.end(),
                  [key](const Node& field) { return field.key == key; })) {
    throw corrupt("a key stands there twice");
  }
  value.key = key;
  fields.push_back(std::move(value));
}

// Adds `key: value`.
void add_field_line(Node& map, std::string_view text) {
  const std::size_t colon = text.find(": ");
  if (colon == std::string_view::npos) throw malformed();
  add_field(map, text.substr(0, colon), value_of(text.substr(colon + 2)));
}

/// Takes the lines one after the other.
class Reader {
 public:
  void take(std::string_view line) {
    if (consume(line, kFieldOfItem)) {
      take_field_of_item(line);
    } else if (consume(line, kItem)) {
      take_item(line);
    } else if (line.ends_with(':')) {
      begin_list(line.substr(0, line.size() - 1));
    } else {
      end_list();
      add_field_line(root_, line);
    }
  }

  Node finish() {
    end_list();
    return std::move(root_);
  }

 private:
  void begin_list(std::string_view key) {
    end_list();
    Node list;
    list.kind = Node::Kind::list;
    add_field(root_, key, std::move(list));
    in_list_ = true;
  }

  void end_list() {
    if (in_list_ && list().empty()) throw corrupt("a value is missing");
    in_list_ = false;
  }

  void take_item(std::string_view line) {
    if (!in_list_) throw corrupt("a list item is out of place");
    // A quoted text may hold what looks like a field.
    if (line.starts_with('"') || line.find(": ") == std::string_view::npos) {
      list().push_back(value_of(line));
    } else {
      add_field_line(list().emplace_back(map_node()), line);
    }
  }

  void take_field_of_item(std::string_view line) {
    if (!in_list_ || list().empty() || list().back().kind != Node::Kind::map) {
      throw corrupt("a field of a list item is out of place");
    }
    add_field_line(list().back(), line);
  }

  // The list is always the youngest field.
  std::vector<Node>& list() { return root_.children.back().children; }

  Node root_ = map_node();
  bool in_list_ = false;
};

void require_printable(std::string_view document) {
  const auto allowed = [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); };
  if (!std::all_of(document.begin(), document.end(), allowed)) {
    throw corrupt("the text has a character that is not printable ASCII");
  }
}

}  // namespace

Node read_record_lines(std::string_view document) {
  require_printable(document);
  Reader reader;
  while (!document.empty()) {
    const std::size_t end = document.find('\n');
    if (end == std::string_view::npos) throw malformed();
    reader.take(document.substr(0, end));
    document.remove_prefix(end + 1);
  }
  return reader.finish();
}

}  // namespace fscryptctl
