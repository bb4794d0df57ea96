#include "fscryptctl/core/share.h"

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/utc_time.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/crypto/random.h"

namespace fscryptctl {
namespace {

void require_same_modes(const Target& target, const PolicyRecord& record) {
  if (target.policy->options == record.options) return;
  throw Error(Errc::corrupt_metadata, "the record names other modes than the directory has")
      .with_path(target.path);
}

/// The recorded paths; without one, the path that was named.
std::vector<std::string> paths_of(const Context& context, const Target& target,
                                  const PolicyRecord& record) {
  if (!record.summary.paths.empty()) return record.summary.paths;
  const NamedFile file = open_named(target.path);
  const std::optional<std::string> hint = target.filesystem.hint_of(file.fd.get(), context.mounts);
  return hint ? std::vector{*hint} : std::vector<std::string>{};
}

}  // namespace

Share make_share(Context& context, const std::string& path,
                 const std::optional<std::string>& protector, Opener& opener) {
  const Target target = look_at(context, path);
  const KeyIdentifier key = require_v2_key(target);
  const std::optional<FoundPolicy> found =
      find_record(context, target.filesystem, target.owner.uid, key);
  if (!found) throw not_managed(target.filesystem, path);
  require_same_modes(target, found->record);
  if (found->record.operation) {
    throw Error(Errc::in_use, "a conversion of " + printable(path) + " is in progress")
        .with_path(path);
  }
  const UnlockedPolicy policy = open_policy(found->store, found->record, protector, opener, path);
  Share share{SharedPolicy{}, random_key<ShareCode>()};
  share.shared.created = now_rfc3339();
  share.shared.key_identifier = key;
  share.shared.filesystem = target.filesystem.uuid();
  share.shared.paths = paths_of(context, target, found->record);
  share.shared.options = found->record.options;
  const WrappingKey wrapping_key = wrapping_key_of(share.code);
  share.shared.wrapped = wrap(wrapping_key, context_of(share.shared), policy.key);
  return share;
}

std::optional<PolicyKey> open_share(const SharedPolicy& shared, const ShareCode& code) {
  const WrappingKey wrapping_key = wrapping_key_of(code);
  return unwrap(wrapping_key, context_of(shared), shared.wrapped);
}

}  // namespace fscryptctl
