#include "fscryptctl/metadata/google_fscrypt.h"

#include <algorithm>
#include <limits>
#include <set>

#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/record_rules.h"
#include "proto3.h"

namespace fscryptctl {
namespace {

using proto3::Message;

constexpr std::uint64_t kMaxU32 = std::numeric_limits<std::uint32_t>::max();
constexpr std::size_t kMaxUuidSize = 64;
constexpr std::size_t kMaxLinkPathSize = 4096;

Error corrupt(const std::string& fact) { return {Errc::corrupt_metadata, fact}; }

void require_size(std::string_view bytes) {
  if (bytes.size() > kMaxGoogleFileSize) throw corrupt("the file is too long");
  if (bytes.empty()) throw corrupt("the file is empty");
}

template <std::size_t N>
std::array<std::uint8_t, N> exactly(std::string_view bytes, const char* what) {
  if (bytes.size() != N) throw corrupt(std::string(what) + " has a wrong size");
  std::array<std::uint8_t, N> result{};
  std::copy(bytes.begin(), bytes.end(), result.begin());
  return result;
}

template <class Id>
Id identifier(std::string_view hex) {
  const std::optional<Id> id = Id::from_hex(hex);
  if (!id) throw corrupt("an identifier is malformed");
  return *id;
}

/// WrappedKeyData
GoogleWrappedKey read_wrapped_key(std::string_view bytes, std::size_t key_size) {
  Message message(bytes);
  GoogleWrappedKey wrapped{};
  wrapped.iv = exactly<16>(message.bytes(1), "an IV");
  const std::string_view ciphertext = message.bytes(2);
  wrapped.mac = exactly<32>(message.bytes(3), "a MAC");
  message.finish();
  if (ciphertext.size() != key_size) throw corrupt("a wrapped key has a wrong size");
  wrapped.ciphertext.assign(ciphertext.begin(), ciphertext.end());
  return wrapped;
}

/// The field holds 64 bits; earlier versions of the tool hashed with the lowest eight of them, and
/// what they wrapped has to be hashed so for ever. `truncation_fixed` marks files of later ones.
std::uint64_t effective_lanes(std::uint64_t parallelism, bool truncation_fixed) {
  constexpr std::uint64_t kLowByte = 0xff;
  return truncation_fixed ? parallelism : parallelism & kLowByte;
}

/// HashingCosts. Negative numbers come out as huge ones and are refused as such.
KdfCosts read_costs(std::string_view bytes) {
  Message message(bytes);
  const std::uint64_t passes = message.integer(2);
  const std::uint64_t memory_kib = message.integer(3);
  const std::uint64_t parallelism = message.integer(4);
  const std::uint64_t lanes = effective_lanes(parallelism, message.boolean(5));
  message.finish();
  if (passes > kMaxU32 || memory_kib > kMaxU32 || lanes > kMaxLanes || parallelism >> 63U != 0) {
    throw corrupt("hashing costs are out of range");
  }
  const KdfCosts costs{static_cast<std::uint32_t>(passes), static_cast<std::uint32_t>(memory_kib),
                       static_cast<std::uint32_t>(lanes)};
  if (!valid_costs(costs)) throw corrupt("hashing costs are out of range");
  return costs;
}

Source read_source(std::uint64_t number) {
  switch (number) {
    case 0:
      throw corrupt("the protector has no source");
    case 1:
      return Source::login;
    case 2:
      return Source::passphrase;
    case 3:
      return Source::raw_key;
    default:
      throw Error(Errc::newer_format, "the protector's source is not known");
  }
}

uid_t read_uid(std::uint64_t number) {
  if (number >= kMaxU32) throw corrupt("the protector's user is out of range");  // -1 is nobody
  return static_cast<uid_t>(number);
}

/// Padding, modes and version of a policy.
struct Options {
  std::uint64_t version;
  EncryptionOptions encryption;
};

/// EncryptionOptions
Options read_options(std::string_view bytes) {
  Message message(bytes);
  Options options{};
  const std::uint64_t padding = message.integer(1);
  const std::uint64_t contents = message.integer(2);
  const std::uint64_t filenames = message.integer(3);
  options.version = std::max<std::uint64_t>(message.integer(4), 1);
  message.finish();
  const auto contents_mode =
      contents_mode_from_number(static_cast<unsigned>(std::min(contents, kMaxU32)));
  const auto filenames_mode =
      filenames_mode_from_number(static_cast<unsigned>(std::min(filenames, kMaxU32)));
  if (!contents_mode || !filenames_mode) {
    throw Error(Errc::newer_format, "an encryption mode is not known");
  }
  options.encryption.contents = *contents_mode;
  options.encryption.filenames = *filenames_mode;
  options.encryption.padding_bytes = static_cast<unsigned>(std::min(padding, kMaxU32));
  // Not written down: the tool sets it whenever it can be set.
  options.encryption.direct_key =
      *contents_mode == Mode::adiantum && *filenames_mode == Mode::adiantum;
  return options;
}

/// WrappedPolicyKey
PolicyWrapping read_policy_wrapping(std::string_view bytes) {
  Message message(bytes);
  const auto protector = identifier<ProtectorId>(message.text(1));
  GoogleWrappedKey wrapped = read_wrapped_key(message.bytes(2), PolicyKey::kSize);
  message.finish();
  return {protector, std::move(wrapped)};
}

void require_different_protectors(const std::vector<PolicyWrapping>& wrappings) {
  std::set<ProtectorId> seen;
  for (const PolicyWrapping& wrapping : wrappings) {
    if (!seen.insert(wrapping.protector).second) throw corrupt("a protector stands there twice");
  }
}

bool is_uuid(std::string_view text) {
  return !text.empty() && text.size() <= kMaxUuidSize &&
         text.find_first_not_of("0123456789abcdefABCDEF-") == std::string_view::npos;
}

bool is_absolute_path(std::string_view text) {
  return text.starts_with('/') && text.size() <= kMaxLinkPathSize &&
         text.find('\0') == std::string_view::npos;
}

void take_token(std::string_view line, GoogleLink& link) {
  const std::size_t equals = line.find('=');
  const std::string_view key = line.substr(0, equals);
  std::string* const place = key == "UUID" ? &link.uuid : key == "PATH" ? &link.path : nullptr;
  if (place == nullptr) return;  // later versions may have more to say
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view() : line.substr(equals + 1);
  const bool valid = key == "UUID" ? is_uuid(value) : is_absolute_path(value);
  if (!valid || !place->empty()) throw corrupt("the link is malformed");
  *place = value;
}

}  // namespace

GoogleProtector parse_google_protector(std::string_view bytes, const ProtectorId& id) {
  require_size(bytes);
  Message message(bytes);
  GoogleProtector protector;
  protector.id = identifier<ProtectorId>(message.text(1));
  protector.source = read_source(message.integer(2));
  protector.name = message.text(3);
  const std::string_view costs = message.bytes(4);
  const std::string_view salt = message.bytes(5);
  const std::uint64_t uid = message.integer(6);
  protector.wrapping.wrapped = read_wrapped_key(message.bytes(7), ProtectorKey::kSize);
  message.finish();
  if (protector.id != id) throw corrupt("the file is named after another protector");
  protector.wrapping.method = method_of(protector.source);
  if (is_hashed(protector.wrapping.method)) {
    protector.wrapping.kdf = Argon2id{read_costs(costs), exactly<16>(salt, "a salt")};
  } else if (!salt.empty() || !costs.empty()) {
    throw corrupt("a raw key is not hashed");
  }
  if (protector.source == Source::login) protector.uid = read_uid(uid);
  return protector;
}

GooglePolicy parse_google_policy(std::string_view bytes, std::string_view name) {
  require_size(bytes);
  Message message(bytes);
  const std::string_view descriptor = message.text(1);
  const Options options = read_options(message.bytes(2));
  GooglePolicy policy;
  for (const std::string_view wrapping : message.repeated(3)) {
    policy.wrappings.push_back(read_policy_wrapping(wrapping));
  }
  message.finish();
  require_different_protectors(policy.wrappings);
  if (descriptor != name) throw corrupt("the file is named after another policy");
  if (policy.wrappings.empty()) throw corrupt("the policy has no protector");
  if (const auto fault = invalid_combination(options.encryption)) throw corrupt(*fault);
  if (options.version == 1 && KeyDescriptor::from_hex(name)) {
    throw Error(Errc::policy_version, "a version 1 policy: only version 2 can be taken over");
  }
  if (options.version > 2) throw Error(Errc::newer_format, "the policy's version is not known");
  policy.key_identifier = identifier<KeyIdentifier>(name);
  if (options.version != 2) throw corrupt("the policy's version does not fit its name");
  if (!fits_google_fscrypt(options.encryption)) {
    throw Error(Errc::newer_format, "an encryption mode is not known");
  }
  if (policy.wrappings.size() > kMaxProtectorsOfPolicy) {
    throw Error(Errc::newer_format, "the policy has more than 16 protectors");
  }
  policy.options = options.encryption;
  return policy;
}

GoogleLink parse_google_link(std::string_view text) {
  require_size(text);
  GoogleLink link;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    take_token(text.substr(0, end), link);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (link.uuid.empty() && link.path.empty()) throw corrupt("the link is malformed");
  return link;
}

}  // namespace fscryptctl
