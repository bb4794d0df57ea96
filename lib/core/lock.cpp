#include "fscryptctl/core/lock.h"

#include <unistd.h>

#include <algorithm>
#include <set>
#include <thread>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

using Clock = std::chrono::steady_clock;

KeyStatus status_for(Context& context, const Filesystem& filesystem, const KeyIdentifier& key,
                     Identity user) {
  const ActAs acting(user);
  return context.kernel.key_status(filesystem.fd(), key);
}

RemoveOutcome remove_once(Context& context, const Filesystem& filesystem, const KeyIdentifier& key,
                          Identity user, RemoveScope scope) {
  // Dropping everybody's claims is root's own right and would be lost by acting as the user.
  if (scope == RemoveScope::all_users) {
    return context.kernel.remove_key(filesystem.fd(), key, scope);
  }
  const ActAs acting(user);
  return context.kernel.remove_key(filesystem.fd(), key, scope);
}

/// Busy files do not heal themselves: the kernel evicts what is left only when it is asked again.
void remove_until_locked(Context& context, const Filesystem& filesystem, const KeyIdentifier& key,
                         Identity user, const LockRequest& request) {
  const RemoveScope scope = request.all_users ? RemoveScope::all_users : RemoveScope::own_claim;
  const Clock::time_point deadline = Clock::now() + request.wait;
  std::chrono::milliseconds pause{20};
  while (remove_once(context, filesystem, key, user, scope) == RemoveOutcome::files_busy) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return;
    std::this_thread::sleep_for(std::min(pause, left));
    context.throw_if_interrupted();
    pause = std::min(pause * 2, std::chrono::milliseconds(500));
  }
}

LockResult lock_key(Context& context, const Filesystem& filesystem, const KeyIdentifier& key,
                    Identity user, const LockRequest& request) {
  LockResult result;
  result.mount_point = filesystem.mount().mount_point;
  result.key_identifier = key;
  const KeyStatus before = status_for(context, filesystem, key, user);
  remove_until_locked(context, filesystem, key, user, request);
  result.key = status_for(context, filesystem, key, user);
  result.changed = before != result.key;
  if (result.changed) {
    context.explain("took key " + key.hex() + " from the kernel for " +
                    (request.all_users ? "all users" : "user " + std::to_string(user.uid)));
  }
  if (result.key.state == KeyState::incompletely_removed) {
    result.scan = find_holders(context.kernel, filesystem.fd(), key);
    // A descriptor that a shell passed on to us ends with us; the shell's own is listed.
    std::erase_if(result.scan.holders,
                  [](const Holder& holder) { return holder.pid == ::getpid(); });
  }
  return result;
}

std::vector<std::string> paths_of(const Filesystem& filesystem, const PolicySummary& policy) {
  std::vector<std::string> paths;
  for (const std::string& hint : policy.paths) {
    if (std::optional<std::string> path = filesystem.path_of_hint(hint)) {
      paths.push_back(std::move(*path));
    }
  }
  return paths;
}

bool worth_locking(const KeyStatus& key, const LockRequest& request) {
  if (key.state == KeyState::absent) return false;
  return request.all_users || key.added_by_self || key.state == KeyState::incompletely_removed;
}

}  // namespace

LockResult lock_directory(Context& context, const std::string& path, const LockRequest& request) {
  const Target target = look_at(context, path);
  const KeyIdentifier key = require_v2_key(target);
  LockResult result =
      lock_key(context, target.filesystem, key, context.user_for(target.owner.uid), request);
  result.paths = {path};
  return result;
}

std::vector<LockResult> lock_filesystem(Context& context, const Filesystem& filesystem,
                                        const LockRequest& request) {
  std::vector<LockResult> results;
  const std::optional<MetadataRoot> metadata = filesystem.metadata();
  if (!metadata) return results;
  for (const Identity& user : context.users_to_list(*metadata)) {
    const std::optional<UserStore> store = UserStore::open(*metadata, user);
    if (!store) continue;
    for (const PolicySummary& policy : store->policies().records) {
      const KeyIdentifier& key = policy.key_identifier;
      if (!worth_locking(status_for(context, filesystem, key, user), request)) continue;
      results.push_back(lock_key(context, filesystem, key, user, request));
      results.back().paths = paths_of(filesystem, policy);
    }
  }
  return results;
}

}  // namespace fscryptctl
