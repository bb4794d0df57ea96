#pragma once

#include <optional>
#include <string>

#include "encrypt_options.h"
#include "fscryptctl/core/conversion.h"
#include "invocation.h"

namespace fscryptctl {

/// What `convert`, `reencrypt` and `decrypt` share.
struct ConversionOptions {
  Journal::Command command = Journal::Command::convert;
  NewPolicyOptions policy;  ///< of the directory's new policy; `decrypt` has only what opens it
  bool low_space = false;
  bool no_verify = false;
  bool trim = false;
  bool dry_run = false;
  bool status = false;
  bool cancel = false;
};

/// DIRECTORY, and the options that all three have.
void add_conversion_options(CLI::App& app, ConversionOptions& options);

/// Parses, does it, reports. Returns the exit code.
[[nodiscard]] int run_conversion(Invocation& invocation, CLI::App& app, ConversionOptions& options);

}  // namespace fscryptctl
