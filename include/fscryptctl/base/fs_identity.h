#pragma once

#include <sys/types.h>

namespace fscryptctl {

/// Whose files and kernel keys an operation is about.
struct Identity {
  uid_t uid;
  gid_t gid;
};

/// The identity of the calling process (effective ids).
[[nodiscard]] Identity own_identity() noexcept;

/// While it lives, this thread's filesystem operations and key claims are `identity`'s: setfsgid
/// and setfsuid, both read back, and CAP_DAC_OVERRIDE checked to have left the effective set (it
/// stays under SECBIT_NO_SETUID_FIXUP; then refused). Nothing to do if it is the caller's own.
/// Throws permission. No thread but the calling one may be alive. Not nestable with another user.
class ActAs {
 public:
  explicit ActAs(Identity identity);
  ~ActAs();
  ActAs(const ActAs&) = delete;
  ActAs& operator=(const ActAs&) = delete;

 private:
  Identity previous_;
  bool switched_ = false;
};

}  // namespace fscryptctl
