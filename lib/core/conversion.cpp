#include "fscryptctl/core/conversion.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "conversion_operation.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/core/directory_search.h"
#include "fscryptctl/core/last_way.h"
#include "fscryptctl/core/new_records.h"
#include "fscryptctl/core/policy_choice.h"
#include "fscryptctl/core/target_directory.h"
#include "fscryptctl/core/unlock.h"
#include "fscryptctl/tree/compare.h"
#include "fscryptctl/tree/copy.h"
#include "fscryptctl/tree/move.h"
#include "fscryptctl/tree/remove.h"
#include "fscryptctl/tree/trim.h"

namespace fscryptctl {
namespace {

using Command = Journal::Command;
using State = Journal::State;
using Strategy = Journal::Strategy;

constexpr std::size_t kMaxFindings = 100;
/// How often changed files are copied again before the person is asked to stop changing them.
constexpr int kMaxRounds = 5;
constexpr mode_t kPermissionBits = 07777;

FileTime file_time(const Journal::Time& time) { return {time.seconds, time.nanoseconds}; }
Journal::Time journal_time(const FileTime& time) { return {time.seconds, time.nanoseconds}; }

Journal::Part journal_part(const PartMove& part) {
  return {journal_inode(part.source),
          journal_inode(part.destination),
          part.path,
          part.size,
          part.source_size,
          journal_time(part.accessed),
          journal_time(part.modified),
          journal_time(part.source_modified)};
}

PartMove part_move(const Journal::Part& part) {
  PartMove move;
  move.source = inode_of(part.source);
  move.destination = inode_of(part.destination);
  move.path = part.path;
  move.size = part.size;
  move.source_size = part.source_size;
  move.accessed = file_time(part.accessed);
  move.modified = file_time(part.modified);
  move.source_modified = file_time(part.source_modified);
  return move;
}

/// Findings of the directory itself are left out: its change time changes when it is renamed.
std::vector<std::string> paths_below(const std::vector<TreeFinding>& findings) {
  std::vector<std::string> paths;
  for (const TreeFinding& finding : findings) {
    if (finding.path != ".") paths.push_back(finding.path);
  }
  return paths;
}

bool is_open_for_writing(const std::vector<TreeFinding>& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const TreeFinding& finding) { return finding.what == kOpenForWriting; });
}

class Conversion {
 public:
  Conversion(Context& context, const ConversionRequest& request, SecretProvider& secrets)
      : context_(context),
        request_(request),
        secrets_(secrets),
        opener_(secrets, context),
        site_(ConversionSite::find(context, request.encrypt.path)),
        user_(context.user_for(site_.info().uid)) {}

  ConversionResult run() {
    require_encryption(context_, site_.filesystem());
    site_.lock();
    open_store();
    result_.user = user_;
    const std::optional<Journal> unfinished =
        store_ ? find_unfinished(*store_, site_) : std::nullopt;
    const Found found = unfinished ? take_up(*unfinished) : Found::nothing;
    result_.resumed = found != Found::nothing;
    if (found == Found::nothing && !begin()) return std::move(result_);
    result_.changed = true;
    if (found == Found::done) return std::move(result_);
    finish_states();
    finish();
    return std::move(result_);
  }

  ConversionPlan plan() {
    require_encryption(context_, site_.filesystem());
    require_right_kind();
    return look();
  }

  ConversionStatus status(bool count) {
    open_store();
    ConversionStatus status;
    status.bytes_free = look_for_space();
    std::optional<Journal> unfinished;
    try {
      unfinished = store_ ? find_unfinished(*store_, site_) : std::nullopt;
    } catch (const Error& error) {
      if (error.code() != Errc::corrupt_metadata && error.code() != Errc::newer_format) throw;
      status.state = "damaged";
    }
    if (!unfinished) return status;
    status.state = name_of(unfinished->state);
    status.journal = unfinished;
    if (count && can_open_work(*unfinished)) count_done(*unfinished, status);
    return status;
  }

