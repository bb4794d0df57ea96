#include "commands.h"
#include "conversion_command.h"

namespace fscryptctl {

int run_convert(Invocation& invocation) {
  CLI::App app("encrypts a directory with the files that are in it");
  ConversionOptions options;
  options.command = Journal::Command::convert;
  add_conversion_options(app, options);
  add_new_policy_options(app, options.policy);
  return run_conversion(invocation, app, options);
}

}  // namespace fscryptctl
