#include "fscryptctl/core/share.h"

#include <fcntl.h>

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

/// True if the directory above what the hint names has the key, too: then the policy's own
/// directory lies higher up.
bool lies_inside(const Context& context, const Target& target, const std::string& hint,
                 const KeyIdentifier& key) {
  const std::size_t slash = hint.find_last_of('/');
  if (slash == std::string::npos) return false;
  const UniqueFd above = target.filesystem.open_hint(hint.substr(0, slash));
  if (!above) return false;
  const UniqueFd readable(
      ::openat(above.get(), ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
  if (!readable) return file_info(above.get()).encrypted;
  const std::optional<KernelPolicy> policy = context.kernel.get_policy(readable.get());
  return policy && policy->key == KeySpecifier(key);
}

/// The recorded paths, and where the directory was just found, as the newest: it may have been
/// moved.
std::vector<std::string> paths_of(const Context& context, const Target& target,
                                  const PolicyRecord& record) {
  PolicyRecord noted = record;
  const NamedFile file = open_named(target.path);
  const std::optional<std::string> hint = target.filesystem.hint_of(file.fd.get(), context.mounts);
  if (hint && target.directory &&
      !lies_inside(context, target, *hint, record.summary.key_identifier)) {
    add_hint(noted, *hint);
  }
  return noted.summary.paths;
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
  require_no_operation(found->record);
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
