#include "commands.h"
#include "conversion_command.h"

namespace fscryptctl {

int run_reencrypt(Invocation& invocation) {
  CLI::App app("encrypts an encrypted directory with a new key");
  ConversionOptions options;
  options.command = Journal::Command::reencrypt;
  add_conversion_options(app, options);
  add_new_policy_options(app, options.policy);
  return run_conversion(invocation, app, options);
}

}  // namespace fscryptctl
