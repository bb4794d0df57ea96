#include "fscryptctl/core/encrypt.h"

#include <algorithm>
#include <cerrno>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/new_records.h"
#include "fscryptctl/core/policy_choice.h"
#include "fscryptctl/core/target_directory.h"

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
    NewRecords records(context_, filesystem_, store, choice, request_.recovery_key);
    try {
      make_encrypted(store, choice, records);
    } catch (const Error& error) {
      // One of the few places that catch: what was half done is undone while it is known not to
      // matter, and otherwise kept.
      undo(choice, records);
      if (error.sys_errno() != EEXIST) throw;
      return std::nullopt;
    } catch (...) {
      undo(choice, records);
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

  void make_encrypted(const UserStore& store, PolicyChoice& choice, NewRecords& records) {
    target_.make();
    records.add_key();
    encrypt_with_records(store, choice, records);
    target_.sync();
    if (request_.leave_locked) remove_own_key(records);
    if (choice.with_recovery_key) request_.recovery_key->finish();
  }

  /// Everything that opens the directory is durable before it is encrypted, and nobody else enters
  /// it then. One lock for all of it: whoever has the lock sees of every other run either nothing,
  /// or an encrypted directory, or records that it may undo as long as nobody relies on them.
  void encrypt_with_records(const UserStore& store, PolicyChoice& choice, NewRecords& records) {
    const UserStore::Lock lock = store.lock(context_.throw_if_interrupted);
    records.try_ciphers();
    records.write(lock, filesystem_.hint_of(target_.fd(), context_.mounts));
    only_owner_enters_ = target_.set_permissions(context_, request_.mode, request_.keep_mode);
    set_policy(choice.record);
  }

  void set_policy(const PolicyRecord& policy) {
    // Whoever had the lock before may have used the records that this run took up; setting the same
    // policy again would succeed, and both would have done it.
    if (context_.kernel.get_policy(target_.fd())) {
      throw Error(Errc::io, printable(request_.path) + " has just been encrypted", EEXIST);
    }
    const ActAs acting(user_);
    context_.kernel.set_policy(target_.fd(), {policy.summary.key_identifier, policy.options});
    context_.explain("set the policy of " + printable(request_.path));
  }

  void remove_own_key(NewRecords& records) {
    // Our own descriptor in the directory would keep the key busy.
    target_.close();
    records.remove_added_key();
  }

  /// After a failure. Whatever may belong to an encrypted directory stays, and repeating the
  /// command takes it up; the rest goes. Failing here loses nothing either.
  void undo(const PolicyChoice& choice, NewRecords& records) noexcept {
    try {
      std::optional<KernelPolicy> policy;
      // The lock comes first: nobody encrypts between the question and what follows from it.
      const std::optional<UserStore::Lock> lock = records.lock_to_take_back();
      if (target_.exists()) policy = context_.kernel.get_policy(target_.fd());
      // With another key it was encrypted by somebody who was faster: then ours is of no use.
      if (policy && policy->key == KeySpecifier(choice.record.summary.key_identifier)) return;
      if (!policy) target_.restore_permissions();
      if (lock && !records.take_back(*lock)) return;
      remove_own_key(records);
      if (!policy) target_.unmake();
    } catch (const std::exception&) {
      return;
    }
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

  bool only_owner_enters_ = false;
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
