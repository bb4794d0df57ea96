// Feeds bytes to the readers of other tools' formats. The first byte chooses one; what a reader
// accepts must be fit for a record of ours and come out of writing and reading as it was.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "fscryptctl/base/error.h"
#include "fscryptctl/metadata/google_fscrypt.h"
#include "fscryptctl/metadata/homed.h"
#include "fscryptctl/metadata/yaml_codec.h"

namespace {

using namespace fscryptctl;

constexpr std::string_view kId = "0123456789abcdef";
constexpr std::string_view kPolicyId = "0123456789abcdef0123456789abcdef";

void require(bool kept) {
  if (!kept) std::abort();
}

void check_protector(std::string_view bytes) {
  const GoogleProtector protector = parse_google_protector(bytes, *ProtectorId::from_hex(kId));
  ProtectorRecord record;
  record.summary.id = protector.id;
  record.summary.name = "name";
  record.summary.source = protector.source;
  record.summary.created = "2026-11-22T10:11:12Z";
  record.wrappings = {protector.wrapping};
  summarise(record);
  require(parse_protector(emit(record)) == record);
}

void check_policy(std::string_view bytes, std::string_view name) {
  const GooglePolicy policy = parse_google_policy(bytes, name);
  PolicyRecord record;
  record.summary.key_identifier = policy.key_identifier;
  record.options = policy.options;
  record.wrappings = policy.wrappings;
  summarise(record);
  require(parse_policy(emit(record)) == record);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    switch (data[0]) {
      case 'p':
        check_protector(bytes);
        break;
      case '1':
        check_policy(bytes, kId);
        break;
      case '2':
        check_policy(bytes, kPolicyId);
        break;
      case 'h':
        require(parse_homed_slot(bytes).iterations <= kMaxHomedIterations);
        break;
      default:
        (void)parse_google_link(bytes);
    }
  } catch (const Error& error) {
    require(error.code() == Errc::corrupt_metadata || error.code() == Errc::newer_format ||
            error.code() == Errc::policy_version || error.code() == Errc::kdf_limit);
  }
  return 0;
}
