#include "fscryptctl/metadata/journal.h"

#include <algorithm>
#include <array>
#include <limits>

#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/model.h"
#include "fscryptctl/metadata/record_rules.h"
#include "record_fields.h"
#include "record_layout.h"
#include "record_lines.h"
#include "record_writer.h"
#include "strict_yaml.h"

namespace fscryptctl {
namespace {

using yaml::corrupt;
using yaml::Fields;
using yaml::Node;

constexpr std::string_view kMark = "---\n";
constexpr std::string_view kMacField = "mac: ";
constexpr std::size_t kMacLineSize = kMacField.size() + 2 * sizeof(JournalMac) + 1;
constexpr std::uint64_t kMaxU64 = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint32_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::uint64_t kMaxMode = 07777;

template <class Value, std::size_t N>
using Names = std::array<std::pair<Value, std::string_view>, N>;

constexpr Names<Journal::Command, 3> kCommands{{{Journal::Command::convert, "convert"},
                                                {Journal::Command::reencrypt, "reencrypt"},
                                                {Journal::Command::decrypt, "decrypt"}}};
constexpr Names<Journal::Strategy, 2> kStrategies{
    {{Journal::Strategy::copy, "copy"}, {Journal::Strategy::low_space, "low-space"}}};
constexpr Names<Journal::State, 5> kStates{{{Journal::State::copying, "copying"},
                                            {Journal::State::moving, "moving"},
                                            {Journal::State::exchanging, "exchanging"},
                                            {Journal::State::removing, "removing"},
                                            {Journal::State::returning, "returning"}}};

template <class Value, std::size_t N>
std::string_view find_name(const Names<Value, N>& names, Value value) {
  for (const auto& [known_value, name] : names) {
    if (known_value == value) return name;
  }
  throw Error(Errc::internal, "a journal has a value without a name");
}

template <class Value, std::size_t N>
Value read_name(const Names<Value, N>& names, const Node& node) {
  for (const auto& [value, name] : names) {
    if (yaml::plain(node) == name) return value;
  }
  throw unknown("word in a journal");
}

// --- writing

void emit_number(Lines& lines, std::string_view key, std::uint64_t value) {
  lines.field(key, std::to_string(value));
}

void emit_flag(Lines& lines, std::string_view key, bool value) { emit_number(lines, key, value); }

void emit_pair(Lines& lines, std::string_view key, std::uint64_t first, std::uint32_t second) {
  lines.field(key, std::to_string(first) + ":" + std::to_string(second));
}

void emit_inode(Lines& lines, std::string_view key, const Journal::Inode& inode) {
  emit_pair(lines, key, inode.number, inode.generation);
}

void emit_time(Lines& lines, std::string_view key, const Journal::Time& time) {
  emit_pair(lines, key, static_cast<std::uint64_t>(time.seconds), time.nanoseconds);
}

void emit_one_path(Lines& lines, std::string_view key, const std::string& path) {
  lines.begin_list(key);
  emit_path(lines, path);
}

void emit_part(Lines& lines, const Journal::Part& part) {
  emit_inode(lines, "part_source", part.source);
  emit_inode(lines, "part_destination", part.destination);
  emit_one_path(lines, "part_path", part.path);
  emit_number(lines, "part_size", part.size);
  emit_number(lines, "part_source_size", part.source_size);
  emit_time(lines, "part_accessed", part.accessed);
  emit_time(lines, "part_modified", part.modified);
  emit_time(lines, "part_source_modified", part.source_modified);
}

std::string emit_fields(const Journal& journal) {
  Lines lines;
  lines.begin_document();
  lines.field("format", "fscryptctl-journal-1");
  lines.field("operation", journal.operation.hex());
  lines.field("command", name_of(journal.command));
  lines.field("strategy", name_of(journal.strategy));
  lines.field("state", name_of(journal.state));
  emit_flag(lines, "verify", journal.verify);
  emit_flag(lines, "bound", journal.bound);
  if (journal.key) lines.field("key_identifier", journal.key->hex());
  if (journal.previous) lines.field("previous", journal.previous->hex());
  emit_one_path(lines, "path", journal.path);
  emit_inode(lines, "original", journal.original);
  emit_inode(lines, "replacement", journal.replacement);
  emit_number(lines, "original_mode", journal.original_mode);
  emit_number(lines, "mode", journal.mode);
  emit_time(lines, "since", journal.since);
  emit_number(lines, "files", journal.files);
  emit_number(lines, "bytes", journal.bytes);
  if (journal.part) emit_part(lines, *journal.part);
  return lines.take();
}

// --- reading

std::uint64_t read_u64(Fields& fields, const std::string& key, std::uint64_t max = kMaxU64) {
  return yaml::integer(fields.required(key), 0, max);
}

/// Two decimal numbers with a colon between them.
struct Pair {
  std::uint64_t first;
  std::uint32_t second;
};

std::uint64_t read_part_of_pair(std::string_view text, std::uint64_t max) {
  Node number;
  number.text = text;
  return yaml::integer(number, 0, max);
}

Pair read_pair(const Node& node, std::uint32_t max_second) {
  const std::string_view text = yaml::plain(node);
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) throw corrupt("a pair of numbers is malformed");
  return {read_part_of_pair(text.substr(0, colon), kMaxU64),
          static_cast<std::uint32_t>(read_part_of_pair(text.substr(colon + 1), max_second))};
}

Journal::Inode read_inode(const Node& node) {
  const Pair pair = read_pair(node, std::numeric_limits<std::uint32_t>::max());
  return {pair.first, pair.second};
}

Journal::Time read_time(Fields& fields, std::string_view key) {
  const Pair pair = read_pair(fields.required(key), kNanosecondsPerSecond - 1);
  return {static_cast<std::int64_t>(pair.first), pair.second};
}

std::string read_one_path(Fields& fields, std::string_view key) {
  const std::vector<Node>& paths = yaml::list(fields.required(key));
  if (paths.size() != 1) throw corrupt("a journal names one path");
  std::string path = read_path(paths.front());
  if (!valid_path_hint(path)) throw corrupt("a path is invalid");
  return path;
}

std::optional<KeyIdentifier> read_key(Fields& fields, std::string_view key) {
  const Node* const node = fields.optional(key);
  if (node == nullptr) return std::nullopt;
  return read_identifier<KeyIdentifier>(*node);
}

std::uint32_t read_mode(Fields& fields, const std::string& key) {
  return static_cast<std::uint32_t>(read_u64(fields, key, kMaxMode));
}

Journal::Part read_part(Fields& fields) {
  Journal::Part part;
  part.destination = read_inode(fields.required("part_destination"));
  part.path = read_one_path(fields, "part_path");
  part.size = read_u64(fields, "part_size");
  part.source_size = read_u64(fields, "part_source_size", part.size);
  part.accessed = read_time(fields, "part_accessed");
  part.modified = read_time(fields, "part_modified");
  part.source_modified = read_time(fields, "part_source_modified");
  return part;
}

Journal read_fields(Fields& fields) {
  Journal journal;
  (void)yaml::plain(fields.required("format"));  // judged before
  journal.operation = read_identifier<OperationId>(fields.required("operation"));
  journal.command = read_name(kCommands, fields.required("command"));
  journal.strategy = read_name(kStrategies, fields.required("strategy"));
  journal.state = read_name(kStates, fields.required("state"));
  journal.verify = read_u64(fields, "verify", 1) == 1;
  journal.bound = read_u64(fields, "bound", 1) == 1;
  journal.key = read_key(fields, "key_identifier");
  journal.previous = read_key(fields, "previous");
  journal.path = read_one_path(fields, "path");
  journal.original = read_inode(fields.required("original"));
  journal.replacement = read_inode(fields.required("replacement"));
  journal.original_mode = read_mode(fields, "original_mode");
  journal.mode = read_mode(fields, "mode");
  journal.since = read_time(fields, "since");
  journal.files = read_u64(fields, "files");
  journal.bytes = read_u64(fields, "bytes");
  if (const Node* source = fields.optional("part_source")) {
    journal.part = read_part(fields);
    journal.part->source = read_inode(*source);
  }
  fields.finish();
  return journal;
}

/// The text before the line of the MAC. Throws corrupt_metadata if it does not end so.
std::string_view covered_part(std::string_view text) {
  const auto allowed = [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); };
  if (text.size() > kMaxRecordSize || text.size() < kMacLineSize ||
      !std::all_of(text.begin(), text.end(), allowed)) {
    throw corrupt("the journal is cut off or damaged");
  }
  const std::string_view covered = text.substr(0, text.size() - kMacLineSize);
  if (!covered.ends_with("\n---\n") || !text.substr(covered.size()).starts_with(kMacField) ||
      text.back() != '\n') {
    throw corrupt("the journal is cut off or damaged");
  }
  return covered;
}

}  // namespace

