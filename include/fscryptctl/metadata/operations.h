#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/metadata/journal.h"
#include "fscryptctl/metadata/store.h"

namespace fscryptctl {

/// A conversion that somebody began and that has not ended.
struct UnfinishedOperation {
  OperationId id;
  std::optional<Journal> journal;  ///< as it says; nullopt if it cannot be read
  std::string reason;              ///< why not
};

/// What is written about a user's conversions on one filesystem: `users/<uid>/operations`. Writes
/// are durable and atomic, and take the store's lock for themselves: do not hold it. Whoever writes
/// about an operation has the right to do that operation (its directories are locked).
class OperationStore {
 public:
  /// `store` must outlive it.
  explicit OperationStore(const UserStore& store) : store_(store) {}

  /// Sorted by id; at most 1000. Throws untrusted_metadata, io.
  [[nodiscard]] std::vector<UnfinishedOperation> list() const;

  /// The journal's text; nullopt if there is none.
  [[nodiscard]] std::optional<std::string> journal(const OperationId& id) const;
  void write_journal(const OperationId& id, const std::string& text) const;

  /// What the policy's record becomes when the operation has ended.
  [[nodiscard]] std::optional<PolicyRecord> policy_after(const OperationId& id) const;
  void write_policy_after(const OperationId& id, const PolicyRecord& record) const;

  /// Everything about it; the journal last.
  void remove(const OperationId& id) const;

 private:
  const UserStore& store_;
};

/// Its directory among a user's.
inline constexpr std::string_view kOperationsDirectory = "operations";

}  // namespace fscryptctl
