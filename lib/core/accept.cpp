#include <fcntl.h>

#include <algorithm>

#include "fscryptctl/base/error.h"
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

std::string last_component(const std::string& hint) {
  const std::size_t slash = hint.find_last_of('/');
  return slash == std::string::npos ? hint : hint.substr(slash + 1);
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
        policy_{make_record(shared, place), PolicyKey(SecretBytes(key.view()))} {}

  AcceptResult run() {
    if (request_.protector) {
      const OpenProtector& existing = open_existing(*request_.protector);
      wrap_for(policy_, existing);
      return write(existing.record, true);
    }
    if (request_.name) {
      if (const auto reason = invalid_name(*request_.name)) throw Error(Errc::usage, *reason);
    }
    const Secret secret = secrets_.fresh(request_.source, target());
    context_.throw_if_interrupted();
    const std::vector<ProtectorSummary> all = store_.protectors().records;
    const std::string wish = request_.name.value_or(free_name(default_name(), {}));
    if (const std::optional<OpenProtector> left = left_over(all, wish, secret)) {
      wrap_for(policy_, *left);
      return write(left->record, true);
    }
    if (request_.name && is_taken(all, wish)) throw taken(wish);
    const OpenProtector made =
        make_protector(secret, free_name(wish, all), costs_for_new_hashing(context_));
    wrap_for(policy_, made);
    return write(made.record, false);
  }

 private:
  static PolicyRecord make_record(const SharedPolicy& shared, const SharePlace& place) {
    PolicyRecord record;
    record.summary.key_identifier = shared.key_identifier;
    record.options = shared.options;
    record.summary.paths = place.hint ? std::vector{*place.hint} : shared.paths;
    return record;
  }

  static Error taken(const std::string& name) {
    return Error(Errc::usage, "there is a protector named " + printable(name) +
                                  " already: use it with --protector, or choose another --name");
  }

  static bool is_taken(const std::vector<ProtectorSummary>& all, const std::string& name) {
    return std::any_of(all.begin(), all.end(),
                       [&](const ProtectorSummary& other) { return other.name == name; });
  }

  [[nodiscard]] std::string default_name() const {
    return shared_.paths.empty() ? "shared" : last_component(policy_.record.summary.paths.back());
  }

  [[nodiscard]] std::string target() const {
    if (policy_.record.summary.paths.empty()) return shared_.key_identifier.hex();
    const std::string& hint = policy_.record.summary.paths.back();
    return place_.filesystem.path_of_hint(hint).value_or("/" + hint);
  }

  const OpenProtector& open_existing(const std::string& name) {
    const std::optional<ProtectorId> id = ProtectorId::from_hex(name);
    const ProtectorId chosen =
        id && store_.protector(*id) ? *id : find_protector(store_.protectors().records, name).id;
    return opener_.open_any(read_protectors(store_, {chosen}), "protector " + printable(name),
                            true);
  }

  /// The protector that an interrupted run wrote: nothing depends on it, and the same secret opens
  /// it.
  std::optional<OpenProtector> left_over(const std::vector<ProtectorSummary>& all,
                                         const std::string& name, const Secret& secret) {
    for (const ProtectorSummary& summary : all) {
      if (summary.name != name || summary.source != secret.kind || is_used(summary.id)) continue;
      const std::optional<ProtectorRecord> record = store_.protector(summary.id);
      if (!record) continue;
      Opener opener(secrets_, context_);
      opener.remember({secret.kind, SecretBytes(secret.bytes.view())});
      if (std::optional<ProtectorKey> key = opener.try_known(*record)) {
        return OpenProtector{*record, std::move(*key)};
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] bool is_used(const ProtectorId& id) const {
    const Listing<PolicySummary> policies = store_.policies();
    // What cannot be read may use it.
    if (!policies.complete || !policies.damaged.empty()) return true;
    return std::any_of(policies.records.begin(), policies.records.end(),
                       [&](const PolicySummary& policy) {
                         return std::find(policy.protectors.begin(), policy.protectors.end(), id) !=
                                policy.protectors.end();
                       });
  }

  /// The protector first: no policy waits for its way in.
  AcceptResult write(ProtectorRecord protector, bool there) {
    context_.throw_if_interrupted();
    const UserStore::Lock lock = store_.lock(context_.throw_if_interrupted);
    if (store_.policy(shared_.key_identifier)) {
      return {false, store_.user(), protector.summary};  // another run was faster
    }
    if (there) {
      // It was opened without the lock; what it wraps with is its key, which never changes.
      if (!store_.protector(protector.summary.id)) {
        throw Error(Errc::no_such_protector,
                    "protector " + protector.summary.id.hex() + " has just been removed");
      }
    } else {
      const std::vector<ProtectorSummary> all = store_.protectors().records;
      if (is_taken(all, protector.summary.name)) {
        if (request_.name) throw taken(protector.summary.name);
        protector.summary.name = free_name(protector.summary.name, all);
      }
      store_.write(lock, protector);
    }
    store_.write(lock, policy_.record);
    return {true, store_.user(), protector.summary};
  }

  Context& context_;
  const SharePlace& place_;
  const SharedPolicy& shared_;
  const AcceptRequest& request_;
  SecretProvider& secrets_;
  Opener opener_;
  UserStore store_;
  UnlockedPolicy policy_;
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