std::string_view name_of(Journal::Command command) { return find_name(kCommands, command); }
std::string_view name_of(Journal::Strategy strategy) { return find_name(kStrategies, strategy); }
std::string_view name_of(Journal::State state) { return find_name(kStates, state); }

std::string emit(const Journal& journal, const JournalKey& key) {
  std::string text = emit_fields(journal).append(kMark);
  const std::string mac = to_hex(journal_mac(key, text));
  text.append(kMacField).append(mac).append("\n");
  if (parse_journal(text) != journal) {
    throw Error(Errc::internal, "a journal cannot be written down");
  }
  return text;
}

Journal parse_journal(std::string_view text) {
  require_known_format(text, "journal");
  std::string_view document = covered_part(text);
  document.remove_prefix(kMark.size());
  document.remove_suffix(kMark.size());
  const Node node = read_record_lines(document);
  Fields fields(node);
  return read_fields(fields);
}

bool is_authentic(std::string_view text, const JournalKey& key) {
  const std::string_view covered = covered_part(text);
  std::string_view mac = text.substr(covered.size() + kMacField.size());
  mac.remove_suffix(1);
  const std::optional<Bytes> given = from_hex(mac);
  if (!given) return false;
  const JournalMac expected = journal_mac(key, covered);
  return equal_secrets(SecretBytes(ByteView(*given)), SecretBytes(ByteView(expected)));
}

}  // namespace fscryptctl
