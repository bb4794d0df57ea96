#pragma once

#include <CLI/App.hpp>
#include <optional>
#include <string>

#include "fscryptctl/base/file.h"
#include "fscryptctl/core/recovery.h"
#include "invocation.h"
#include "terminal.h"

namespace fscryptctl {

/// What the command line says about a recovery key that is to be made.
struct RecoveryKeyOptions {
  std::optional<std::string> output;  ///< a file, "-" for standard output; none: the terminal
  bool none = false;                  ///< --no-recovery-key: not even offered
  bool qr_code = false;
};

/// --recovery-key-output and --no-recovery-key, for commands that make protectors.
void add_recovery_key_options(CLI::App& app, RecoveryKeyOptions& options);

/// Keeps a new recovery key where the command line says: shown on the terminal and typed again, or
/// written, a file durably before anything relies on it.
///
///   RecoveryKeyOutput output(options, RecoveryKeyOutput::Wish::offered, invocation);
///   ... std::optional<RecoveryKey> key = output.keep({path, protector.record.summary, mount});
///   if (key) protector.record = with_recovery_key(protector, *key, 1);
///   output.set_in_use(true);    // right before the record is written
///   ... store.write(...)
///   output.finish();
class RecoveryKeyOutput final : public RecoveryKeyKeeper {
 public:
  /// Offered: on a terminal it is asked for, and off one it is made only with an output.
  enum class Wish { offered, required };

  /// Throws usage for options that contradict each other; missing_input if a required one could be
  /// neither shown nor written. Does nothing yet.
  RecoveryKeyOutput(const RecoveryKeyOptions& options, Wish wish, Invocation& invocation);
  ~RecoveryKeyOutput() override;

  [[nodiscard]] std::optional<RecoveryKey> keep(const Label& label) override;
  [[nodiscard]] std::optional<RecoveryKey> left_over() override;
  void set_in_use(bool in_use) noexcept override { in_use_ = in_use; }
  void finish() override;

 private:
  [[nodiscard]] bool to_file() const { return options_.output && *options_.output != "-"; }
  [[nodiscard]] bool to_standard_output() const;
  void require_free_name() const;
  [[nodiscard]] std::optional<Terminal> terminal() const;
  void show(Terminal& terminal, const RecoveryKey& key, const Label& label) const;
  void have_typed_again(Terminal& terminal, const RecoveryKey& key) const;
  void write_file(const RecoveryKey& key, const Label& label);
  void add_label(const Label& label);
  void remove_file() noexcept;

  RecoveryKeyOptions options_;
  Wish wish_;
  Invocation& invocation_;
  bool in_use_ = false;
  bool on_standard_output_ = false;
  bool made_file_ = false;
  // The file, once it is there, and the directory that it is in. One that an earlier run made may
  // hold the only copy of a key that is in use: it is never removed.
  UniqueFd directory_;
  UniqueFd file_;
  std::string name_;
  SecretBytes left_;  ///< what an earlier run wrote into it
};

}  // namespace fscryptctl
