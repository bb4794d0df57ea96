#include "commands.h"
#include "conversion_command.h"

namespace fscryptctl {

int run_decrypt(Invocation& invocation) {
  CLI::App app("makes an encrypted directory a plain one, for good");
  ConversionOptions options;
  options.command = Journal::Command::decrypt;
  add_conversion_options(app, options);
  add_existing_secret_options(app, options.policy.secrets);
  return run_conversion(invocation, app, options);
}

}  // namespace fscryptctl
