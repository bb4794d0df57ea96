#include <fcntl.h>

#include "conversion_run.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/core/unlock.h"

namespace fscryptctl {

void Conversion::require_command(const Journal& journal) const {
  if (journal.command == request_.command) return;
  throw Error(Errc::conflict, "an unfinished " + std::string(name_of(journal.command)) + " of " +
                                  printable(site_.path()) + " comes first")
      .with_path(site_.path());
}

void Conversion::require_same_options(const Journal& journal) const {
  const auto differs = [&](const std::string& what) {
    return Error(Errc::usage, "it was begun " + what).with_path(site_.path());
  };
  if (request_.low_space && journal.strategy == Strategy::copy) {
    throw differs("without --low-space, which can be chosen only then");
  }
  if (request_.verify_given && journal.verify) throw differs("without --no-verify");
  if (request_.encrypt.mode && *request_.encrypt.mode != journal.mode) {
    throw differs("with another --mode");
  }
  if (request_.encrypt.policy && journal.bound) throw differs("without --policy");
}

Conversion::Found Conversion::take_up(const Journal& journal) {
  require_command(journal);
  require_same_options(journal);
  const bool has_work = site_.open_work(journal.operation, journal.path);
  if (!encrypts() && site_.identity() == journal.replacement && !proof_is_left(journal)) {
    site_.remove_work();
    forget_decryption(journal);
    return Found::done;
  }
  if (encrypts() && !take_up_policy(journal, has_work)) return Found::nothing;
  if (!encrypts()) take_up_decryption(journal, has_work);
  result_.strategy = journal.strategy;
  if (journal.state == State::returning) {
    throw Error(Errc::conflict, "it is being cancelled: repeat it with --cancel")
        .with_path(site_.path());
  }
  const bool exchanged = site_.identity() == journal.replacement;
  if (journal.state != State::removing && journal.previous) unlock_again(*journal.previous);
  if (exchanged) {
    mark_exchanged();
  } else if (journal.state == State::copying || must_compare_again(journal)) {
    provide_tree();
    if (must_compare_again(journal)) go_back_to(State::copying);
  } else if (!has_work) {
    throw Error(Errc::corrupt_metadata,
                printable(site_.work_path()) + " with what was moved already is missing")
        .with_path(site_.path());
  }
  if (!exchanged) open_up_original();
  return Found::unfinished;
}

bool Conversion::must_compare_again(const Journal& journal) {
  return journal.state == State::exchanging && journal.strategy == Strategy::copy;
}

bool Conversion::proof_is_left(const Journal& journal) const {
  if (site_.work() < 0) return false;
  if (site_.open_tree()) return true;
  const std::optional<KernelPolicy> policy = policy_of_journal_key();
  return policy && journal.previous && policy->key == KeySpecifier(*journal.previous);
}

std::optional<KernelPolicy> Conversion::policy_of_journal_key() const {
  const UniqueFd file(::openat(site_.work(), ConversionSite::kJournalKey,
                               O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  // Locked, it does not tell; what it is encrypted with is asked again once it is not.
  if (!file) return std::nullopt;
  return context_.kernel.get_policy(file.get());
}

void Conversion::forget_decryption(const Journal& journal) {
  OperationStore(*store_).remove(journal.operation);
  if (!journal.previous || !store_->policy(*journal.previous)) return;
  request_.note("the record of its previous key is still there: fscryptctl policy remove " +
                journal.previous->hex());
}

void Conversion::mark_exchanged() {
  if (operation_->journal().state == State::removing) return;
  // It was cut off between the two: both parents may not be on the disk yet.
  sync_file(site_.parent(), "cannot write the directory above " + printable(site_.path()));
  if (site_.work() >= 0) sync_file(site_.work(), "cannot write " + printable(site_.work_path()));
  leave_exchange();
}

bool Conversion::take_up_policy(const Journal& journal, bool has_work) {
  if (!journal.key) throw Error(Errc::corrupt_metadata, "a journal without a policy");
  const std::optional<PolicyRecord> record = store_->policy(*journal.key);
  if (!record && !has_work && journal.state == State::copying &&
      site_.identity() == journal.original) {
    // Cut off before its key was anywhere else than in memory.
    OperationStore(*store_).remove(journal.operation);
    return false;
  }
  if (!record) throw missing_record();
  require_same_policy_options(*record);
  require_same_protectors(*record);
  require_same_name(*record);
  UnlockedPolicy policy = open_policy(*store_, *record, first_protector(), opener_, site_.path());
  JournalKey key = journal_key_of(policy.key, journal.operation);
  require_authentic(OperationStore(*store_), journal, key);
  // Without it, the record was written as it is to be at the end.
  if (journal.bound && record->operation && record->operation != journal.operation) {
    throw Error(Errc::corrupt_metadata, "the journal is not that of the policy's operation")
        .with_path(site_.path());
  }
  operation_.emplace(*store_, journal, std::move(key));
  const ActAs acting(user_);
  context_.kernel.add_key(site_.filesystem().fd(), policy.key.secret());
  return true;
}

void Conversion::require_same_policy_options(const PolicyRecord& record) const {
  if (!request_.encrypt.options_given || request_.encrypt.options == record.options) return;
  throw Error(Errc::usage, "it was begun with other modes").with_path(site_.path());
}

void Conversion::require_same_protectors(const PolicyRecord& record) const {
  std::vector<ProtectorSummary> summaries;
  for (const ProtectorRecord& protector :
       read_protectors(*store_, record.summary.protectors).records) {
    summaries.push_back(protector.summary);
  }
  for (const std::string& name : request_.encrypt.protectors) {
    try {
      static_cast<void>(find_protector(summaries, split_protector_name(name).name));
    } catch (const Error& error) {
      if (error.code() != Errc::no_such_protector) throw;
      throw Error(Errc::usage, "it was begun without --protector " + printable(name))
          .with_path(site_.path());
    }
  }
}

void Conversion::require_same_name(const PolicyRecord& record) const {
  if (!request_.encrypt.name) return;
  for (const ProtectorRecord& protector :
       read_protectors(*store_, record.summary.protectors).records) {
    if (protector.summary.name == *request_.encrypt.name) return;
  }
  throw Error(Errc::usage, "it was begun with another --name").with_path(site_.path());
}

std::optional<std::string> Conversion::first_protector() const {
  if (request_.encrypt.protectors.empty()) return std::nullopt;
  return split_protector_name(request_.encrypt.protectors.front()).name;
}

void Conversion::take_up_decryption(const Journal& journal, bool has_work) {
  if (!has_work) {
    throw Error(Errc::corrupt_metadata, printable(site_.work_path()) + " is missing")
        .with_path(site_.path());
  }
  const KernelPolicy policy = policy_that_goes(journal);
  if (const auto* const key = std::get_if<KeyIdentifier>(&policy.key)) unlock_again(*key);
  JournalKey key = read_journal_key(site_, context_, policy);
  require_authentic(OperationStore(*store_), journal, key);
  operation_.emplace(*store_, journal, std::move(key));
}

KernelPolicy Conversion::policy_that_goes(const Journal& journal) const {
  std::optional<KernelPolicy> policy;
  if (site_.identity() == journal.original) policy = site_.policy(context_);
  const UniqueFd tree = policy ? UniqueFd() : site_.open_tree();
  if (tree) policy = context_.kernel.get_policy(tree.get());
  if (!policy && !tree) policy = policy_of_journal_key();
  if (policy) return *policy;
  throw Error(Errc::corrupt_metadata, "nothing is left of the encrypted original")
      .with_path(site_.path());
}

void Conversion::unlock_again(const KeyIdentifier& key) {
  if (has_key(key)) return;
  const std::optional<KernelPolicy> policy = site_.policy(context_);
  if (policy && policy->key == KeySpecifier(key)) {
    static_cast<void>(unlock_directory(context_, site_.path(), {}, opener_));
    return;
  }
  static_cast<void>(unlock_key(context_, site_.filesystem(), key, {}, opener_));
}

}  // namespace fscryptctl