  void cancel() {
    site_.lock();
    open_store();
    const std::optional<Journal> unfinished =
        store_ ? find_unfinished(*store_, site_) : std::nullopt;
    if (!unfinished) {
      throw Error(Errc::no_such_path, "nothing is unfinished in " + printable(site_.path()))
          .with_path(site_.path());
    }
    require_command(*unfinished);
    if (site_.identity() == unfinished->replacement || unfinished->state == State::removing) {
      throw Error(Errc::too_late, printable(site_.path()) +
                                      " has been replaced already: repeat the command to "
                                      "remove what is left of the original")
          .with_path(site_.path());
    }
    if (unfinished->strategy == Strategy::low_space && unfinished->state != State::copying) {
      return_files(*unfinished);
    }
    discard(*unfinished);
  }

 private:
  // --- what there is

  void open_store() { store_ = site_.filesystem().store(user_); }

  [[nodiscard]] bool encrypts() const { return request_.command != Command::decrypt; }

  [[nodiscard]] Strategy strategy() const {
    return request_.low_space ? Strategy::low_space : Strategy::copy;
  }

  std::uint64_t look_for_space() const {
    struct statvfs info {};
    if (::fstatvfs(site_.directory(), &info) != 0) return 0;
    return std::uint64_t{info.f_bavail} * info.f_frsize;
  }

  /// False as well if it is somebody else's, who began it.
  bool can_open_work(const Journal& journal) {
    try {
      return site_.open_work(journal.operation);
    } catch (const Error& error) {
      if (error.code() != Errc::permission) throw;
      return false;
    }
  }

  void count_done(const Journal& journal, ConversionStatus& status) {
    const UniqueFd tree = site_.open_tree();
    if (!tree) return;
    // Once they have changed places, what is left of the original is what is not done.
    const bool exchanged = site_.identity() == journal.replacement;
    const TreeScan scan = scan_tree(tree.get(), {true, false, 0}, context_.throw_if_interrupted);
    status.bytes_done =
        exchanged ? journal.bytes - std::min(journal.bytes, scan.bytes) : scan.bytes;
    status.files_done =
        exchanged ? journal.files - std::min(journal.files, scan.files) : scan.files;
    if (journal.part) status.bytes_done += journal.part->size - journal.part->source_size;
  }

  void require_right_kind() const {
    const std::optional<KernelPolicy> policy = site_.policy(context_);
    if (request_.command == Command::convert && policy) {
      throw Error(Errc::already_encrypted, printable(site_.path()) + " is already encrypted")
          .with_path(site_.path());
    }
    if (request_.command != Command::convert && !policy) {
      throw Error(Errc::not_encrypted, printable(site_.path()) + " is not encrypted")
          .with_path(site_.path());
    }
  }

  ConversionPlan look() {
    phase("checking", 0, 0);
    return make_plan(context_, site_, strategy(), encrypts(), tick());
  }

  // --- watching

  void phase(std::string_view name, std::uint64_t bytes, std::uint64_t files) {
    progress_.bytes = 0;
    progress_.files = 0;
    shown_ = {name, 0, bytes, 0, files};
  }

  Tick tick() {
    return [this] {
      context_.throw_if_interrupted();
      shown_.bytes_done = progress_.bytes;
      shown_.files_done = progress_.files;
      request_.progress(shown_);
    };
  }

  // --- beginning

