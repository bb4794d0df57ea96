#include "fscryptctl/core/lock.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <thread>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

using Clock = std::chrono::steady_clock;

KeyStatus status_for(Context& context, const Filesystem& filesystem, const KeySpecifier& key,
                     Identity user) {
  const ActAs acting(user);
  return context.kernel.key_status(filesystem.fd(), key);
}

RemoveOutcome remove_once(Context& context, const Filesystem& filesystem, const KeySpecifier& key,
                          Identity user, RemoveScope scope) {
  // Dropping everybody's claims is root's own right and would be lost by acting as the user.
  if (scope == RemoveScope::all_users) {
    return context.kernel.remove_key(filesystem.fd(), key, scope);
  }
  const ActAs acting(user);
  return context.kernel.remove_key(filesystem.fd(), key, scope);
}

/// Busy files do not heal themselves: the kernel evicts what is left only when it is asked again.
void remove_until_locked(Context& context, const Filesystem& filesystem, const KeySpecifier& key,
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

LockResult lock_key(Context& context, const Filesystem& filesystem, const KeySpecifier& key,
                    Identity user, const LockRequest& request) {
  LockResult result;
  result.mount_point = filesystem.mount().mount_point;
  result.specifier = key;
  const KeyStatus before = status_for(context, filesystem, key, user);
  // What is done so far is reported before the interruption goes on.
  try {
    remove_until_locked(context, filesystem, key, user, request);
  } catch (const Error& error) {
    if (error.code() != Errc::interrupted) throw;
    result.interrupted = true;
  }
  result.key = status_for(context, filesystem, key, user);
  result.changed = before != result.key;
  if (result.changed) {
    context.explain("took key " + hex_of(key) + " from the kernel for " +
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

/// A record that cannot be read still tells its key by its file's name.
std::optional<PolicySummary> from_file_name(const DamagedRecord& damaged) {
  const std::string name = std::filesystem::path(damaged.file).stem().string();
  const std::optional<KeyIdentifier> key = KeyIdentifier::from_hex(name);
  if (!key) return std::nullopt;
  PolicySummary policy;
  policy.key_identifier = *key;
  return policy;
}

/// nullopt for a version 2 policy, or none.
std::optional<KeyDescriptor> v1_key_of(const Target& target) {
  if (!target.policy) return std::nullopt;
  const auto* const descriptor = std::get_if<KeyDescriptor>(&target.policy->key);
  return descriptor != nullptr ? std::optional(*descriptor) : std::nullopt;
}

LockResult lock_target(Context& context, const Target& target, const LockRequest& request) {
  const Filesystem& filesystem = target.filesystem;
  if (const std::optional<KeyDescriptor> descriptor = v1_key_of(target)) {
    const KeyStatus status = context.kernel.key_status(filesystem.fd(), *descriptor);
    if (status.state == KeyState::absent) {
      throw Error(Errc::policy_version, printable(target.path) +
                                            " has a version 1 policy whose key is not on its "
                                            "filesystem: locked, or unlocked by another tool")
          .with_path(target.path);
    }
    return lock_key(context, filesystem, *descriptor, context.caller, request);
  }
  const KeyIdentifier key = require_v2_key(target);
  const Identity user = user_of_key(context, filesystem, target.owner.uid, key);
  return lock_key(context, filesystem, key, user, request);
}

bool worth_locking(const KeyStatus& key, const LockRequest& request) {
  if (key.state == KeyState::absent) return false;
  return request.all_users || key.added_by_self || key.state == KeyState::incompletely_removed;
}

void lock_user(Context& context, const Filesystem& filesystem, const MetadataRoot& metadata,
               Identity user, const LockRequest& request, const LockReport& report) {
  const std::optional<UserStore> store = UserStore::open(metadata, user);
  if (!store) return;
  Listing<PolicySummary> listing = store->policies();
  for (const DamagedRecord& damaged : listing.damaged) {
    report.failed(Error(damaged.code, damaged.reason).with_path(damaged.file));
    if (auto policy = from_file_name(damaged)) listing.records.push_back(std::move(*policy));
  }
  for (const PolicySummary& policy : listing.records) {
    const KeyIdentifier& key = policy.key_identifier;
    if (!worth_locking(status_for(context, filesystem, key, user), request)) continue;
    LockResult result = lock_key(context, filesystem, key, user, request);
    result.paths = paths_of(filesystem, policy);
    report.done(result);
    context.throw_if_interrupted();
  }
}

}  // namespace

LockResult lock_directory(Context& context, const std::string& path, const LockRequest& request) {
  const Target target = look_at(context, path);
  LockResult result = lock_target(context, target, request);
  result.paths = {path};
  return result;
}

void lock_filesystem(Context& context, const Filesystem& filesystem, const LockRequest& request,
                     const LockReport& report) {
  const std::optional<MetadataRoot> metadata = filesystem.metadata();
  if (!metadata) return;
  for (const Identity& user : context.users_to_list(*metadata)) {
    // One user's bad records stop nothing of another's.
    try {
      lock_user(context, filesystem, *metadata, user, request, report);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      report.failed(error);
    }
  }
}

}  // namespace fscryptctl
