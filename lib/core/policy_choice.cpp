#include "fscryptctl/core/policy_choice.h"

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/new_protector.h"

namespace fscryptctl {
namespace {

class Chooser {
 public:
  Chooser(Context& context, const Filesystem& filesystem, const UserStore& store,
          const TargetDirectory& target, const EncryptRequest& request, SecretProvider& secrets,
          Opener& opener, std::optional<Secret>& login_password)
      : context_(context),
        filesystem_(filesystem),
        store_(store),
        target_(target),
        request_(request),
        secrets_(secrets),
        opener_(opener),
        login_password_(login_password) {}

  PolicyChoice existing_policy() {
    const std::optional<PolicyRecord> record =
        store_.policy(named_policy_key(context_, filesystem_, request_));
    if (!record) {
      throw Error(Errc::no_such_policy, "no record of policy " + printable(*request_.policy) +
                                            " on " + printable(filesystem_.mount().mount_point))
          .with_path(filesystem_.mount().mount_point);
    }
    if (request_.options_given && record->options != request_.options) {
      throw Error(Errc::usage, "policy " + record->summary.key_identifier.hex() +
                                   " has other modes, and all its directories share them");
    }
    if (has_key(record->summary.key_identifier)) return {*record, std::nullopt, {}, std::nullopt};
    return chosen(open_policy(store_, *record, std::nullopt, opener_, *request_.policy));
  }

  PolicyChoice new_policy() {
    UnlockedPolicy policy = make_policy(request_.options);
    begin_conversion(policy);
    std::vector<ProtectorRecord> copies;
    for (const std::string& name : request_.protectors) {
      const OpenProtector& protector = open_existing(name);
      if (is_opened_by(policy.record.summary, protector.record.summary.id)) continue;
      let_open(policy, protector);
      // A copy makes this filesystem independent of the other one.
      if (!require_copy_opens(store_, filesystem_.mount().mount_point, opener_, protector)) {
        copies.push_back(protector.record);
      }
    }
    const bool named_only = !request_.protectors.empty() && !request_.source && !request_.name;
    PolicyChoice choice = named_only                  ? chosen(std::move(policy))
                          : source() == Source::login ? with_login_protector(std::move(policy))
                                                      : with_new_protector(std::move(policy));
    choice.new_protectors.insert(choice.new_protectors.end(), copies.begin(), copies.end());
    return choice;
  }

 private:
  PolicyChoice chosen(UnlockedPolicy policy) {
    PolicyChoice choice{std::move(policy.record), std::move(policy.key), {}, std::nullopt};
    if (afterwards_) choice.afterwards = std::move(afterwards_->record);
    return choice;
  }

  /// The operation's id goes into what is authenticated, so that the record without it has to be
  /// made now, while the keys of all protectors are in hand.
  void begin_conversion(UnlockedPolicy& policy) {
    if (!request_.operation) return;
    afterwards_.emplace(UnlockedPolicy{policy.record, PolicyKey(SecretBytes(policy.key.view()))});
    policy.record.operation = request_.operation;
  }

  void let_open(UnlockedPolicy& policy, const OpenProtector& protector) {
    wrap_for(policy, protector);
    if (afterwards_) wrap_for(*afterwards_, protector);
  }

  bool has_key(const KeyIdentifier& key) const {
    const ActAs acting(store_.user());
    const KeyStatus status = context_.kernel.key_status(filesystem_.fd(), key);
    return status.state == KeyState::present && status.added_by_self;
  }

  /// NAME, id, or MOUNTPOINT:NAME for one that lies on another filesystem.
  const OpenProtector& open_existing(const std::string& name) {
    const ProtectorName parts = split_protector_name(name);
    if (!parts.mount) return open_in(store_, name, name);
    const std::optional<UserStore> other =
        filesystem_of_path(context_, *parts.mount).store(store_.user());
    if (!other) throw Error(Errc::no_such_protector, "no such protector: " + printable(name));
    return open_in(*other, parts.name, name);
  }

  const OpenProtector& open_in(const UserStore& store, const std::string& name,
                               const std::string& shown) {
    const ProtectorId id = id_of(store, name);
    return opener_.open_any(read_protectors(store, {id}), "protector " + printable(shown), true);
  }

  /// A full id is no possible name, so that nothing has to be searched for it.
  static ProtectorId id_of(const UserStore& store, const std::string& name) {
    const std::optional<ProtectorId> id = ProtectorId::from_hex(name);
    if (id && store.protector(*id)) return *id;
    return find_protector(store.protectors().records, name).id;
  }

  Source source() const { return request_.source.value_or(context_.config().source); }

  PolicyChoice with_login_protector(UnlockedPolicy policy) {
    if (!login_password_) {
      login_password_ =
          ask_login_password(context_, login_user(store_.user()), secrets_, request_.path);
    }
    context_.throw_if_interrupted();
    LoginProtector login = choose_login_protector(context_, filesystem_, store_, *login_password_);
    const ProtectorId id = login.open.record.summary.id;
    if (!is_opened_by(policy.record.summary, id) && !take_up(login.open, policy)) {
      let_open(policy, login.open);
    }
    PolicyChoice choice = chosen(std::move(policy));
    choice.login = login.origin;
    // One that exists may have copies, and keeps what it has.
    if (login.origin == LoginProtector::Origin::made && give_recovery_key(login.open)) {
      choice.with_recovery_key = id;
    }
    if (login.origin != LoginProtector::Origin::here)
      choice.new_protectors.push_back(login.open.record);
    return choice;
  }

