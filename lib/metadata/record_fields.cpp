#include "record_fields.h"

#include <bit>
#include <limits>
#include <utility>

#include "fscryptctl/crypto/base64.h"

namespace fscryptctl {

using yaml::corrupt;
using yaml::Fields;
using yaml::Node;

namespace {

constexpr std::uint64_t kMaxU32 = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kMinDataUnitSize = 512;
constexpr std::uint64_t kMaxDataUnitSize = 65536;

void read_flag(const std::string& name, EncryptionOptions& options) {
  bool* flag = nullptr;
  if (name == "DIRECT_KEY") flag = &options.direct_key;
  if (name == "IV_INO_LBLK_64") flag = &options.iv_ino_lblk_64;
  if (name == "IV_INO_LBLK_32") flag = &options.iv_ino_lblk_32;
  if (flag == nullptr) throw unknown("flag");
  if (*flag) throw corrupt("a flag stands there twice");
  *flag = true;
}

unsigned read_log2_data_unit_size(const Node& node) {
  const std::uint64_t size = yaml::integer(node, 0, kMaxDataUnitSize);
  if (size == 0) return 0;
  // A size of 1 would have the logarithm 0, which means the default.
  if (size < kMinDataUnitSize || !std::has_single_bit(size)) {
    throw corrupt("the data unit size is invalid");
  }
  return static_cast<unsigned>(std::countr_zero(size));
}

}  // namespace

Bytes read_bytes(const Node& node, std::size_t size) {
  std::optional<Bytes> bytes = from_hex(yaml::plain(node));
  if (!bytes || bytes->size() != size) throw corrupt("a byte string is malformed");
  return std::move(*bytes);
}

std::uint32_t read_u32(const Node& node) {
  return static_cast<std::uint32_t>(yaml::integer(node, 0, kMaxU32));
}

// An escape may name any code point, so the text is checked as a whole.
std::string read_text(const Node& node) {
  const std::string& text = yaml::quoted(node);
  if (text.empty() || !is_utf8(text)) throw corrupt("a text is malformed");
  return text;
}

std::string read_path(const Node& node) {
  if (node.kind != Node::Kind::map) return read_text(node);
  Fields fields(node);
  const std::optional<Bytes> bytes = base64_decode(yaml::quoted(fields.required("base64")));
  fields.finish();
  if (!bytes) throw corrupt("a path is malformed");
  std::string path(bytes->begin(), bytes->end());
  if (is_utf8(path)) throw corrupt("a path is encoded without need");
  return path;
}

WrappedKey read_wrapped_key(Fields& fields, std::size_t key_size) {
  return {read_array<32>(fields.required("salt")),
          read_bytes(fields.required("ciphertext"), key_size),
          read_array<32>(fields.required("mac"))};
}

EncryptionOptions read_options(Fields& fields) {
  EncryptionOptions options;
  options.contents =
      known(contents_mode_from_name(yaml::plain(fields.required("contents"))), "contents mode");
  options.filenames =
      known(filenames_mode_from_name(yaml::plain(fields.required("filenames"))), "filenames mode");
  options.padding_bytes = read_u32(fields.required("padding"));
  for (const Node& flag : yaml::list(fields.required("flags"))) {
    read_flag(yaml::plain(flag), options);
  }
  options.log2_data_unit_size = read_log2_data_unit_size(fields.required("data_unit_size"));
  return options;
}

}  // namespace fscryptctl
