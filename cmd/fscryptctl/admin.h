#pragma once

#include <optional>
#include <string>

#include "fscryptctl/core/last_way.h"
#include "fscryptctl/core/policy_admin.h"
#include "fscryptctl/core/protector_admin.h"
#include "fscryptctl/core/status.h"
#include "invocation.h"
#include "output.h"
#include "secret_input.h"

namespace fscryptctl {

/// What the commands about protectors and about policies share.

/// --source KIND: passphrase, raw-key or login. Throws usage.
[[nodiscard]] Source parse_new_source(const std::string& name);

/// `typed`, else what the given secret options say, else the configuration's.
[[nodiscard]] Source source_of_new(Context& context, const std::optional<std::string>& typed,
                                   bool key_file_given);

/// --allow-data-loss
void add_data_loss_option(CLI::App& app, RemovalWishes& wishes);
/// Lets it ask on the terminal, as --yes and --no-prompt say.
void ask_before_losses(Invocation& invocation, RemovalWishes& wishes);

/// The whole filesystem as its user's, for what a command shows.
[[nodiscard]] MountStatus status_for(Context& context, const Filesystem& filesystem, Identity user);

/// Sets `protector` to the Protector object; says only what is known of a damaged one.
void put_protector(Output& out, Context& context, const NamedProtector& place);

}  // namespace fscryptctl
