#include "fscryptctl/core/encrypt.h"

#include <algorithm>
#include <cerrno>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/policy_choice.h"
#include "fscryptctl/core/target_directory.h"
#include "fscryptctl/kernel/cipher_probe.h"

namespace fscryptctl {
namespace {

void check_request(const EncryptRequest& request) {
  if (request.policy && (!request.protectors.empty() || request.source || request.name)) {
    throw Error(Errc::usage,
                "an existing policy has its protectors: --policy goes without "
                "--protector, --source and --name");
  }
  if (request.protectors.size() >= kMaxProtectorsOfPolicy) {
    throw Error(Errc::usage,
                "a policy has at most " + std::to_string(kMaxProtectorsOfPolicy) + " protectors");
  }
  if (const auto reason = invalid_combination(request.options)) throw Error(Errc::usage, *reason);
  if (request.name && request.source == Source::login) {
    throw Error(Errc::usage, "a login protector is always named \"login\"");
  }
  if (request.name) {
    if (const auto reason = invalid_name(*request.name)) throw Error(Errc::usage, *reason);
  }
}

Error already_encrypted(const std::string& path, const std::string& how) {
  return Error(Errc::already_encrypted, printable(path) + " is already encrypted" + how)
      .with_path(path);
}

/// One run of `encrypt`; its parts stand in the order in which they happen.
class Encryption {
 public:
  Encryption(Context& context, const EncryptRequest& request, SecretProvider& secrets,
             std::optional<Secret>& login_password)
      : context_(context),
        request_(request),
        secrets_(secrets),
        login_password_(login_password),
        opener_(secrets, context),
        target_(TargetDirectory::find(context, request.path, request.create)),
        filesystem_(Filesystem::of(target_.any_fd(), context.mounts, request.path)),
        user_(target_.user()) {}

  /// nullopt if somebody else made or encrypted the directory meanwhile: nothing is left of this
  /// run, and the next one sees what they did.
  std::optional<EncryptResult> run() {
    require_encryption(context_, filesystem_);
    static_cast<void>(filesystem_.require_metadata());
    check_not_inside();
    if (target_.exists()) {
      if (const std::optional<KernelPolicy> policy = context_.kernel.get_policy(target_.fd())) {
        return adopt(*policy);
      }
      check_plain_directory();
    }
    const UserStore store = filesystem_.store_for_writing(user_);
    PolicyChoice choice = choose_policy(context_, filesystem_, store, target_, request_, secrets_,
                                        opener_, login_password_);
    context_.throw_if_interrupted();
    try {
      make_encrypted(store, choice);
    } catch (const Error& error) {
      // One of the few places that catch: what was half done is undone while it is known not to
      // matter, and otherwise kept.
      undo(store, choice);
      if (error.sys_errno() != EEXIST) throw;
      return std::nullopt;
    } catch (...) {
      undo(store, choice);
      throw;
    }
    EncryptResult encrypted = result(store, choice.record, true);
    encrypted.recovery_key_made = choice.with_recovery_key.has_value();
    encrypted.login_copied = choice.login == LoginProtector::Origin::copied;
    return encrypted;
  }

 private:
  /// What lies in an encrypted directory is encrypted with it and has no record of its own.
  void check_not_inside() const {
    const UniqueFd parent = target_.open_parent();
    if (!parent) return;
    const std::optional<KernelPolicy> above = context_.kernel.get_policy(parent.get());
    if (!above) return;
    if (target_.exists()) {
      const std::optional<KernelPolicy> own = context_.kernel.get_policy(target_.fd());
      if (!own || own->key != above->key) return;
    }
    throw already_encrypted(request_.path, ": it lies in an encrypted directory");
  }

