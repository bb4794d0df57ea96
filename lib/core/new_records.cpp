#include "fscryptctl/core/new_records.h"

#include <algorithm>
#include <cerrno>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/login.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/kernel/cipher_probe.h"

namespace fscryptctl {
namespace {

/// They were chosen without the lock: another run may have undone what this one took up.
void require_protectors(const UserStore& store, const PolicySummary& policy) {
  for (const ProtectorId& id : policy.protectors) {
    if (store.protector(id)) continue;
    throw Error(Errc::no_such_protector, "protector " + id.hex() + " has just been removed");
  }
}

/// Somebody may have taken the name since it was chosen. It is not part of what is authenticated.
void claim_name(const UserStore& store, ProtectorRecord& protector, bool chosen) {
  std::vector<ProtectorSummary> others = store.protectors().records;
  std::erase_if(others,
                [&](const ProtectorSummary& other) { return other.id == protector.summary.id; });
  if (std::none_of(others.begin(), others.end(), [&](const ProtectorSummary& other) {
        return other.name == protector.summary.name;
      })) {
    return;
  }
  if (chosen) throw name_taken(protector.summary.name);
  protector.summary.name = free_name(protector.summary.name, others);
}

}  // namespace

void NewRecords::add_key() {
  if (!choice_.key) return;
  const KeyIdentifier& key = choice_.record.summary.key_identifier;
  const ActAs acting(store_.user());
  const bool had_it = context_.kernel.key_status(filesystem_.fd(), key).added_by_self;
  context_.kernel.add_key(filesystem_.fd(), choice_.key->secret());
  key_added_ = !had_it;
  context_.explain("added key " + key.hex() + " to the kernel for user " +
                   std::to_string(store_.user().uid));
}

void NewRecords::remove_added_key() {
  if (!key_added_) return;
  const ActAs acting(store_.user());
  static_cast<void>(context_.kernel.remove_key(
      filesystem_.fd(), choice_.record.summary.key_identifier, RemoveScope::own_claim));
}

void NewRecords::try_ciphers() const {
  const PolicyRecord& policy = choice_.record;
  const ActAs acting(store_.user());
  require_working_ciphers(context_.kernel, store_.directory_fd(),
                          KernelPolicy{policy.summary.key_identifier, policy.options});
}

bool NewRecords::is_to_be_written(const ProtectorId& id) const {
  const std::optional<ProtectorRecord> now = store_.protector(id);
  if (!now || now == choice_.taken_up) return true;
  // A recovery key that was shown or written must not be one that opens nothing.
  if (choice_.with_recovery_key == id) {
    throw Error(Errc::metadata_locked,
                "another fscryptctl has just changed protector " + printable(now->summary.name));
  }
  // The copy of one that somebody else copied meanwhile, perhaps with a newer secret.
  return false;
}

void NewRecords::write_protector(const UserStore::Lock& lock, ProtectorRecord& protector) {
  const ProtectorId id = protector.summary.id;
  if (choice_.login == LoginProtector::Origin::made &&
      !still_first_login_protector(store_, login_user(store_.user()), id)) {
    throw Error(Errc::io, "another login protector has just been made", EEXIST);
  }
  claim_name(store_, protector, choice_.named_by_user == id);
  written_.push_back(id);
  if (choice_.with_recovery_key == id) recovery_key_->set_in_use(true);
  store_.write(lock, protector);
  context_.explain("wrote the record of protector " + id.hex());
}

void NewRecords::write(const UserStore::Lock& lock, const std::optional<std::string>& hint) {
  PolicyRecord& policy = choice_.record;
  const std::optional<PolicyRecord> now = store_.policy(policy.summary.key_identifier);
  const bool there = now.has_value();
  if (there) policy = *now;
  const bool noted = hint && add_hint(policy, *hint);
  for (ProtectorRecord& protector : choice_.new_protectors) {
    if (is_to_be_written(protector.summary.id)) write_protector(lock, protector);
  }
  if (!noted && there) return;
  if (!there) require_protectors(store_, policy.summary);
  policy_written_ = !there;
  store_.write(lock, policy);
  context_.explain("wrote the record of policy " + policy.summary.key_identifier.hex());
}

std::optional<UserStore::Lock> NewRecords::lock_to_take_back() const {
  if (!policy_written_ && written_.empty()) return std::nullopt;
  return store_.lock();
}

bool NewRecords::take_back(const UserStore::Lock& lock) {
  if (policy_written_) {
    const KeyIdentifier& key = choice_.record.summary.key_identifier;
    const std::optional<PolicyRecord> now = store_.policy(key);
    if (now && *now != choice_.record) return false;
    store_.remove(lock, key);
  }
  remove_unneeded_protectors(lock);
  if (choice_.with_recovery_key && !store_.protector(*choice_.with_recovery_key)) {
    recovery_key_->set_in_use(false);
  }
  return true;
}

void NewRecords::remove_unneeded_protectors(const UserStore::Lock& lock) const {
  const Listing<PolicySummary> policies = store_.policies();
  // What cannot be read may rely on any of them.
  if (!policies.complete || !policies.damaged.empty()) return;
  for (const ProtectorId& id : written_) {
    const bool relied_on = std::ranges::any_of(policies.records, [&id](const auto& policy) {
      return std::ranges::find(policy.protectors, id) != policy.protectors.end();
    });
    if (!relied_on) store_.remove(lock, id);
  }
}

}  // namespace fscryptctl
