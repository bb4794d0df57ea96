#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "conversion_run.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/core/target_directory.h"
#include "fscryptctl/core/unlock.h"

namespace fscryptctl {

bool Conversion::begin() {
  if (request_.command == Command::convert && site_.policy(context_)) return adopt();
  require_right_kind();
  if (request_.command != Command::convert) require_unlocked();
  const ConversionPlan plan = look();
  request_.planned(plan);
  if (std::optional<Error> error = refusal(plan)) throw Error(*error);
  if (!store_) store_.emplace(site_.filesystem().store_for_writing(user_));
  site_.remove_strays(
      [this](const OperationId& id) { return OperationStore(*store_).journal(id).has_value(); });
  Journal journal = new_journal(plan);
  if (encrypts()) {
    begin_encrypting(std::move(journal));
  } else {
    begin_decrypting(journal);
  }
  result_.strategy = strategy();
  return true;
}

bool Conversion::adopt() {
  EncryptResult found = encrypt_directory(context_, request_.encrypt, secrets_);
  result_.changed = found.changed;
  result_.key_identifier = found.key_identifier;
  result_.protectors = std::move(found.protectors);
  return false;
}

void Conversion::require_unlocked() {
  const std::optional<KernelPolicy> policy = site_.policy(context_);
  if (!policy || has_key(policy->key)) return;
  if (!std::holds_alternative<KeyIdentifier>(policy->key)) {
    throw Error(Errc::wrong_key, printable(site_.path()) +
                                     " is locked, and its version 1 key has to be added by the "
                                     "tool that made it")
        .with_path(site_.path());
  }
  static_cast<void>(unlock_directory(context_, site_.path(), {}, opener_));
}

bool Conversion::has_key(const KeySpecifier& key) const {
  if (!std::holds_alternative<KeyIdentifier>(key)) {
    // A version 1 key may be in a keyring that the filesystem does not tell about.
    const std::vector<std::string> names = directory_names(site_.directory(), 1).names;
    if (names.empty()) return true;
    const std::optional<FileInfo> entry = entry_info(site_.directory(), names.front());
    if (!entry || !S_ISREG(entry->mode)) return true;
    const UniqueFd file(::openat(site_.directory(), names.front().c_str(),
                                 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    return file || errno != ENOKEY;
  }
  return context_.kernel.key_status(site_.filesystem().fd(), key).state == KeyState::present;
}

Journal Conversion::new_journal(const ConversionPlan& plan) const {
  Journal journal;
  journal.operation = new_operation_id();
  journal.command = request_.command;
  journal.strategy = strategy();
  journal.verify = request_.verify;
  journal.bound = encrypts() && !request_.encrypt.policy;
  if (const std::optional<KernelPolicy> policy = site_.policy(context_)) {
    const auto* const key = std::get_if<KeyIdentifier>(&policy->key);
    if (key != nullptr) journal.previous = *key;
  }
  journal.path = site_.hint(context_);
  journal.original = site_.identity();
  journal.original_mode = site_.info().mode & kPermissionBits;
  journal.mode = request_.encrypt.mode.value_or(journal.original_mode);
  journal.files = plan.scan.files;
  journal.bytes = plan.scan.bytes;
  return journal;
}

void Conversion::begin_encrypting(Journal journal) {
  EncryptRequest wanted = request_.encrypt;
  if (journal.bound) wanted.operation = journal.operation;
  keep_modes(wanted);
  const TargetDirectory target = TargetDirectory::find(context_, site_.path(), false);
  std::optional<Secret> login_password;
  PolicyChoice choice = choose_policy(context_, site_.filesystem(), *store_, target, wanted,
                                      secrets_, opener_, login_password);
  if (!journal.bound) require_no_operation(choice.record);
  if (!choice.key) {
    choice.key = open_policy(*store_, choice.record, std::nullopt, opener_, site_.path()).key;
  }
  context_.throw_if_interrupted();
  journal.key = choice.record.summary.key_identifier;
  operation_.emplace(*store_, journal, journal_key_of(*choice.key, journal.operation));
  NewRecords records(context_, site_.filesystem(), *store_, choice, request_.encrypt.recovery_key);
  try {
    write_beginning(choice, records);
  } catch (...) {
    undo_beginning(records);
    throw;
  }
  if (choice.with_recovery_key) request_.encrypt.recovery_key->finish();
  result_.recovery_key_made = choice.with_recovery_key.has_value();
  result_.login_copied = choice.login == LoginProtector::Origin::copied;
}

void Conversion::keep_modes(EncryptRequest& wanted) const {
  const std::optional<KernelPolicy> policy = site_.policy(context_);
  if (policy && !wanted.options_given) wanted.options = policy->options;
}

void Conversion::write_beginning(PolicyChoice& choice, NewRecords& records) {
  operation_->write();
  if (choice.afterwards) {
    const std::string hint = operation_->journal().path;
    static_cast<void>(add_hint(*choice.afterwards, hint));
    operation_->store().write_policy_after(operation_->journal().operation, *choice.afterwards);
  }
  records.add_key();
  {
    const UserStore::Lock lock = store_->lock(context_.throw_if_interrupted);
    records.try_ciphers();
    records.write(lock, operation_->journal().path);
  }
  provide_tree();
  open_up_original();
}

void Conversion::undo_beginning(NewRecords& records) noexcept {
  try {
    const UniqueFd tree = site_.work() >= 0 ? site_.open_tree() : UniqueFd();
    if (tree && !directory_names(tree.get(), 1).names.empty()) return;
    if (tree) ::unlinkat(site_.work(), ConversionSite::kTree, AT_REMOVEDIR);
    site_.remove_work();
    if (const auto lock = records.lock_to_take_back()) {
      if (!records.take_back(*lock)) return;
    }
    operation_->remove();
    records.remove_added_key();
  } catch (const std::exception&) {
    // The journal stays, and with it the way on and the way back.
    return;
  }
}

void Conversion::begin_decrypting(const Journal& journal) {
  site_.make_work(journal.operation);
  try {
    operation_.emplace(*store_, journal, make_journal_key(site_));
    operation_->write();
  } catch (...) {
    site_.remove_work();
    throw;
  }
  provide_tree();
  open_up_original();
}

void Conversion::provide_tree() {
  site_.make_work(operation_->journal().operation);
  const UniqueFd tree = site_.make_tree();
  const std::optional<KernelPolicy> policy = context_.kernel.get_policy(tree.get());
  const std::optional<KernelPolicy> wanted = new_policy();
  if (!policy && wanted) {
    set_policy(tree.get(), *wanted);
    sync_file(tree.get(), "making " + printable(site_.work_path()));
  } else if (policy != wanted) {
    throw Error(Errc::corrupt_metadata,
                printable(site_.work_path()) + " is not encrypted as it should be")
        .with_path(site_.path());
  }
  const Journal::Inode identity = journal_inode(inode_identity(tree.get()));
  if (operation_->journal().replacement == identity) return;
  // What is in another one was not put there by this operation, and is not removed by it.
  if (!directory_names(tree.get(), 1).names.empty()) {
    throw Error(Errc::corrupt_metadata,
                printable(site_.work_path()) + " is not what was made there")
        .with_path(site_.path());
  }
  operation_->update([&](Journal& next) {
    next.replacement = identity;
    if (next.strategy == Strategy::low_space) next.state = State::moving;
  });
}

void Conversion::set_policy(int directory, const KernelPolicy& policy) const {
  const bool is_anothers = user_.uid != ::geteuid();
  if (is_anothers) set_owner(directory, user_.uid, user_.gid);
  {
    const ActAs acting(user_);
    context_.kernel.set_policy(directory, policy);
  }
  if (is_anothers) set_owner(directory, ::geteuid(), ::getegid());
}

void Conversion::set_owner(int directory, uid_t uid, gid_t gid) const {
  if (::fchown(directory, uid, gid) == 0) return;
  throw system_error(errno, "making " + printable(site_.work_path()));
}

std::optional<KernelPolicy> Conversion::new_policy() const {
  if (!encrypts()) return std::nullopt;
  const std::optional<PolicyRecord> record = store_->policy(*operation_->journal().key);
  if (!record) throw missing_record();
  return KernelPolicy{record->summary.key_identifier, record->options};
}

Error Conversion::missing_record() const {
  return Error(Errc::not_managed, "the record of the policy that " + printable(site_.path()) +
                                      " is being encrypted with is missing")
      .with_path(site_.path());
}

void Conversion::open_up_original() const {
  if (::geteuid() == 0 || (site_.info().mode & S_IWUSR) != 0) return;
  if (::fchmod(site_.directory(), (site_.info().mode & kPermissionBits) | S_IRWXU) != 0) {
    throw system_error(errno, "making " + printable(site_.path()) + " writable");
  }
}

}  // namespace fscryptctl