  void check_plain_directory() const {
    const FileInfo info = file_info(target_.fd());
    const FileInfo root = file_info(filesystem_.root_fd());
    const bool is_root = info.inode == root.inode && info.device == root.device;
    if (is_root && filesystem_.mount().root == "/") {
      throw Error(Errc::filesystem_root, printable(request_.path) +
                                             " is the root of a filesystem, which cannot be "
                                             "encrypted as a whole")
          .with_path(request_.path);
    }
    if (info.uid != user_.uid && user_.uid != 0 && !target_.to_be_given()) {
      throw Error(Errc::permission, printable(request_.path) + " belongs to another user")
          .with_path(request_.path);
    }
    if (!target_.empty()) {
      throw Error(Errc::not_empty, printable(request_.path) + " already has files")
          .with_path(request_.path);
    }
  }

  // The directory is encrypted already: by an interrupted run, or for --ensure.

  EncryptResult adopt(const KernelPolicy& policy) {
    const auto* key = std::get_if<KeyIdentifier>(&policy.key);
    if (key == nullptr) throw already_encrypted(request_.path, " with a version 1 policy");
    const std::optional<UserStore> store = filesystem_.store(user_);
    const std::optional<PolicyRecord> record = find_policy(store, *key);
    if (!record) throw already_encrypted(request_.path, ", but not set up here");
    if (!request_.ensure && !target_.empty()) throw already_encrypted(request_.path, "");
    if (request_.options_given && policy.options != request_.options) {
      throw already_encrypted(request_.path, " with other modes");
    }
    if (request_.policy && named_policy_key(context_, filesystem_, request_) != *key) {
      throw already_encrypted(request_.path, " with another key");
    }
    prove_secret(*store, *record);
    settle_recovery_key(*store, *record);
    const bool noted = note_path(*store, *key);
    // An interrupted run may have set the policy without making it durable.
    if (target_.empty()) target_.sync();
    return result(*store, *record, noted);
  }

  /// The secret must open the directory; with it in hand, it is unlocked too.
  void prove_secret(const UserStore& store, const PolicyRecord& record) {
    const UnlockedPolicy policy =
        open_policy(store, record, first_protector(), opener_, request_.path);
    if (request_.leave_locked) return;
    const ActAs acting(user_);
    context_.kernel.add_key(filesystem_.fd(), policy.key.secret());
  }

  /// A key that an interrupted run has kept is finished, if it got as far as the records.
  void settle_recovery_key(const UserStore& store, const PolicyRecord& record) const {
    if (request_.recovery_key == nullptr) return;
    const std::optional<RecoveryKey> left = request_.recovery_key->left_over();
    if (!left) return;
    for (const ProtectorRecord& protector :
         read_protectors(store, record.summary.protectors).records) {
      if (!opens_with(protector, *left)) continue;
      request_.recovery_key->set_in_use(true);
      request_.recovery_key->finish();
    }
  }

  std::optional<std::string> first_protector() const {
    if (request_.protectors.empty()) return std::nullopt;
    return request_.protectors.front();
  }

  bool note_path(const UserStore& store, const KeyIdentifier& key) const {
    const std::optional<std::string> hint = filesystem_.hint_of(target_.fd(), context_.mounts);
    std::optional<PolicyRecord> record = store.policy(key);
    if (!hint || !record || has_hint(*record, *hint)) return false;
    const UserStore::Lock lock = store.lock(context_.throw_if_interrupted);
    record = store.policy(key);
    if (!record || has_hint(*record, *hint)) return false;
    static_cast<void>(add_hint(*record, *hint));
    store.write(lock, *record);
    return true;
  }

  // The directory is plain and empty, or missing.

  void make_encrypted(const UserStore& store, PolicyChoice& choice) {
    target_.make();
    if (choice.key) add_key(*choice.key, choice.record.summary.key_identifier);
    encrypt_with_records(store, choice);
    target_.sync();
    if (request_.leave_locked) remove_own_key(choice.record.summary.key_identifier);
    if (choice.with_recovery_key) request_.recovery_key->finish();
  }

