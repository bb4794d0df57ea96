#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/crypto/secret.h"
#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

/// A passphrase (Source::passphrase, also tried on login protectors) or a raw key of 32 bytes. A
/// passphrase that reads as a recovery key is tried as one first, which costs no hashing.
struct Secret {
  Source kind;
  SecretBytes bytes;
  /// `bytes` are a recovery key as people write it, perhaps mistyped: tried as nothing else.
  bool recovery_key = false;
};

/// How the core asks whoever runs it for secrets: a terminal, a file, a PAM conversation.
class SecretProvider {
 public:
  SecretProvider() = default;
  SecretProvider(const SecretProvider&) = delete;
  SecretProvider& operator=(const SecretProvider&) = delete;
  virtual ~SecretProvider() = default;

  struct Request {
    std::string target;        ///< what it should open, for the prompt
    std::vector<Method> ways;  ///< methods that would be accepted, at least one
    int wrong_so_far;          ///< how many given secrets did not open it
    /// What was wrong with the last one, if it was meant for a recovery key: "group 3 is mistyped".
    std::string fault{};
  };

  /// The next secret to try; nullopt if there is no further one (a file's secret is given once, a
  /// prompt may be retried twice). Throws missing_input (none at all), interrupted, io.
  [[nodiscard]] virtual std::optional<Secret> existing(const Request& request) = 0;

  /// A new secret of this kind, asked for twice on a terminal. Never empty.
  /// Throws missing_input, usage, interrupted, io.
  [[nodiscard]] virtual Secret fresh(Source kind, const std::string& target) = 0;
};

}  // namespace fscryptctl
