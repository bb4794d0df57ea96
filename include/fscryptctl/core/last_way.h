#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fscryptctl/core/context.h"

namespace fscryptctl {

/// What would lose its last way in, for a question to a person.
struct Loss {
  std::string subject;                   ///< what is to be removed: `"mine"`, `policy 8699...`
  std::vector<KeyIdentifier> policies;   ///< these get no way in any more
  std::vector<std::string> directories;  ///< that are lost with it; empty: none is known
  std::vector<std::string> unknown;      ///< what could not be looked at and may hold some
};

/// What whoever runs a removal permits.
struct RemovalWishes {
  bool allow_data_loss = false;  ///< `--allow-data-loss`
  /// Asked before policies lose their last way. Throws declined, missing_input, interrupted.
  std::function<void(const Loss&)> confirm;
};

/// True if the policy can be opened without this protector: another one's record is here and whole.
[[nodiscard]] bool has_other_way(const UserStore& store, const PolicySummary& policy,
                                 const ProtectorId& without);

/// True if a directory with this key lies where a record's hint says, or one that is encrypted, but
/// closed to the caller. As the caller.
[[nodiscard]] bool leads_to_key(const Context& context, const Filesystem& filesystem,
                                const std::string& hint, const KeyIdentifier& key);

/// A name as messages show it: "mine" with its quotes, printable.
[[nodiscard]] std::string in_quotes(const std::string& name);
/// "a", "a and b", "a, b and c", "a, b, c and 7 more"; printable.
[[nodiscard]] std::string enumerate(const std::vector<std::string>& names);

/// Decides whether policies may lose their last way. Used without a lock, since it looks through
/// the filesystem and asks; whoever then holds the lock asks permits() again.
class LastWayGuard {
 public:
  /// `refusal`: last_way, or in_use where adding another way is no way out.
  LastWayGuard(const Context& context, const Filesystem& filesystem, const RemovalWishes& wishes,
               Errc refusal)
      : context_(context), filesystem_(filesystem), wishes_(wishes), refusal_(refusal) {}

  /// Returns if they may. Throws the refusal, naming the directories that still need one of the
  /// policies, wherever they were moved to, or what could not be looked at; and what the question
  /// throws. The same question is not asked again.
  void require(const std::string& subject, const std::vector<PolicySummary>& losing);

  /// True if require() has returned for all of these as they are.
  [[nodiscard]] bool permits(const std::vector<PolicySummary>& losing) const;

 private:
  [[nodiscard]] Loss find_loss(const std::string& subject,
                               const std::vector<PolicySummary>& losing) const;
  [[nodiscard]] Error refuse(const Loss& loss) const;

  const Context& context_;
  const Filesystem& filesystem_;
  const RemovalWishes& wishes_;
  Errc refusal_;
  std::vector<PolicySummary> permitted_;
};

}  // namespace fscryptctl
