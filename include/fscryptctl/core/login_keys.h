#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fscryptctl/core/login.h"
#include "fscryptctl/core/login_budget.h"

namespace fscryptctl {

/// What hashing one password has given so far: with it a copy can be opened again without the
/// password and without hashing.
using HashedPassword = std::list<std::pair<Argon2id, WrappingKey>>;

/// The mounts that a login may look at: none that a server or a user could make hang, and none
/// whose path leads through such a one.
[[nodiscard]] std::vector<Mount> mounts_for_login(std::vector<Mount> mounts);

/// A user's login protectors on this machine, for a login: nothing here waits for long, and one bad
/// record, filesystem or lock stops nothing else. What goes wrong is told to `context.explain`.
class LoginKeys {
 public:
  /// Looks for the records, those on the filesystem of `home` first. Only root's filesystems count.
  LoginKeys(Context& context, LoginUser user, const std::string& home, LoginBudget& budget);

  [[nodiscard]] const std::vector<std::shared_ptr<const LoginPlace>>& places() const noexcept {
    return places_;
  }
  [[nodiscard]] bool any() const noexcept { return !copies_.empty(); }
  /// True if there is a protector of this user and machine whose key is not known.
  [[nodiscard]] bool some_closed() const;

  /// Opens what is not open yet. Hashes at most as the budget permits, each kind of hashing once;
  /// of protectors that do not hint at this user, at most Opener::kMaxHashings. True if anything
  /// was opened.
  bool open(const SecretBytes& password, HashedPassword& hashed);
  /// The same with a recovery key.
  bool open(const RecoveryKey& key);
  /// The same with what was hashed before only.
  bool open(const HashedPassword& hashed);

  /// Gives what is open, but not with the new password already, the new password: one more wrapping
  /// in front of the one that opened it, identical in all copies. Copies that did not open count if
  /// a policy beside them proves that they are copies. `hashed` is what hashing the new password
  /// gave so far. True if all records on the disk were written.
  bool rewrap(const SecretBytes& password, const HashedPassword& hashed);

  /// After a login with the password that opened them, which is thereby proven: previous passwords
  /// go, and copies that it does not open are healed.
  void settle();

  /// True if settle() has nothing to do.
  [[nodiscard]] bool settled() const;

  /// True if every copy of what is open can be written.
  [[nodiscard]] bool writable() const;

  /// All of these protectors, open or not.
  [[nodiscard]] std::set<ProtectorId> ids() const;

  /// The keys of what is open.
  [[nodiscard]] const std::map<ProtectorId, ProtectorKey>& keys() const noexcept { return keys_; }

 private:
  struct Copy {
    LoginCopy seen;
    std::uint64_t opened = 0;  ///< generation of the newest password that opened it, or, opened by
                               ///< a recovery key, that it has; 0: nothing did
  };

  [[nodiscard]] LoginSearch search() const;
  [[nodiscard]] bool opened(Copy& copy, const HashedPassword& hashed);
  void explain_untried(const ProtectorId& id, const std::string& reason);
  bool hash_for(const Copy& copy, const SecretBytes& password, HashedPassword& hashed,
                int& strangers);
  [[nodiscard]] bool affordable(const KdfCosts& costs);
  [[nodiscard]] Copy* best_copy(const ProtectorId& id);
  [[nodiscard]] bool is_proven(const Copy& copy) const;
  bool write(Copy& copy, const ProtectorRecord& wanted);
  bool spread(const Copy& from);
  [[nodiscard]] OpenProtector open_protector(const Copy& copy) const;

  Context& context_;
  LoginUser user_;
  LoginBudget& budget_;
  KdfLimits limits_;
  bool untried_ = false;  ///< some protector was not, which has been said
  double kib_a_ms_ = 0;   ///< what one lane does here; 0 until something was hashed
  std::vector<std::shared_ptr<const LoginPlace>> places_;
  std::vector<Copy> copies_;
  std::map<ProtectorId, ProtectorKey> keys_;
};

}  // namespace fscryptctl