  /// Everything that opens the directory is durable before it is encrypted, and nobody else enters
  /// it then. One lock for all of it: whoever has the lock sees of every other run either nothing,
  /// or an encrypted directory, or records that it may undo as long as nobody relies on them.
  void encrypt_with_records(const UserStore& store, PolicyChoice& choice) {
    const UserStore::Lock lock = store.lock(context_.throw_if_interrupted);
    probe_ciphers(store, choice.record);
    write_records(store, lock, choice);
    only_owner_enters_ = target_.set_permissions(context_, request_.mode, request_.keep_mode);
    set_policy(choice.record);
  }

  void add_key(const PolicyKey& key, const KeyIdentifier& identifier) {
    const ActAs acting(user_);
    const bool had_it = context_.kernel.key_status(filesystem_.fd(), identifier).added_by_self;
    context_.kernel.add_key(filesystem_.fd(), key.secret());
    key_added_ = !had_it;
    context_.explain("added key " + identifier.hex() + " to the kernel for user " +
                     std::to_string(user_.uid));
  }

  void write_records(const UserStore& store, const UserStore::Lock& lock, PolicyChoice& choice) {
    PolicyRecord& policy = choice.record;
    const std::optional<PolicyRecord> now = store.policy(policy.summary.key_identifier);
    const bool there = now.has_value();
    if (there) policy = *now;
    const std::optional<std::string> hint = filesystem_.hint_of(target_.fd(), context_.mounts);
    const bool noted = hint && add_hint(policy, *hint);
    for (ProtectorRecord& protector : choice.new_protectors) {
      if (!is_to_be_written(store, protector.summary.id, choice)) continue;
      if (choice.login == LoginProtector::Origin::made &&
          !still_first_login_protector(store, login_user(user_), protector.summary.id)) {
        throw Error(Errc::io, "another login protector has just been made", EEXIST);
      }
      claim_name(store, protector, choice.named_by_user == protector.summary.id);
      written_.push_back(protector.summary.id);
      if (choice.with_recovery_key == protector.summary.id) {
        request_.recovery_key->set_in_use(true);
      }
      store.write(lock, protector);
      context_.explain("wrote the record of protector " + protector.summary.id.hex());
    }
    if (!noted && there) return;
    if (!there) require_protectors(store, policy.summary);
    policy_written_ = !there;
    store.write(lock, policy);
    context_.explain("wrote the record of policy " + policy.summary.key_identifier.hex());
  }

  static bool is_to_be_written(const UserStore& store, const ProtectorId& id,
                               const PolicyChoice& choice) {
    const std::optional<ProtectorRecord> now = store.protector(id);
    if (!now || now == choice.taken_up) return true;
    // A recovery key that was shown or written must not be one that opens nothing.
    if (choice.with_recovery_key == id) {
      throw Error(Errc::metadata_locked,
                  "another fscryptctl has just changed protector " + printable(now->summary.name));
    }
    // The copy of one that somebody else copied meanwhile, perhaps with a newer secret.
    return false;
  }

  /// They were chosen without the lock: another run may have undone what this one took up.
  static void require_protectors(const UserStore& store, const PolicySummary& policy) {
    for (const ProtectorId& id : policy.protectors) {
      if (store.protector(id)) continue;
      throw Error(Errc::no_such_protector, "protector " + id.hex() + " has just been removed");
    }
  }

  void probe_ciphers(const UserStore& store, const PolicyRecord& policy) const {
    const ActAs acting(user_);
    require_working_ciphers(context_.kernel, store.directory_fd(),
                            KernelPolicy{policy.summary.key_identifier, policy.options});
  }

