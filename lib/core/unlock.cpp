#include "fscryptctl/core/unlock.h"

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/login_marks.h"
#include "fscryptctl/core/path_note.h"
#include "fscryptctl/core/policy.h"

namespace fscryptctl {
namespace {

UnlockResult unlock_found(Context& context, const Filesystem& filesystem, const FoundPolicy& found,
                          const UnlockRequest& request, Opener& opener, const std::string& target) {
  const KeyIdentifier& key = found.record.summary.key_identifier;
  const auto status = [&] {
    const ActAs user(found.store.user());
    return context.kernel.key_status(filesystem.fd(), key);
  };
  UnlockResult result{key, status(), false};
  // What was unlocked by hand stays unlocked when the last session ends, even if a login had
  // unlocked it before.
  if (!request.dry_run && result.key.state == KeyState::present && result.key.added_by_self) {
    forget_login_mark(found.store.user(), {key, filesystem.mount().device});
  }
  if (!request.dry_run && result.key.state == KeyState::present && result.key.added_by_self) {
    return result;
  }
  const UnlockedPolicy policy =
      open_policy(found.store, found.record, request.protector, opener, target);
  if (request.dry_run) return result;
  context.throw_if_interrupted();
  const ActAs user(found.store.user());
  context.kernel.add_key(filesystem.fd(), policy.key.secret());
  context.explain("added key " + key.hex() + " to the kernel for user " +
                  std::to_string(found.store.user().uid));
  forget_login_mark(found.store.user(), {key, filesystem.mount().device});
  result.key = context.kernel.key_status(filesystem.fd(), key);
  result.changed = true;
  return result;
}

}  // namespace

UnlockResult unlock_directory(Context& context, const std::string& path,
                              const UnlockRequest& request, Opener& opener) {
  const Target target = look_at(context, path);
  const KeyIdentifier key = require_v2_key(target);
  const std::optional<FoundPolicy> found =
      find_record(context, target.filesystem, target.owner.uid, key);
  if (!found) throw not_managed(target.filesystem, path);
  const std::optional<std::string> hint =
      encrypted_directory_hint(context, target.filesystem, path);
  UnlockResult result = unlock_found(context, target.filesystem, *found, request, opener, path);
  if (result.changed && hint) note_hint(context, target.filesystem, *found, *hint);
  return result;
}

UnlockResult unlock_key(Context& context, const Filesystem& filesystem, const KeyIdentifier& key,
                        const UnlockRequest& request, Opener& opener) {
  const std::optional<FoundPolicy> found = find_record(context, filesystem, std::nullopt, key);
  if (!found) {
    throw Error(Errc::no_such_policy, "no record of policy " + key.hex() + " on " +
                                          printable(filesystem.mount().mount_point))
        .with_path(filesystem.mount().mount_point);
  }
  return unlock_found(context, filesystem, *found, request, opener, key.hex());
}

}  // namespace fscryptctl
