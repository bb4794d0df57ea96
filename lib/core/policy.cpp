#include "fscryptctl/core/policy.h"

#include <algorithm>
#include <iterator>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/key_identifier.h"
#include "fscryptctl/crypto/random.h"

namespace fscryptctl {

bool is_opened_by(const PolicySummary& policy, const ProtectorId& protector) {
  return std::find(policy.protectors.begin(), policy.protectors.end(), protector) !=
         policy.protectors.end();
}

UnlockedPolicy unlock_policy(const LockedPolicy& policy, const OpenProtector& protector) {
  const ProtectorId id = protector.record.summary.id;
  const std::string hex = policy.record.summary.key_identifier.hex();
  for (const PolicyWrapping& wrapping : policy.record.wrappings) {
    if (wrapping.protector != id) continue;
    std::optional<PolicyKey> key =
        unwrap(protector.key, context_of(policy.record, id), wrapping.wrapped);
    if (!key) {
      throw Error(Errc::corrupt_metadata, "the record of policy " + hex +
                                              " was changed: its wrapping by protector " +
                                              id.hex() + " does not open");
    }
    UnlockedPolicy unlocked{policy.record, std::move(*key)};
    if (algorithm_of(wrapping.wrapped) != WrapAlgorithm::fscryptctl_wrap_1) {
      unlocked.moved = {id, wrap(protector.key, context_of(policy.record, id), unlocked.key)};
    }
    return unlocked;
  }
  throw Error(Errc::no_such_protector, "protector " + id.hex() + " is not one of policy " + hex);
}

void move_wrapping(UnlockedPolicy& policy) {
  if (!policy.moved) return;
  for (PolicyWrapping& wrapping : policy.record.wrappings) {
    if (wrapping.protector == policy.moved->protector) wrapping = *policy.moved;
  }
  policy.moved.reset();
}

void wrap_for(UnlockedPolicy& policy, const OpenProtector& protector) {
  move_wrapping(policy);
  const ProtectorId id = protector.record.summary.id;
  policy.record.wrappings.push_back(
      {id, wrap(protector.key, context_of(policy.record, id), policy.key)});
  policy.record.summary.protectors.push_back(id);
}

void require_no_operation(const PolicyRecord& record) {
  if (!record.operation) return;
  const std::string where =
      record.summary.paths.empty() ? "" : " (" + printable(record.summary.paths.back()) + ")";
  throw Error(Errc::in_use, "a conversion with policy " + record.summary.key_identifier.hex() +
                                where + " is unfinished and comes first");
}

void add_way(UnlockedPolicy& policy, const OpenProtector& protector) {
  drop_way(policy.record, protector.record.summary.id);
  if (policy.record.wrappings.size() >= kMaxProtectorsOfPolicy) {
    throw Error(Errc::usage, "policy " + policy.record.summary.key_identifier.hex() + " has " +
                                 std::to_string(kMaxProtectorsOfPolicy) +
                                 " protectors already, and more do not fit");
  }
  wrap_for(policy, protector);
  const UnlockedPolicy again = unlock_policy({policy.record}, protector);
  if (!equal_secrets(again.key.secret(), policy.key.secret())) {
    throw Error(Errc::internal, "a new wrapping does not open");
  }
}

bool drop_way(PolicyRecord& record, const ProtectorId& protector) {
  require_no_operation(record);
  std::erase(record.summary.protectors, protector);
  return std::erase_if(record.wrappings, [&](const PolicyWrapping& wrapping) {
           return wrapping.protector == protector;
         }) > 0;
}

UnlockedPolicy make_policy(const EncryptionOptions& options) {
  UnlockedPolicy policy{PolicyRecord{}, random_key<PolicyKey>()};
  policy.record.summary.key_identifier = key_identifier_of(policy.key.view());
  policy.record.options = options;
  return policy;
}

bool has_hint(const PolicyRecord& record, const std::string& hint) {
  const std::vector<std::string>& paths = record.summary.paths;
  return std::find(paths.begin(), paths.end(), hint) != paths.end();
}

bool add_hint(PolicyRecord& record, const std::string& hint) {
  std::vector<std::string>& paths = record.summary.paths;
  if (!paths.empty() && paths.back() == hint) return false;
  std::erase(paths, hint);
  paths.push_back(hint);
  if (paths.size() > kMaxPaths) paths.erase(paths.begin());
  return true;
}

bool drop_hint(PolicyRecord& record, const std::string& hint) {
  return std::erase(record.summary.paths, hint) > 0;
}

std::optional<PolicyRecord> find_policy(const std::optional<UserStore>& store,
                                        const KeyIdentifier& key) {
  return store ? store->policy(key) : std::nullopt;
}

UnlockedPolicy open_policy(const UserStore& store, const PolicyRecord& record,
                           const std::optional<std::string>& protector, Opener& opener,
                           const std::string& target) {
  const ReadProtectors candidates = read_protectors(store, record.summary.protectors);
  if (!protector) {
    return unlock_policy({record}, opener.open_any(candidates, target, false));
  }
  std::vector<ProtectorSummary> summaries;
  summaries.reserve(candidates.records.size());
  for (const ProtectorRecord& candidate : candidates.records) {
    summaries.push_back(candidate.summary);
  }
  const ProtectorId chosen = find_protector(summaries, *protector).id;
  ReadProtectors one;
  std::copy_if(candidates.records.begin(), candidates.records.end(),
               std::back_inserter(one.records),
               [&](const ProtectorRecord& candidate) { return candidate.summary.id == chosen; });
  return unlock_policy({record}, opener.open_any(one, target, true));
}

}  // namespace fscryptctl
