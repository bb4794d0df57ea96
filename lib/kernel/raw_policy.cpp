#include "fscryptctl/kernel/raw_policy.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fscrypt_uapi.h"
#include "fscryptctl/base/error.h"
#include "policy_ioctl.h"

namespace fscryptctl {
namespace {

template <class Policy>
Policy policy_from(const uapi::GetPolicyExArgument& argument) {
  Policy policy{};
  static_assert(sizeof policy <= sizeof argument.policy);
  std::memcpy(&policy, argument.policy.data(), sizeof policy);
  return policy;
}

template <class Policy, class Name>
RawPolicy with_key(unsigned version, const Policy& policy, const Name& name) {
  return {version,
          Bytes(name.begin(), name.end()),
          policy.contents_mode,
          policy.filenames_mode,
          policy.flags,
          0};
}

RawPolicy decode(const uapi::GetPolicyExArgument& argument) {
  const std::uint8_t version = argument.policy[0];
  if (version == uapi::kPolicyVersion1 && argument.policy_size == sizeof(uapi::PolicyV1)) {
    const auto policy = policy_from<uapi::PolicyV1>(argument);
    return with_key(1, policy, policy.descriptor);
  }
  if (version == uapi::kPolicyVersion2 && argument.policy_size == sizeof(uapi::PolicyV2)) {
    const auto policy = policy_from<uapi::PolicyV2>(argument);
    RawPolicy raw = with_key(2, policy, policy.identifier);
    raw.log2_data_unit_size = policy.log2_data_unit_size;
    return raw;
  }
  return {version, {}};
}

}  // namespace

int ask_policy(int fd, RawPolicy& policy) {
  uapi::GetPolicyExArgument argument{};
  argument.policy_size = sizeof argument.policy;
  if (ioctl(fd, uapi::kGetPolicyEx, &argument) != 0) return errno;
  policy = decode(argument);
  return 0;
}

RawPolicy read_raw_policy(int fd) {
  RawPolicy policy;
  const int sys_errno = ask_policy(fd, policy);
  if (sys_errno != 0) throw system_error(sys_errno, "cannot read the encryption policy");
  return policy;
}

void set_raw_policy(int directory_fd, const RawPolicy& policy) {
  uapi::PolicyV2 argument{};
  if (policy.version != 2 || policy.key.size() != argument.identifier.size()) {
    throw Error(Errc::internal, "not a version 2 policy", EINVAL);
  }
  argument.version = uapi::kPolicyVersion2;
  argument.contents_mode = policy.contents_mode;
  argument.filenames_mode = policy.filenames_mode;
  argument.flags = policy.flags;
  argument.log2_data_unit_size = policy.log2_data_unit_size;
  std::ranges::copy(policy.key, argument.identifier.begin());
  // Without the sync, the directory would be plain again after a power cut.
  if (ioctl(directory_fd, uapi::kSetPolicy, &argument) != 0 || fsync(directory_fd) != 0) {
    throw system_error(errno, "cannot set the encryption policy");
  }
}

}  // namespace fscryptctl
