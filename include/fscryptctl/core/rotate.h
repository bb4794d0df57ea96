#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/core/protector_admin.h"

namespace fscryptctl {

/// What a new protector is named until it has taken the old one's place, so that a rotation that
/// was cut off is recognised and finished: "NAME (rotated from OLDID)".
struct RotationMark {
  std::string name;
  ProtectorId previous;
};
[[nodiscard]] std::string rotation_mark(const RotationMark& mark);
[[nodiscard]] std::optional<RotationMark> parse_rotation_mark(const std::string& name);

struct RotatedProtector {
  ProtectorSummary protector;
  ProtectorId previous;
  std::vector<KeyIdentifier> policies;  ///< wrapped anew by this run
  std::vector<CopyState> copies;        ///< not written: the old protector stays there
  bool finished_earlier = false;        ///< an interrupted rotation was finished, no new key made
  bool lost_recovery_key = false;       ///< the old protector's does not open the new one
};

/// Gives a protector a new key: a new protector of the same name and secret takes its place in
/// every policy of the user on every filesystem that is reachable, and the old records go.
/// A policy's old wrapping is replaced by the new one in one atomic write, which is proven to open
/// before and comes after the new protector's record; the old record goes when no policy needs it,
/// the chosen filesystem's last. Cut off anywhere, every policy opens with the same secret as
/// before, and repeating the command finishes.
/// Throws wrong_key and what opening throws, corrupt_metadata if a policy there cannot be read.
[[nodiscard]] RotatedProtector rotate_protector(Context& context, const NamedProtector& place,
                                                SecretProvider& secrets);

}  // namespace fscryptctl
