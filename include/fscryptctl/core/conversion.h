#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/core/conversion_plan.h"
#include "fscryptctl/core/encrypt.h"
#include "fscryptctl/metadata/journal.h"

namespace fscryptctl {

/// `convert`, `reencrypt` and `decrypt`: a directory with what is in it becomes encrypted,
/// encrypted with another key, or plain. One engine; see also the manual, fscryptctl(1), "convert".
///
/// The default strategy copies everything into a directory beside it (hidden, out of others' reach,
/// `.fscryptctl-ID`), makes the copy durable, compares it, looks whether the original was changed
/// meanwhile, and exchanges the two in one step; until then the original is untouched, afterwards
/// the copy is whole. Then the original is removed. With `low_space` files move one by one.
///
/// A journal says how far it is. It is authenticated with the key of the policy that is made (for
/// `decrypt`: with a key in a file that is encrypted with the policy that goes), bound to the
/// directory, the command and the operation's id in the policy's record. What is not authentic
/// never makes anything move.

/// What is going on, for whoever watches.
struct ConversionProgress {
  std::string_view phase;  ///< "copying", "syncing", "comparing", "checking", "moving", "removing"
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
  std::uint64_t files_done = 0;
  std::uint64_t files_total = 0;
};

struct ConversionRequest {
  Journal::Command command = Journal::Command::convert;
  /// Path, protectors and modes of the policy; only the path for `decrypt`.
  EncryptRequest encrypt;
  bool low_space = false;
  bool verify = true;
  bool verify_given = false;  ///< said explicitly
  bool trim = false;
  /// Gets the plan before anything is done by it, or refused because of it.
  std::function<void(const ConversionPlan&)> planned = [](const ConversionPlan&) {};
  /// Several times a second.
  std::function<void(const ConversionProgress&)> progress = [](const ConversionProgress&) {};
  /// Something that the person should know, and that is no error.
  std::function<void(const std::string&)> note = [](const std::string&) {};
};

struct ConversionResult {
  bool changed = false;
  bool resumed = false;
  Identity user{};
  Journal::Strategy strategy = Journal::Strategy::copy;
  std::optional<KeyIdentifier> key_identifier;  ///< none after decrypt
  std::vector<ProtectorSummary> protectors;
  bool recovery_key_made = false;
  bool login_copied = false;
  std::uint64_t bytes = 0;
  std::uint64_t files = 0;
  /// Protectors of the previous policy that open nothing any more.
  std::vector<ProtectorSummary> unused;
  /// Where else the previous key is in use, so that its record stays.
  std::vector<std::string> previous_in_use;
  bool trimmed = false;
};

/// Begins, or goes on with what was begun: then only the existing secret is asked for. After an
/// error or interruption repeating it goes on. Throws usage (also for options that differ from the
/// journal's), not_encrypted, already_encrypted, filesystem_root, in_use, files_in_use, no_space,
/// unconvertible, permission, conflict (another command is unfinished), metadata_locked (somebody
/// does it now), corrupt_metadata (a journal that is not authentic), wrong_key, interrupted, and
/// what encrypt_directory and unlock_directory throw.
[[nodiscard]] ConversionResult convert_directory(Context& context, const ConversionRequest& request,
                                                 SecretProvider& secrets);

/// What convert_directory would do; nothing is written. Throws as it does, but for refusals, which
/// the plan names.
[[nodiscard]] ConversionPlan plan_conversion(Context& context, const ConversionRequest& request,
                                             SecretProvider& secrets);

/// How far it is, as the disk shows and the journal says.
struct ConversionStatus {
  /// "none", "copying", "moving", "exchanging", "removing", "returning", "damaged"
  std::string state = "none";
  std::optional<Journal> journal;
  std::uint64_t bytes_done = 0;
  std::uint64_t files_done = 0;
  std::uint64_t bytes_free = 0;
};
/// Asks for no secret. With `count` it looks how much is there. Throws no_such_path,
/// not_a_directory.
[[nodiscard]] ConversionStatus conversion_status(Context& context, const ConversionRequest& request,
                                                 SecretProvider& secrets, bool count);

/// Goes back to the directory as it was. Throws not_found things if nothing is unfinished, too_late
/// once the copy has taken its place, and what convert_directory throws.
void cancel_conversion(Context& context, const ConversionRequest& request, SecretProvider& secrets);

}  // namespace fscryptctl