  bool begin() {
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

  /// It is encrypted: an error, or with --ensure a success if the secret opens it.
  bool adopt() {
    EncryptResult found = encrypt_directory(context_, request_.encrypt, secrets_);
    result_.changed = found.changed;
    result_.key_identifier = found.key_identifier;
    result_.protectors = std::move(found.protectors);
    return false;
  }

  void require_unlocked() {
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

  [[nodiscard]] bool has_key(const KeySpecifier& key) const {
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

  Journal new_journal(const ConversionPlan& plan) const {
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

  void begin_encrypting(Journal journal) {
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
    NewRecords records(context_, site_.filesystem(), *store_, choice,
                       request_.encrypt.recovery_key);
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

  /// Another key is wanted, not another cipher, unless that is said.
  void keep_modes(EncryptRequest& wanted) const {
    const std::optional<KernelPolicy> policy = site_.policy(context_);
    if (policy && !wanted.options_given) wanted.options = policy->options;
  }

  /// The journal comes first: whatever it does not lead to an end, it leads back.
  void write_beginning(PolicyChoice& choice, NewRecords& records) {
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

  /// Nothing of the original has been touched.
  void undo_beginning(NewRecords& records) noexcept {
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

  void begin_decrypting(const Journal& journal) {
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

  /// The directory that the original becomes: encrypted, empty or as far as an earlier run got.
  void provide_tree() {
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

  /// The key is in the kernel for the user, who has to own what is encrypted with it. Where root
  /// acts for her she does not reach the directory, whose parent is root's.
  void set_policy(int directory, const KernelPolicy& policy) const {
    const bool is_anothers = user_.uid != ::geteuid();
    if (is_anothers) set_owner(directory, user_.uid, user_.gid);
    {
      const ActAs acting(user_);
      context_.kernel.set_policy(directory, policy);
    }
    if (is_anothers) set_owner(directory, ::geteuid(), ::getegid());
  }

  void set_owner(int directory, uid_t uid, gid_t gid) const {
    if (::fchown(directory, uid, gid) == 0) return;
    throw system_error(errno, "making " + printable(site_.work_path()));
  }

  [[nodiscard]] std::optional<KernelPolicy> new_policy() const {
    if (!encrypts()) return std::nullopt;
    const std::optional<PolicyRecord> record = store_->policy(*operation_->journal().key);
    if (!record) throw missing_record();
    return KernelPolicy{record->summary.key_identifier, record->options};
  }

  [[nodiscard]] Error missing_record() const {
    return Error(Errc::not_managed, "the record of the policy that " + printable(site_.path()) +
                                        " is being encrypted with is missing")
        .with_path(site_.path());
  }

  /// A directory that its owner cannot write to cannot be renamed by her either.
  void open_up_original() const {
    if (::geteuid() == 0 || (site_.info().mode & S_IWUSR) != 0) return;
    if (::fchmod(site_.directory(), (site_.info().mode & kPermissionBits) | S_IRWXU) != 0) {
      throw system_error(errno, "making " + printable(site_.path()) + " writable");
    }
  }

  // --- going on

  void require_command(const Journal& journal) const {
    if (journal.command == request_.command) return;
    throw Error(Errc::conflict, "an unfinished " + std::string(name_of(journal.command)) + " of " +
                                    printable(site_.path()) + " comes first")
        .with_path(site_.path());
  }

  void require_same_options(const Journal& journal) const {
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

  /// What came of what was begun.
  enum class Found { nothing, unfinished, done };

  Found take_up(const Journal& journal) {
    require_command(journal);
    require_same_options(journal);
    const bool has_work = site_.open_work(journal.operation);
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
      if (operation_->journal().state != State::copying) go_back_to(State::copying);
    } else if (!has_work) {
      throw Error(Errc::corrupt_metadata,
                  printable(site_.work_path()) + " with what was moved already is missing")
          .with_path(site_.path());
    }
    if (!exchanged) open_up_original();
    return Found::unfinished;
  }

  /// Since it was compared anything may have happened to the original, the clock included, by which
  /// alone a change would be noticed.
  [[nodiscard]] static bool must_compare_again(const Journal& journal) {
    return journal.state == State::exchanging && journal.strategy == Strategy::copy;
  }

  /// True while something is left that is encrypted with the policy that goes, so that the journal
  /// can be proven.
  [[nodiscard]] bool proof_is_left(const Journal& journal) const {
    if (site_.work() < 0) return false;
    if (site_.open_tree()) return true;
    const std::optional<KernelPolicy> policy = policy_of_journal_key();
    return policy && journal.previous && policy->key == KeySpecifier(*journal.previous);
  }

  [[nodiscard]] std::optional<KernelPolicy> policy_of_journal_key() const {
    const UniqueFd file(::openat(site_.work(), ConversionSite::kJournalKey,
                                 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    // Locked, it does not tell; what it is encrypted with is asked again once it is not.
    if (!file) return std::nullopt;
    return context_.kernel.get_policy(file.get());
  }

  /// It was cut off at the very end. With the original gone, nothing proves the journal any more,
  /// so nothing else is done by it.
  void forget_decryption(const Journal& journal) {
    OperationStore(*store_).remove(journal.operation);
    if (!journal.previous || !store_->policy(*journal.previous)) return;
    request_.note("the record of its previous key is still there: fscryptctl policy remove " +
                  journal.previous->hex());
  }

  void mark_exchanged() {
    if (operation_->journal().state == State::removing) return;
    // It was cut off between the two: both parents may not be on the disk yet.
    sync_file(site_.parent(), "cannot write the directory above " + printable(site_.path()));
    if (site_.work() >= 0) sync_file(site_.work(), "cannot write " + printable(site_.work_path()));
    leave_exchange();
  }

  bool take_up_policy(const Journal& journal, bool has_work) {
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

  void require_same_policy_options(const PolicyRecord& record) const {
    if (!request_.encrypt.options_given || request_.encrypt.options == record.options) return;
    throw Error(Errc::usage, "it was begun with other modes").with_path(site_.path());
  }

  /// It was the new protector's; now none is made.
  void require_same_name(const PolicyRecord& record) const {
    if (!request_.encrypt.name) return;
    for (const ProtectorRecord& protector :
         read_protectors(*store_, record.summary.protectors).records) {
      if (protector.summary.name == *request_.encrypt.name) return;
    }
    throw Error(Errc::usage, "it was begun with another --name").with_path(site_.path());
  }

  [[nodiscard]] std::optional<std::string> first_protector() const {
    if (request_.encrypt.protectors.empty()) return std::nullopt;
    return request_.encrypt.protectors.front();
  }

  void take_up_decryption(const Journal& journal, bool has_work) {
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

  /// It is on whichever of the two is the original, or else, at the very end, on the journal's key.
  [[nodiscard]] KernelPolicy policy_that_goes(const Journal& journal) const {
    std::optional<KernelPolicy> policy;
    if (site_.identity() == journal.original) policy = site_.policy(context_);
    const UniqueFd tree = policy ? UniqueFd() : site_.open_tree();
    if (tree) policy = context_.kernel.get_policy(tree.get());
    if (!policy && !tree) policy = policy_of_journal_key();
    if (policy) return *policy;
    throw Error(Errc::corrupt_metadata, "nothing is left of the encrypted original")
        .with_path(site_.path());
  }

  void unlock_again(const KeyIdentifier& key) {
    if (has_key(key)) return;
    const std::optional<KernelPolicy> policy = site_.policy(context_);
    if (policy && policy->key == KeySpecifier(key)) {
      static_cast<void>(unlock_directory(context_, site_.path(), {}, opener_));
      return;
    }
    static_cast<void>(unlock_key(context_, site_.filesystem(), key, {}, opener_));
  }

  // --- the way through the states

  void finish_states() {
    while (true) {
      switch (operation_->journal().state) {
        case State::copying:
          copy();
          break;
        case State::moving:
          move();
          break;
        case State::exchanging:
          exchange();
          break;
        case State::removing:
          remove_original();
          return;
        case State::returning:
          throw Error(Errc::internal, "a conversion goes on and back at once");
      }
    }
  }

  [[nodiscard]] UniqueFd tree() const { return open_tree_of(operation_->journal().replacement); }

  /// The directory in the work directory, if it is this one.
  [[nodiscard]] UniqueFd open_tree_of(const Journal::Inode& wanted) const {
    UniqueFd tree = site_.work() >= 0 ? site_.open_tree() : UniqueFd();
    if (!tree || journal_inode(inode_identity(tree.get())) != wanted) {
      throw Error(Errc::corrupt_metadata,
                  printable(site_.work_path()) + " is not what was made there")
          .with_path(site_.path());
    }
    return tree;
  }

  /// Also what an earlier round or run has left: files that changed since are copied again.
  void copy() {
    if (++rounds_ > kMaxRounds) {
      throw Error(Errc::files_in_use, "the files of " + printable(site_.path()) +
                                          " keep changing while they are copied")
          .with_path(site_.path());
    }
    const Journal& journal = operation_->journal();
    const UniqueFd copy = tree();
    const FileTime since = filesystem_now(site_.work());
    phase("copying", journal.bytes, journal.files);
    const bool empty = directory_names(copy.get(), 1).names.empty();
    with_path([&] { copy_tree(site_.directory(), copy.get(), {empty, 0}, progress_, tick()); });
    phase("syncing", journal.bytes, journal.files);
    tick()();
    sync_tree(copy.get());
    if (journal.verify && !is_copy_right(copy.get(), since)) return;
    operation_->update([&](Journal& next) {
      next.since = journal_time(since);
      next.state = State::exchanging;
    });
  }

  /// False if it differs since files were changed meanwhile. Throws if they are being written to
  /// now, and if the copy is not what was written.
  bool is_copy_right(int copy, FileTime since) {
    const Journal& journal = operation_->journal();
    phase("comparing", journal.bytes, journal.files);
    const std::vector<TreeFinding> differences =
        compare_trees(site_.directory(), copy, kMaxFindings, progress_, tick());
    if (differences.empty()) return true;
    if (!changes_of_original(since).empty()) return false;
    std::vector<std::string> names;
    names.reserve(differences.size());
    for (const TreeFinding& difference : differences) {
      names.push_back(difference.path + " (" + difference.what + ")");
    }
    throw Error(Errc::io, "the copy of " + printable(site_.path()) +
                              " is not what was written to it: " + enumerate(names))
        .with_path(site_.path());
  }

  std::vector<TreeFinding> changes_of_original(FileTime since) {
    phase("checking", 0, 0);
    if (filesystem_now(site_.work()) < since) {
      context_.explain("the clock was set back meanwhile: what changed cannot be told");
      return {{".", "changed"}};
    }
    std::vector<TreeFinding> changes =
        changes_since(site_.directory(), since, kMaxFindings, tick());
    if (is_open_for_writing(changes)) throw in_use(paths_below(changes));
    for (const TreeFinding& change : changes) {
      context_.explain("changed meanwhile: " + printable(change.path));
    }
    return changes;
  }

  [[nodiscard]] Error in_use(const std::vector<std::string>& paths) const {
    return Error(Errc::files_in_use, "in " + printable(site_.path()) +
                                         " files are open for writing: " + enumerate(paths))
        .with_path(site_.path());
  }

  /// Errors of the tree name what they are about relative to it.
  template <class Action>
  void with_path(Action action) const {
    try {
      action();
    } catch (Error& error) {
      if (!error.path().empty()) error.with_path(site_.path() + "/" + error.path());
      throw;
    }
  }

  [[nodiscard]] MoveRequest move_request(int source, int destination) {
    MoveRequest move;
    move.source = source;
    move.destination = destination;
    move.work = site_.work();
    move.journal = [this](const std::optional<PartMove>& part) {
      operation_->update([&](Journal& next) {
        next.part.reset();
        if (part) next.part = journal_part(*part);
      });
    };
    if (operation_->journal().part) move.resumed = part_move(*operation_->journal().part);
    return move;
  }

  void move() {
    const Journal& journal = operation_->journal();
    const UniqueFd destination = tree();
    phase("moving", journal.bytes, journal.files);
    with_path(
        [&] { move_tree(move_request(site_.directory(), destination.get()), progress_, tick()); });
    sync_tree(destination.get());
    operation_->update([&](Journal& next) {
      next.since = journal_time(filesystem_now(site_.work()));
      next.state = State::exchanging;
    });
  }

  /// The last look, and the step.
  void exchange() {
    const Journal& journal = operation_->journal();
    const HolderScan holders = find_holders_below(site_.filesystem().fd(), site_.place(context_));
    require_no_holders(holders);
    if (journal.strategy == Strategy::copy) {
      if (!changes_of_original(file_time(journal.since)).empty()) return go_back_to(State::copying);
    } else if (!directory_names(site_.directory(), 1).names.empty()) {
      return go_back_to(State::moving);
    }
    static_cast<void>(tree());
    context_.throw_if_interrupted();
    exchange_directories(site_.parent(), site_.name(), inode_of(journal.original), site_.work(),
                         ConversionSite::kTree, inode_of(journal.replacement));
    site_.look_again();
    context_.explain("exchanged " + printable(site_.path()) + " and its copy");
    leave_exchange();
  }

  /// What was changed in the original when it was replaced is nowhere else: it stays, and the
  /// person decides. Later only those can change it who have it open.
  void leave_exchange() {
    if (operation_->journal().strategy == Strategy::copy) {
      const UniqueFd original = open_tree_of(operation_->journal().original);
      phase("checking", 0, 0);
      const std::vector<std::string> changed = paths_below(changes_since(
          original.get(), file_time(operation_->journal().since), kMaxFindings, tick()));
      if (!changed.empty()) throw late_changes(changed);
    }
    operation_->update([](Journal& next) { next.state = State::removing; });
  }

  [[nodiscard]] Error late_changes(const std::vector<std::string>& paths) const {
    return Error(Errc::files_in_use,
                 "files of the original were changed while it was replaced, and stay in " +
                     printable(site_.work_path() + "/" + ConversionSite::kTree) +
                     " until you have moved them away: " + enumerate(paths))
        .with_path(site_.path());
  }

  void go_back_to(State state) {
    operation_->update([&](Journal& next) { next.state = state; });
  }

  void require_no_holders(const HolderScan& scan) const {
    std::vector<std::string> names;
    for (const Holder& holder : scan.holders) {
      if (holder.pid != ::getpid()) {
        names.push_back(holder.command + " (" + std::to_string(holder.pid) + ")");
      }
    }
    if (names.empty()) return;
    throw Error(Errc::files_in_use, printable(site_.path()) + " is in use by " + enumerate(names))
        .with_path(site_.path());
  }

  /// Somebody may have put the original back.
  void require_exchanged(const Journal& journal) const {
    if (site_.identity() == journal.replacement) return;
    throw Error(Errc::conflict, printable(site_.path()) +
                                    " was replaced by its copy, and is not that copy any more: "
                                    "move it back to where it was")
        .with_path(site_.path());
  }

  void remove_original() {
    const Journal& journal = operation_->journal();
    phase("removing", journal.bytes, journal.files);
    require_exchanged(journal);
    if (site_.work() < 0) return;
    if (site_.open_tree()) static_cast<void>(open_tree_of(journal.original));
    const std::vector<std::string> changed = paths_below(
        remove_tree(site_.work(), ConversionSite::kTree, file_time(journal.since), tick()));
    if (!changed.empty()) throw late_changes(changed);
    site_.remove_work();
  }

  // --- the end

  void finish() {
    const Journal journal = operation_->journal();
    set_mode(journal.mode);
    if (encrypts()) finish_policy(journal);
    if (journal.previous) retire_previous(*journal.previous);
    operation_->remove();
    result_.bytes = journal.bytes;
    result_.files = journal.files;
    result_.key_identifier = journal.key;
    if (request_.trim) trim();
    if (encrypts() && request_.encrypt.leave_locked) lock_again(*journal.key);
  }

  void set_mode(std::uint32_t mode) const {
    if ((site_.info().mode & kPermissionBits) == mode) return;
    if (::fchmod(site_.directory(), mode) != 0) {
      throw system_error(errno, "setting the permissions of " + printable(site_.path()));
    }
    sync_file(site_.directory(), "setting the permissions of " + printable(site_.path()));
  }

  void finish_policy(const Journal& journal) {
    std::optional<PolicyRecord> record = store_->policy(*journal.key);
    if (!record) throw missing_record();
    if (journal.bound && record->operation) {
      const std::optional<PolicyRecord> after = operation_->store().policy_after(journal.operation);
      if (!after || after->summary.key_identifier != *journal.key || after->operation ||
          after->options != record->options ||
          after->summary.protectors != record->summary.protectors) {
        throw Error(Errc::corrupt_metadata, "the record that ends the conversion of " +
                                                printable(site_.path()) + " does not fit")
            .with_path(site_.path());
      }
      if (result_.resumed) {
        static_cast<void>(open_policy(*store_, *after, first_protector(), opener_, site_.path()));
      }
      record = after;
    }
    static_cast<void>(add_hint(*record, site_.hint(context_)));
    {
      const UserStore::Lock lock = store_->lock(context_.throw_if_interrupted);
      store_->write(lock, *record);
    }
    for (const ProtectorRecord& protector :
         read_protectors(*store_, record->summary.protectors).records) {
      result_.protectors.push_back(protector.summary);
    }
  }

  /// The key that the directory had: its record goes once nothing needs it any more.
  void retire_previous(const KeyIdentifier& key) {
    const std::optional<PolicyRecord> record = store_->policy(key);
    const KeySearch search = search_by_key(context_, site_.filesystem(), {key});
    result_.previous_in_use = search.found;
    if (!search.found.empty()) return;
    if (!search.closed.empty()) {
      request_.note(
          "not all of the filesystem could be looked at, so the record of the previous "
          "key " +
          key.hex() + " stays");
      return;
    }
    if (record) {
      const UserStore::Lock lock = store_->lock(context_.throw_if_interrupted);
      store_->remove(lock, key);
      result_.unused = unused_protectors(record->summary.protectors);
    }
    const ActAs acting(user_);
    static_cast<void>(
        context_.kernel.remove_key(site_.filesystem().fd(), key, RemoveScope::own_claim));
  }

  static std::string nothing_opened_by(const ProtectorSummary& protector) {
    return "protector \"" + printable(protector.name) +
           "\" opens nothing any more: fscryptctl protector remove " + protector.id.hex();
  }

  std::vector<ProtectorSummary> unused_protectors(
      const std::vector<ProtectorId>& candidates) const {
    std::vector<ProtectorSummary> unused;
    const Listing<PolicySummary> policies = store_->policies();
    for (const ProtectorId& id : candidates) {
      const bool used = std::ranges::any_of(
          policies.records, [&](const PolicySummary& policy) { return is_opened_by(policy, id); });
      const std::optional<ProtectorRecord> record = used ? std::nullopt : store_->protector(id);
      if (record) unused.push_back(record->summary);
    }
    return unused;
  }

  /// The work is done; what the disk cannot do is no failure of it.
  void trim() {
    try {
      trim_filesystem(site_.filesystem().fd());
      result_.trimmed = true;
    } catch (const Error& error) {
      request_.note(error.what());
    }
  }

  void lock_again(const KeyIdentifier& key) {
    site_.close();
    const ActAs acting(user_);
    static_cast<void>(
        context_.kernel.remove_key(site_.filesystem().fd(), key, RemoveScope::own_claim));
  }

  // --- the way back

  void return_files(const Journal& journal) {
    const bool has_work = site_.open_work(journal.operation);
    if (encrypts() ? !take_up_policy(journal, has_work) : false) return;
    if (!encrypts()) take_up_decryption(journal, has_work);
    if (journal.previous) unlock_again(*journal.previous);
    const UniqueFd source = tree();
    phase("moving", journal.bytes, journal.files);
    // On the way back already it is a file that goes back, which move_tree goes on with.
    if (journal.state != State::returning && journal.part) {
      with_path(
          [&] { finish_part(move_request(site_.directory(), source.get()), progress_, tick()); });
    }
    operation_->update([](Journal& next) { next.state = State::returning; });
    with_path([&] { move_tree(move_request(source.get(), site_.directory()), progress_, tick()); });
    sync_tree(site_.directory());
  }

  /// Removes the copy; the original is whole. What is removed is judged by what it is, not by the
  /// journal's word.
  void discard(const Journal& journal) {
    if (site_.identity() != journal.original) {
      throw Error(Errc::corrupt_metadata,
                  printable(site_.path()) + " is not the directory that was being converted")
          .with_path(site_.path());
    }
    if (site_.policy(context_)) require_unlocked();
    phase("removing", journal.bytes, journal.files);
    if (site_.work() >= 0 || site_.open_work(journal.operation)) {
      // Files that were moved are nowhere else, and that a journal calls them a copy proves
      // nothing.
      if (journal.strategy == Strategy::copy && entry_info(site_.work(), kLinks)) {
        throw Error(Errc::corrupt_metadata, printable(site_.work_path()) +
                                                " holds files that were moved, not a copy of them")
            .with_path(site_.path());
      }
      static_cast<void>(remove_tree(site_.work(), ConversionSite::kTree, std::nullopt, tick()));
      site_.remove_work();
    }
    set_mode(journal.original_mode);
    if (journal.bound && journal.key) forget_policy(*journal.key, journal.operation);
    OperationStore(*store_).remove(journal.operation);
  }

  void forget_policy(const KeyIdentifier& key, const OperationId& operation) const {
    const UserStore::Lock lock = store_->lock(context_.throw_if_interrupted);
    const std::optional<PolicyRecord> record = store_->policy(key);
    if (!record || record->operation != operation) return;
    store_->remove(lock, key);
    for (const ProtectorSummary& protector : unused_protectors(record->summary.protectors)) {
      request_.note(nothing_opened_by(protector));
    }
    const ActAs acting(user_);
    static_cast<void>(
        context_.kernel.remove_key(site_.filesystem().fd(), key, RemoveScope::own_claim));
  }

  Context& context_;
  const ConversionRequest& request_;
  SecretProvider& secrets_;
  Opener opener_;
  ConversionSite site_;
  Identity user_;
  std::optional<UserStore> store_;
  std::optional<Operation> operation_;
  int rounds_ = 0;  ///< of copying in this run
  TreeProgress progress_;
  ConversionProgress shown_;
  ConversionResult result_;
};

}  // namespace

ConversionResult convert_directory(Context& context, const ConversionRequest& request,
                                   SecretProvider& secrets) {
  return Conversion(context, request, secrets).run();
}

ConversionPlan plan_conversion(Context& context, const ConversionRequest& request,
                               SecretProvider& secrets) {
  return Conversion(context, request, secrets).plan();
}

ConversionStatus conversion_status(Context& context, const ConversionRequest& request,
                                   SecretProvider& secrets, bool count) {
  return Conversion(context, request, secrets).status(count);
}

void cancel_conversion(Context& context, const ConversionRequest& request,
                       SecretProvider& secrets) {
  Conversion(context, request, secrets).cancel();
}

}  // namespace fscryptctl