  /// Somebody may have taken the name since it was chosen. It is not part of what is authenticated.
  static void claim_name(const UserStore& store, ProtectorRecord& protector, bool chosen) {
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

  void set_policy(const PolicyRecord& policy) {
    const ActAs acting(user_);
    context_.kernel.set_policy(target_.fd(), {policy.summary.key_identifier, policy.options});
    context_.explain("set the policy of " + printable(request_.path));
  }

  void remove_own_key(const KeyIdentifier& key) {
    // Our own descriptor in the directory would keep the key busy.
    target_.close();
    if (!key_added_) return;
    const ActAs acting(user_);
    static_cast<void>(context_.kernel.remove_key(filesystem_.fd(), key, RemoveScope::own_claim));
  }

  /// After a failure. Whatever may belong to an encrypted directory stays, and repeating the
  /// command takes it up; the rest goes. Failing here loses nothing either.
  void undo(const UserStore& store, const PolicyChoice& choice) noexcept {
    try {
      const KeyIdentifier& key = choice.record.summary.key_identifier;
      std::optional<UserStore::Lock> lock;
      if (policy_written_ || !written_.empty()) lock = store.lock();
      std::optional<KernelPolicy> policy;
      if (target_.exists()) policy = context_.kernel.get_policy(target_.fd());
      // With another key it was encrypted by somebody who was faster: then ours is of no use.
      if (policy && policy->key == KeySpecifier(key)) return;
      if (!policy) target_.restore_permissions();
      if (lock && !take_back_records(store, *lock, choice.record)) return;
      if (choice.with_recovery_key && !store.protector(*choice.with_recovery_key)) {
        request_.recovery_key->set_in_use(false);
      }
      remove_own_key(key);
      if (!policy) target_.unmake();
    } catch (const std::exception&) {
      return;
    }
  }

  /// False if somebody has encrypted another directory with the same key meanwhile.
  bool take_back_records(const UserStore& store, const UserStore::Lock& lock,
                         const PolicyRecord& written) const {
    if (policy_written_) {
      const KeyIdentifier& key = written.summary.key_identifier;
      const std::optional<PolicyRecord> now = store.policy(key);
      if (now && *now != written) return false;
      store.remove(lock, key);
    }
    const Listing<PolicySummary> policies = store.policies();
    // What cannot be read may rely on any of them.
    if (!policies.complete || !policies.damaged.empty()) return true;
    for (const ProtectorId& id : written_) {
      const bool relied_on = std::ranges::any_of(policies.records, [&id](const auto& policy) {
        return std::ranges::find(policy.protectors, id) != policy.protectors.end();
      });
      if (!relied_on) store.remove(lock, id);
    }
    return true;
  }

  EncryptResult result(const UserStore& store, const PolicyRecord& record, bool changed) {
    EncryptResult result;
    result.changed = changed;
    result.user = user_;
    result.key_identifier = record.summary.key_identifier;
    result.options = record.options;
    result.only_owner_enters = only_owner_enters_;
    for (const ProtectorRecord& protector :
         read_protectors(store, record.summary.protectors).records) {
      result.protectors.push_back(protector.summary);
    }
    const ActAs acting(user_);
    result.key = context_.kernel.key_status(filesystem_.fd(), result.key_identifier);
    return result;
  }

  Context& context_;
  const EncryptRequest& request_;
  SecretProvider& secrets_;
  std::optional<Secret>& login_password_;
  Opener opener_;
  TargetDirectory target_;
  Filesystem filesystem_;
  Identity user_;

  bool key_added_ = false;
  bool policy_written_ = false;
  bool only_owner_enters_ = false;
  std::vector<ProtectorId> written_;
};

}  // namespace

EncryptResult encrypt_directory(Context& context, const EncryptRequest& request,
                                SecretProvider& secrets) {
  check_request(request);
  constexpr int kTries = 5;
  std::optional<Secret> login_password;
  for (int tries = 0; tries < kTries; ++tries) {
    if (auto result = Encryption(context, request, secrets, login_password).run())
      return std::move(*result);
  }
  throw already_encrypted(request.path, ": others keep changing it");
}

}  // namespace fscryptctl
