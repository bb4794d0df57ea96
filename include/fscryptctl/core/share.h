#pragma once

#include <optional>
#include <string>

#include "fscryptctl/core/context.h"
#include "fscryptctl/core/protector.h"
#include "fscryptctl/crypto/share_code.h"
#include "fscryptctl/metadata/share_codec.h"

namespace fscryptctl {

/// A policy sealed for another user, with the code that opens it.
struct Share {
  SharedPolicy shared;
  ShareCode code;
};

/// Opens the policy of a directory, for which the secret is always asked, and seals its key under a
/// new one-time code. With `protector` only that one opens it. Nothing is written.
/// Throws not_encrypted, not_managed, in_use (a conversion is in progress), corrupt_metadata (the
/// directory has other modes than recorded), and what opening throws.
[[nodiscard]] Share make_share(Context& context, const std::string& path,
                               const std::optional<std::string>& protector, Opener& opener);

/// Where a shared policy's directory was seen.
struct SharePlace {
  Filesystem filesystem;
  std::optional<std::string> hint;  ///< the first of its paths that leads there; nullopt: none does
};

/// `mount`'s filesystem if one is named. Otherwise, of those with the right UUID and the one of the
/// current directory, the one where a path leads to a directory with the key; if there is none, the
/// first of those.
[[nodiscard]] SharePlace find_share_place(Context& context, const SharedPolicy& shared,
                                          const std::optional<std::string>& mount);

struct AcceptRequest {
  std::optional<std::string> protector;  ///< an existing one; otherwise a new one is made
  Source source = Source::passphrase;    ///< of the new one
  std::optional<std::string> name;       ///< of the new one; default: the directory's
};

struct AcceptResult {
  bool changed = false;
  Identity user{};
  ProtectorSummary protector;
};

/// The user's record of the policy, if she has one already: nothing is left to accept.
[[nodiscard]] std::optional<PolicyRecord> accepted_before(const Context& context,
                                                          const SharePlace& place,
                                                          const SharedPolicy& shared);

/// The key; nullopt if the code is another share's.
[[nodiscard]] std::optional<PolicyKey> open_share(const SharedPolicy& shared,
                                                  const ShareCode& code);

/// Writes the user's own records: the protector, then the policy. What an interrupted run left is
/// taken up if the same secret opens it. Throws not_set_up, usage (name), no_such_protector,
/// corrupt_metadata (the directory has other modes than the share), and what opening throws.
[[nodiscard]] AcceptResult accept_share(Context& context, const SharePlace& place,
                                        const SharedPolicy& shared, const PolicyKey& key,
                                        const AcceptRequest& request, SecretProvider& secrets);

}  // namespace fscryptctl
