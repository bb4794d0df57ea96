#include "strict_yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <sstream>
#include <system_error>
#include <utility>

namespace fscryptctl::yaml {
namespace {

constexpr std::size_t kMaxDepth = 5;
constexpr std::size_t kMaxEvents = 500;

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// yaml-cpp looks at a byte-order mark, tabs, carriage returns and directives in ways of its own;
// none of them gets that far.
void require_readable(std::string_view text) {
  if (text.size() > kMaxTextSize) throw corrupt("the text is too long");
  char previous = '\n';
  for (const char c : text) {
    if (c != '\n' && (c < ' ' || c > '~')) {
      throw corrupt("the text has a character that is not printable ASCII");
    }
    if (c == '%' && previous == '\n') throw corrupt("the text has a directive");
    previous = c;
  }
}

// Builds the tree from yaml-cpp's events. Loading with yaml-cpp's own tree would accept duplicate
// keys (the first wins), resolve aliases and recurse as deep as the text asks for.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder() { root_.kind = Node::Kind::map; }

  [[nodiscard]] Node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override { throw corrupt("a value is missing"); }
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {
    throw corrupt("the text has an alias");
  }

  void OnScalar(const YAML::Mark&, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // yaml-cpp tags a quoted scalar "!" and a plain one "?".
    const Node::Kind kind = tag == "!" ? Node::Kind::quoted : Node::Kind::plain;
    check(tag, anchor);
    if (expects_key()) {
      take_key(kind, value);
    } else {
      add(kind).text = value;
    }
  }

  void OnSequenceStart(const YAML::Mark&, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    check(tag, anchor);
    open(Node::Kind::list);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark&, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    check(tag, anchor);
    open(Node::Kind::map);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  void check(const std::string& tag, YAML::anchor_t anchor) {
    if (++events_ > kMaxEvents) throw corrupt("the text has too many values");
    if (anchor != 0) throw corrupt("the text has an anchor");
    if (!tag.empty() && tag != "?" && tag != "!") throw corrupt("the text has a tag");
  }

  [[nodiscard]] bool expects_key() const {
    return !open_.empty() && open_.back()->kind == Node::Kind::map && !has_key_;
  }

  void take_key(Node::Kind kind, const std::string& key) {
    if (kind != Node::Kind::plain) throw corrupt("a key is quoted");
    const std::vector<Node>& siblings = open_.back()->children;
    if (std::any_of(siblings.begin(), siblings.end(),
                    [&](const Node& sibling) { return sibling.key == key; })) {
      throw corrupt("a key stands there twice");
    }
    key_ = key;
    has_key_ = true;
  }

  Node& add(Node::Kind kind) {
    if (expects_key()) throw corrupt("a key is not a scalar");
    Node& node = open_.empty() ? root_ : open_.back()->children.emplace_back();
    node.kind = kind;
    if (has_key_) node.key = std::move(key_);
    has_key_ = false;
    return node;
  }

  void open(Node::Kind kind) {
    if (open_.size() == kMaxDepth) throw corrupt("the text is nested too deeply");
    open_.push_back(&add(kind));
  }

  Node root_;
  // Pointers into the parents' vectors: a vector grows only while its owner is the innermost one,
  // and then none of its elements is open.
  std::vector<Node*> open_;
  std::string key_;
  bool has_key_ = false;
  std::size_t events_ = 0;
};

}  // namespace

Error corrupt(const std::string& fact) { return {Errc::corrupt_metadata, fact}; }

Node read_document(std::string_view text) {
  require_readable(text);
  TreeBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder) && parser.HandleNextDocument(builder)) {
      throw corrupt("the text has more than one document");
    }
  } catch (const YAML::Exception&) {
    // Its message may quote the text.
    throw corrupt("the text is not well-formed");
  }
  return builder.take();
}

Fields::Fields(const Node& map) : map_(map) {
  if (map.kind != Node::Kind::map) throw corrupt("a value is not a map");
}

const Node* Fields::optional(std::string_view key) {
  const auto found = std::find_if(map_.children.begin(), map_.children.end(),
                                  [&](const Node& child) { return child.key == key; });
  if (found == map_.children.end()) return nullptr;
  ++taken_;
  return &*found;
}

const Node& Fields::required(std::string_view key) {
  const Node* node = optional(key);
  if (node == nullptr) throw corrupt("there is no " + std::string(key));
  return *node;
}

void Fields::finish() const {
  // Keys are unique and each was asked for once, so equal numbers mean equal sets.
  if (taken_ != map_.children.size()) throw corrupt("there is an unknown key");
}

const std::string& plain(const Node& node) {
  // A plain scalar folded from several lines has spaces and is refused here.
  const auto allowed = [](char c) {
    return is_alphanumeric(c) || c == '_' || c == '-' || c == ':';
  };
  if (node.kind != Node::Kind::plain || !std::all_of(node.text.begin(), node.text.end(), allowed)) {
    throw corrupt("a value is not a plain word or number");
  }
  return node.text;
}

const std::string& quoted(const Node& node) {
  if (node.kind != Node::Kind::quoted) throw corrupt("a value is not a quoted text");
  return node.text;
}

std::uint64_t integer(const Node& node, std::uint64_t min, std::uint64_t max) {
  const std::string& text = plain(node);
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const bool leading_zero = text.size() > 1 && text.front() == '0';
  // from_chars takes no sign, no space and no prefix for unsigned decimal numbers.
  if (error != std::errc() || stop != end || leading_zero || value < min || value > max) {
    throw corrupt("a number is malformed or out of range");
  }
  return value;
}

const std::vector<Node>& list(const Node& node) {
  if (node.kind != Node::Kind::list) throw corrupt("a value is not a list");
  return node.children;
}

}  // namespace fscryptctl::yaml
