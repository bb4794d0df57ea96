#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conversion_operation.h"
#include "fscryptctl/core/conversion.h"
#include "fscryptctl/core/new_records.h"
#include "fscryptctl/core/policy_choice.h"
#include "fscryptctl/tree/compare.h"
#include "fscryptctl/tree/move.h"
#include "in_tree.h"

namespace fscryptctl {

/// One run of `convert`, `reencrypt` or `decrypt`. Its parts stand in files of their own:
/// conversion_begin (the first run), conversion_resume (taking up what is unfinished),
/// conversion_steps (from one state to the next), conversion_finish (the end, and the way back).
class Conversion {
 public:
  Conversion(Context& context, const ConversionRequest& request, SecretProvider& secrets)
      : context_(context),
        request_(request),
        secrets_(secrets),
        opener_(secrets, context),
        site_(ConversionSite::find(context, request.encrypt.path)),
        user_(context.user_for(site_.info().uid)) {}
  ConversionResult run();
  ConversionPlan plan();
  ConversionStatus status(bool count);
  void cancel();

 private:
  using Command = Journal::Command;
  using State = Journal::State;
  using Strategy = Journal::Strategy;
  static constexpr mode_t kPermissionBits = 07777;

  // --- what there is

  void open_store() { store_ = site_.filesystem().store(user_); }
  [[nodiscard]] bool encrypts() const { return request_.command != Command::decrypt; }
  [[nodiscard]] Strategy strategy() const;
  /// False as well if it is somebody else's, who began it.
  bool can_open_work(const Journal& journal);
  void count_done(const Journal& journal, ConversionStatus& status);
  void require_right_kind() const;
  ConversionPlan look();

  // --- watching

  void phase(std::string_view name, std::uint64_t bytes, std::uint64_t files);
  Tick tick();

  // --- beginning

  bool begin();
  /// It is encrypted: an error, or with --ensure a success if the secret opens it.
  bool adopt();
  void require_unlocked();
  [[nodiscard]] bool has_key(const KeySpecifier& key) const;
  Journal new_journal(const ConversionPlan& plan) const;
  void begin_encrypting(Journal journal);
  /// Another key is wanted, not another cipher, unless that is said.
  void keep_modes(EncryptRequest& wanted) const;
  /// The journal comes first: whatever it does not lead to an end, it leads back.
  void write_beginning(PolicyChoice& choice, NewRecords& records);
  /// Nothing of the original has been touched.
  void undo_beginning(NewRecords& records) noexcept;
  void begin_decrypting(const Journal& journal);
  /// The directory that the original becomes: encrypted, empty or as far as an earlier run got.
  void provide_tree();
  /// The key is in the kernel for the user, who has to own what is encrypted with it. Where root
  /// acts for her she does not reach the directory, whose parent is root's.
  void set_policy(int directory, const KernelPolicy& policy) const;
  void set_owner(int directory, uid_t uid, gid_t gid) const;
  [[nodiscard]] std::optional<KernelPolicy> new_policy() const;
  [[nodiscard]] Error missing_record() const;
  /// A directory that its owner cannot write to cannot be renamed by her either.
  void open_up_original() const;

  // --- going on

  void require_command(const Journal& journal) const;
  void require_same_options(const Journal& journal) const;
  /// What came of what was begun.
  enum class Found { nothing, unfinished, done };
  Found take_up(const Journal& journal);
  /// Since it was compared anything may have happened to the original, the clock included, by which
  /// alone a change would be noticed.
  [[nodiscard]] static bool must_compare_again(const Journal& journal);
  /// True while something is left that is encrypted with the policy that goes, so that the journal
  /// can be proven.
  [[nodiscard]] bool proof_is_left(const Journal& journal) const;
  [[nodiscard]] std::optional<KernelPolicy> policy_of_journal_key() const;
  /// It was cut off at the very end. With the original gone, nothing proves the journal any more,
  /// so nothing else is done by it.
  void forget_decryption(const Journal& journal);
  void mark_exchanged();
  bool take_up_policy(const Journal& journal, bool has_work);
  void require_same_policy_options(const PolicyRecord& record) const;
  void require_same_protectors(const PolicyRecord& record) const;
  /// It was the new protector's; now none is made.
  void require_same_name(const PolicyRecord& record) const;
  [[nodiscard]] std::optional<std::string> first_protector() const;
  void take_up_decryption(const Journal& journal, bool has_work);
  /// It is on whichever of the two is the original, or else, at the very end, on the journal's key.
  [[nodiscard]] KernelPolicy policy_that_goes(const Journal& journal) const;
  void unlock_again(const KeyIdentifier& key);

  // --- the way through the states

  void finish_states();
  [[nodiscard]] UniqueFd tree() const { return open_tree_of(operation_->journal().replacement); }
  /// The directory in the work directory, if it is this one.
  [[nodiscard]] UniqueFd open_tree_of(const Journal::Inode& wanted) const;
  /// Also what an earlier round or run has left: files that changed since are copied again.
  void copy();
  /// False if it differs since files were changed meanwhile. Throws if they are being written to
  /// now, and if the copy is not what was written.
  bool is_copy_right(int copy, FileTime since);
  std::vector<TreeFinding> changes_of_original(FileTime since);
  [[nodiscard]] Error in_use(const std::vector<std::string>& paths) const;

  [[nodiscard]] std::string work_tree() const {
    return site_.work_path() + "/" + ConversionSite::kTree;
  }
  [[nodiscard]] MoveRequest move_request(int source, int destination);
  void move();
  /// The last look, and the step.
  void exchange();
  /// What was changed in the original when it was replaced is nowhere else: it stays, and the
  /// person decides. Later only those can change it who have it open.
  void leave_exchange();
  [[nodiscard]] Error late_changes(const std::vector<std::string>& paths) const;
  void go_back_to(State state);
  void require_no_holders(const HolderScan& scan) const;
  /// Somebody may have put the original back.
  void require_exchanged(const Journal& journal) const;
  void remove_original();

  // --- the end

  void finish();
  void set_mode(std::uint32_t mode) const;
  void finish_policy(const Journal& journal);
  /// The key that the directory had: its record goes once nothing needs it any more.
  void retire_previous(const KeyIdentifier& key);
  static std::string nothing_opened_by(const ProtectorSummary& protector);
  std::vector<ProtectorSummary> unused_protectors(const std::vector<ProtectorId>& candidates) const;
  /// The work is done; what the disk cannot do is no failure of it.
  void trim();
  void lock_again(const KeyIdentifier& key);

  // --- the way back

  void return_files(const Journal& journal);
  /// Removes the copy; the original is whole. What is removed is judged by what it is, not by the
  /// journal's word.
  void discard(const Journal& journal);
  void forget_policy(const KeyIdentifier& key, const OperationId& operation) const;
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

}  // namespace fscryptctl
