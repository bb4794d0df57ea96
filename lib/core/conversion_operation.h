#pragma once

#include <optional>
#include <string>

#include "fscryptctl/core/conversion.h"
#include "fscryptctl/core/conversion_site.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/metadata/operations.h"

namespace fscryptctl {

/// One conversion that has begun: its journal, and what authenticates it.
class Operation {
 public:
  /// `store` must outlive it.
  Operation(const UserStore& store, Journal journal, JournalKey key)
      : operations_(store), journal_(std::move(journal)), key_(std::move(key)) {}

  [[nodiscard]] const Journal& journal() const noexcept { return journal_; }
  [[nodiscard]] const OperationStore& store() const noexcept { return operations_; }

  /// Changes the journal, durably.
  template <class Change>
  void update(Change change) {
    Journal next = journal_;
    change(next);
    operations_.write_journal(next.operation, emit(next, key_));
    journal_ = next;
  }
  void write() {
    update([](Journal&) {});
  }
  void remove() const { operations_.remove(journal_.operation); }

 private:
  OperationStore operations_;
  Journal journal_;
  JournalKey key_;
};

[[nodiscard]] OperationId new_operation_id();

/// Whether it is about this directory, as what it was or what it becomes.
[[nodiscard]] bool is_about(const Journal& journal, const InodeIdentity& directory);

/// The unfinished operation whose journal, not proven yet, names this directory as what it was or
/// becomes. Throws corrupt_metadata if one that cannot be read has its work directory beside it.
[[nodiscard]] std::optional<Journal> find_unfinished(const UserStore& store,
                                                     const ConversionSite& site);

/// Throws corrupt_metadata unless the journal is on disk as it was read, made by whoever had the
/// key.
void require_authentic(const OperationStore& operations, const Journal& journal,
                       const JournalKey& key);

/// For decrypt: a random key in a file that is encrypted with the directory's policy, so that it
/// can be read as long as the directory is unlocked, and by nobody else. It lies in the work
/// directory.
[[nodiscard]] JournalKey make_journal_key(const ConversionSite& site);
/// `policy`: what the file must be encrypted with. Throws wrong_key if it is locked,
/// corrupt_metadata.
[[nodiscard]] JournalKey read_journal_key(const ConversionSite& site, const Context& context,
                                          const KernelPolicy& policy);

}  // namespace fscryptctl
