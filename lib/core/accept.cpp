#include <fcntl.h>

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/new_protector.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/core/share.h"

namespace fscryptctl {
namespace {

/// Looks with the user's rights: a path in a share may lead anywhere.
std::optional<KernelPolicy> policy_at(const Context& context, const Filesystem& filesystem,
                                      const std::string& hint) {
  const ActAs acting(context.user_without_path());
  const UniqueFd found = filesystem.open_hint(hint);
  if (!found) return std::nullopt;
  const UniqueFd readable(
      ::openat(found.get(), ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
  return readable ? context.kernel.get_policy(readable.get()) : std::nullopt;
}

std::optional<std::string> seen_hint(const Context& context, const Filesystem& filesystem,
                                     const SharedPolicy& shared) {
  // The newest is the likeliest.
  for (auto hint = shared.paths.rbegin(); hint != shared.paths.rend(); ++hint) {
    const std::optional<KernelPolicy> policy = policy_at(context, filesystem, *hint);
    if (!policy || policy->key != KeySpecifier(shared.key_identifier)) continue;
    if (policy->options != shared.options) {
      throw Error(Errc::corrupt_metadata, "the share names other modes than the directory has");
    }
    return *hint;
  }
  return std::nullopt;
}

/// Anybody can give a disk of her own any UUID: only root's disks and the user's own count.
std::vector<Filesystem> candidates_for(const Context& context, const SharedPolicy& shared) {
  std::vector<Filesystem> candidates;
  if (shared.filesystem) {
    for (Filesystem& filesystem : local_filesystems(context)) {
      const uid_t owner = filesystem.trusted_owner().uid;
      const bool fit = owner == 0 || owner == context.user_without_path().uid;
      if (!fit || filesystem.uuid() != shared.filesystem) continue;
      candidates.push_back(std::move(filesystem));
    }
  }
  candidates.push_back(filesystem_of_path(context, "."));
  return candidates;
}

/// One run of `accept`, with the key in hand.
class Acceptance {
 public:
  Acceptance(Context& context, const SharePlace& place, const SharedPolicy& shared,
             const PolicyKey& key, const AcceptRequest& request, SecretProvider& secrets)
      : context_(context),
        place_(place),
        shared_(shared),
        request_(request),
        secrets_(secrets),
        opener_(secrets, context),
        store_(place.filesystem.store_for_writing(context.user_without_path())),
        record_(make_record(shared, place)),
        key_(key) {
    if (!request_.name) return;
    if (const auto reason = invalid_name(*request_.name)) throw Error(Errc::usage, *reason);
  }

  AcceptResult run() {
    for (int tries = 0; tries < kTries; ++tries) {
      NewProtector chosen = request_.protector ? existing_protector() : new_protector();
      UnlockedPolicy policy{record_, PolicyKey(SecretBytes(key_.view()))};
      wrap_for(policy, chosen.open);
      context_.throw_if_interrupted();
      if (std::optional<AcceptResult> result = write(policy.record, chosen)) return *result;
    }
    throw Error(Errc::metadata_locked, "the protectors are being changed by others all the time");
  }

 private:
  static constexpr int kTries = 10;

  static PolicyRecord make_record(const SharedPolicy& shared, const SharePlace& place) {
    PolicyRecord record;
    record.summary.key_identifier = shared.key_identifier;
    record.options = shared.options;
    record.summary.paths = place.hint ? std::vector{*place.hint} : shared.paths;
    return record;
  }

  [[nodiscard]] NameWish name_wish() const {
    const std::vector<std::string>& paths = record_.summary.paths;
    return {request_.name, paths.empty() ? "shared" : base_name("/" + paths.back())};
  }

  [[nodiscard]] std::string target() const {
    if (record_.summary.paths.empty()) return shared_.key_identifier.hex();
    const std::string& hint = record_.summary.paths.back();
    return place_.filesystem.path_of_hint(hint).value_or("/" + hint);
  }

  NewProtector existing_protector() {
    const std::string& name = *request_.protector;
    const std::optional<ProtectorId> id = ProtectorId::from_hex(name);
    const ProtectorId chosen =
        id && store_.protector(*id) ? *id : find_protector(store_.protectors().records, name).id;
    const OpenProtector& open =
        opener_.open_any(read_protectors(store_, {chosen}), "protector " + printable(name), true);
    return {{open.record, ProtectorKey(SecretBytes(open.key.view()))}, true};
  }

  NewProtector new_protector() {
    if (!secret_) secret_ = secrets_.fresh(request_.source, target());
    return make_or_take_up(context_, store_, *secret_, name_wish(),
                           [this](const ProtectorId& id) { return !is_used(id); });
  }

  [[nodiscard]] bool is_used(const ProtectorId& id) const {
    const Listing<PolicySummary> policies = store_.policies();
    // What cannot be read may use it.
    if (!policies.complete || !policies.damaged.empty()) return true;
    return std::any_of(policies.records.begin(), policies.records.end(),
                       [&](const PolicySummary& policy) { return is_opened_by(policy, id); });
  }

  /// The protector first: no policy waits for its way in. nullopt if it has changed since it was
  /// opened, or its name was taken.
  std::optional<AcceptResult> write(const PolicyRecord& policy, NewProtector& protector) {
    const UserStore::Lock lock = store_.lock(context_.throw_if_interrupted);
    if (store_.policy(shared_.key_identifier)) {
      return AcceptResult{false, store_.user(), protector.open.record.summary};  // faster
    }
    if (!write_new(store_, lock, name_wish(), protector)) return std::nullopt;
    store_.write(lock, policy);
    return AcceptResult{true, store_.user(), protector.open.record.summary};
  }

  Context& context_;
  const SharePlace& place_;
  const SharedPolicy& shared_;
  const AcceptRequest& request_;
  SecretProvider& secrets_;
  Opener opener_;
  UserStore store_;
  PolicyRecord record_;
  const PolicyKey& key_;
  std::optional<Secret> secret_;  ///< the new one, asked for once
};

}  // namespace

SharePlace find_share_place(Context& context, const SharedPolicy& shared,
                            const std::optional<std::string>& mount) {
  if (mount) {
    Filesystem filesystem = filesystem_of_path(context, *mount);
    std::optional<std::string> hint = seen_hint(context, filesystem, shared);
    return {std::move(filesystem), std::move(hint)};
  }
  std::vector<Filesystem> candidates = candidates_for(context, shared);
  for (Filesystem& filesystem : candidates) {
    if (auto hint = seen_hint(context, filesystem, shared)) {
      return {std::move(filesystem), std::move(hint)};
    }
  }
  return {std::move(candidates.front()), std::nullopt};
}

std::optional<PolicyRecord> accepted_before(const Context& context, const SharePlace& place,
                                            const SharedPolicy& shared) {
  static_cast<void>(place.filesystem.require_metadata());
  return find_policy(place.filesystem.store(context.user_without_path()), shared.key_identifier);
}

AcceptResult accept_share(Context& context, const SharePlace& place, const SharedPolicy& shared,
                          const PolicyKey& key, const AcceptRequest& request,
                          SecretProvider& secrets) {
  return Acceptance(context, place, shared, key, request, secrets).run();
}

}  // namespace fscryptctl
