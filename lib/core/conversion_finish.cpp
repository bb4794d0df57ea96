#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "conversion_run.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/core/directory_search.h"
#include "fscryptctl/tree/copy.h"
#include "fscryptctl/tree/remove.h"
#include "fscryptctl/tree/trim.h"

namespace fscryptctl {

void Conversion::finish() {
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

void Conversion::set_mode(std::uint32_t mode) const {
  if ((site_.info().mode & kPermissionBits) == mode) return;
  if (::fchmod(site_.directory(), mode) != 0) {
    throw system_error(errno, "setting the permissions of " + printable(site_.path()));
  }
  sync_file(site_.directory(), "setting the permissions of " + printable(site_.path()));
}

void Conversion::finish_policy(const Journal& journal) {
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
  static_cast<void>(drop_hint(*record, journal.path));  // where it was when it began
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

void Conversion::retire_previous(const KeyIdentifier& key) {
  // Nobody encrypts another directory with it between the look and the removal.
  const UserStore::Lock lock = store_->lock(context_.throw_if_interrupted);
  std::optional<PolicyRecord> record = store_->policy(key);
  const KeySearch search = search_by_key(context_, site_.filesystem(), {key});
  result_.previous_in_use = search.found;
  const bool stays = !search.found.empty() || !search.closed.empty();
  if (stays && record && drop_hint(*record, operation_->journal().path)) {
    store_->write(lock, *record);
  }
  if (!search.found.empty()) return;
  if (!search.closed.empty()) {
    request_.note(
        "not all of the filesystem could be looked at, so the record of the previous "
        "key " +
        key.hex() + " stays");
    return;
  }
  if (record) {
    store_->remove(lock, key);
    result_.unused = unused_protectors(record->summary.protectors);
  }
  const ActAs acting(user_);
  static_cast<void>(
      context_.kernel.remove_key(site_.filesystem().fd(), key, RemoveScope::own_claim));
}

std::string Conversion::nothing_opened_by(const ProtectorSummary& protector) {
  return "protector \"" + printable(protector.name) +
         "\" opens nothing any more: fscryptctl protector remove " + protector.id.hex();
}

std::vector<ProtectorSummary> Conversion::unused_protectors(
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

void Conversion::trim() {
  try {
    trim_filesystem(site_.filesystem().fd());
    result_.trimmed = true;
  } catch (const Error& error) {
    request_.note(error.what());
  }
}

void Conversion::lock_again(const KeyIdentifier& key) {
  site_.close();
  const ActAs acting(user_);
  static_cast<void>(
      context_.kernel.remove_key(site_.filesystem().fd(), key, RemoveScope::own_claim));
}

void Conversion::return_files(const Journal& journal) {
  const bool has_work = site_.open_work(journal.operation, journal.path);
  if (encrypts() ? !take_up_policy(journal, has_work) : false) return;
  if (!encrypts()) take_up_decryption(journal, has_work);
  if (journal.previous) unlock_again(*journal.previous);
  const UniqueFd source = tree();
  phase("moving", journal.bytes, journal.files);
  // On the way back already it is a file that goes back, which move_tree goes on with.
  if (journal.state != State::returning && journal.part) {
    in_tree(site_.path(),
            [&] { finish_part(move_request(site_.directory(), source.get()), progress_, tick()); });
  }
  operation_->update([](Journal& next) { next.state = State::returning; });
  in_tree(work_tree(),
          [&] { move_tree(move_request(source.get(), site_.directory()), progress_, tick()); });
  sync_tree(site_.directory());
}

void Conversion::discard(const Journal& journal) {
  if (site_.identity() != journal.original) {
    throw Error(Errc::corrupt_metadata,
                printable(site_.path()) + " is not the directory that was being converted")
        .with_path(site_.path());
  }
  if (site_.policy(context_)) require_unlocked();
  phase("removing", 0, 0);
  if (site_.work() >= 0 || site_.open_work(journal.operation, journal.path)) {
    // Files that were moved are nowhere else, and that a journal calls them a copy proves
    // nothing.
    if (journal.strategy == Strategy::copy && entry_info(site_.work(), kLinks)) {
      throw Error(Errc::corrupt_metadata,
                  printable(site_.work_path()) + " holds files that were moved, not a copy of them")
          .with_path(site_.path());
    }
    static_cast<void>(in_tree(work_tree(), [&] {
      return remove_tree(site_.work(), ConversionSite::kTree, std::nullopt, progress_, tick());
    }));
    site_.remove_work();
  }
  set_mode(journal.original_mode);
  if (journal.bound && journal.key) forget_policy(*journal.key, journal.operation);
  OperationStore(*store_).remove(journal.operation);
}

void Conversion::forget_policy(const KeyIdentifier& key, const OperationId& operation) const {
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

}  // namespace fscryptctl
