#pragma once

#include <CLI/App.hpp>
#include <optional>
#include <string>

#include "fscryptctl/core/encrypt.h"
#include "invocation.h"
#include "recovery_key_output.h"
#include "secret_input.h"

namespace fscryptctl {

/// What commands that give a directory a policy share: which one, and what opens it.
struct NewPolicyOptions {
  EncryptRequest request;
  SecretOptions secrets;
  RecoveryKeyOptions recovery;
  /// As typed; checked and combined by settle().
  struct Typed {
    std::optional<std::string> source;
    std::optional<std::string> contents;
    std::optional<std::string> filenames;
    std::optional<unsigned> padding;
    std::optional<unsigned> data_unit_size;
    bool direct_key = false;
    bool iv_ino_lblk_64 = false;
    bool iv_ino_lblk_32 = false;
    std::optional<std::string> mode;
  } typed;
};

/// --ensure, --source, --name, --protector, --policy, ciphers, --mode, --no-unlock, secrets and
/// recovery keys.
void add_new_policy_options(CLI::App& app, NewPolicyOptions& options);

/// For after parsing: fills `options.request`. True if all that opens it is new. Throws usage.
[[nodiscard]] bool settle(NewPolicyOptions& options, Invocation& invocation, Context& context);

/// Where its recovery key goes. Throws usage for options that would do nothing, missing_input.
[[nodiscard]] RecoveryKeyOutput recovery_key_output(const NewPolicyOptions& options, bool only_new,
                                                    Invocation& invocation);

}  // namespace fscryptctl