  PolicyChoice with_new_protector(UnlockedPolicy policy) {
    const std::vector<ProtectorSummary> all = store_.protectors().records;
    const std::string wish = request_.name.value_or(free_name(base_name(request_.path), {}));
    const auto taken = std::find_if(
        all.begin(), all.end(), [&](const ProtectorSummary& other) { return other.name == wish; });
    const Secret secret = secrets_.fresh(source(), request_.path);
    context_.throw_if_interrupted();
    if (taken != all.end()) {
      if (std::optional<OpenProtector> left = opened_leftover(*taken, secret)) {
        if (take_up(*left, policy)) return with_leftover(std::move(policy), *left);
      }
      if (request_.name) throw name_taken(wish);
    }
    OpenProtector made =
        make_protector(secret, free_name(wish, all), costs_for_new_hashing(context_));
    let_open(policy, made);
    PolicyChoice choice = chosen(std::move(policy));
    if (give_recovery_key(made)) choice.with_recovery_key = made.record.summary.id;
    choice.new_protectors.push_back(made.record);
    if (request_.name) choice.named_by_user = made.record.summary.id;
    return choice;
  }

  /// It is there as the interrupted run wrote it, unless it gets a recovery key now.
  PolicyChoice with_leftover(UnlockedPolicy policy, OpenProtector& left) {
    PolicyChoice choice = chosen(std::move(policy));
    const ProtectorRecord found = left.record;
    if (!give_recovery_key(left)) return choice;
    choice.with_recovery_key = found.summary.id;
    choice.new_protectors.push_back(left.record);
    choice.taken_up = found;
    return choice;
  }

  bool give_recovery_key(OpenProtector& protector) {
    if (request_.recovery_key == nullptr) return false;
    const std::optional<RecoveryKey> key = request_.recovery_key->keep(
        {request_.path, protector.record.summary, filesystem_.mount().mount_point});
    if (!key) return false;
    protector.record = with_recovery_key(protector, *key, 1);
    return true;
  }

  /// The protector of this name, if the new secret opens it.
  std::optional<OpenProtector> opened_leftover(const ProtectorSummary& summary,
                                               const Secret& secret) {
    if (summary.source != secret.kind) return std::nullopt;
    const std::optional<ProtectorRecord> record = store_.protector(summary.id);
    if (!record) return std::nullopt;
    Opener opener(secrets_, context_);
    opener.remember({secret.kind, SecretBytes(secret.bytes.view())});
    std::optional<ProtectorKey> key = opener.try_known(*record);
    if (!key) return std::nullopt;
    return OpenProtector{*record, std::move(*key), method_of(summary.source)};
  }

  /// Only what nothing else depends on is a leftover: a protector that opens nothing, or only the
  /// policy that was meant for this directory, which then takes the place of `policy`.
  bool take_up(const OpenProtector& left, UnlockedPolicy& policy) {
    std::vector<PolicySummary> depending = store_.policies().records;
    std::erase_if(depending, [&](const PolicySummary& other) {
      return !is_opened_by(other, left.record.summary.id);
    });
    if (depending.empty()) {
      let_open(policy, left);
      return true;
    }
    // A conversion has its own policy.
    if (request_.operation) return false;
    if (depending.size() > 1 || !was_meant_for_target(depending.front())) return false;
    const std::optional<PolicyRecord> record = store_.policy(depending.front().key_identifier);
    if (!record || record->options != request_.options) return false;
    policy = unlock_policy({*record}, left);
    return true;
  }

  bool was_meant_for_target(const PolicySummary& policy) const {
    return target_.exists() && policy.protectors.size() == 1 && policy.paths.size() == 1 &&
           filesystem_.hint_of(target_.fd(), context_.mounts) == policy.paths.front();
  }

  Context& context_;
  const Filesystem& filesystem_;
  const UserStore& store_;
  const TargetDirectory& target_;
  const EncryptRequest& request_;
  SecretProvider& secrets_;
  Opener& opener_;
  std::optional<Secret>& login_password_;
  std::optional<UnlockedPolicy> afterwards_{};  ///< of a conversion: the policy without its id
};

}  // namespace

KeyIdentifier named_policy_key(const Context& context, const Filesystem& filesystem,
                               const EncryptRequest& request) {
  if (const std::optional<KeyIdentifier> key = KeyIdentifier::from_hex(*request.policy)) {
    return *key;
  }
  const Target other = look_at(context, *request.policy);
  if (other.filesystem.mount().device != filesystem.mount().device) {
    throw Error(Errc::usage, printable(*request.policy) + " and " + printable(request.path) +
                                 " are not on the same filesystem");
  }
  return require_v2_key(other);
}

Error name_taken(const std::string& name) {
  return Error(Errc::usage, "there is a protector named " + printable(name) +
                                " already: use it with --protector, or choose another --name");
}

PolicyChoice choose_policy(Context& context, const Filesystem& filesystem, const UserStore& store,
                           const TargetDirectory& target, const EncryptRequest& request,
                           SecretProvider& secrets, Opener& opener,
                           std::optional<Secret>& login_password) {
  Chooser chooser(context, filesystem, store, target, request, secrets, opener, login_password);
  return request.policy ? chooser.existing_policy() : chooser.new_policy();
}

}  // namespace fscryptctl
