#include "fscryptctl/core/setup.h"

#include <charconv>
#include <cstdlib>

#include "commands.h"
#include "fscryptctl/core/setup_removal.h"
#include "fscryptctl/core/status.h"
#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "report.h"

namespace fscryptctl {
namespace {

struct Arguments {
  std::optional<std::string> mount_point;
  bool all_users = false;
  bool enable_encryption = false;
  bool remove = false;
  KdfWishes kdf;
  std::optional<std::uint32_t> kdf_time_ms;
};

void add_options(CLI::App& app, Arguments& arguments) {
  add_text(app, "MOUNTPOINT", "", arguments.mount_point,
           "a filesystem; without one only the configuration is written");
  app.add_flag("--all-users", arguments.all_users, "every user may encrypt directories here");
  app.add_flag("--enable-encryption", arguments.enable_encryption,
               "turn on the filesystem's encryption feature");
  app.add_flag("--remove", arguments.remove, "take the filesystem's metadata away");
  app.add_flag("--recalibrate", arguments.kdf.recalibrate, "measure hashing costs again");
  add_number(app, "--kdf-time", "MS", arguments.kdf_time_ms,
             "how long hashing a passphrase should take (1000)");
  add_number(app, "--kdf-memory", "MIB", arguments.kdf.memory_mib, "memory for hashing");
  add_number(app, "--kdf-lanes", "N", arguments.kdf.lanes, "parallel lanes of hashing");
}

std::string describe(const KdfCosts& costs) {
  const std::string memory = costs.memory_kib < 1024
                                 ? std::to_string(costs.memory_kib) + " KiB"
                                 : std::to_string(costs.memory_kib / 1024) + " MiB";
  return memory + ", " + counted(costs.passes, "pass", "passes") + ", " +
         counted(costs.lanes, "lane", "lanes");
}

/// Who else gets a directory: `--user`, an ordinary caller, or the user behind sudo.
std::optional<Identity> user_to_set_up(const Context& context) {
  if (context.user) return context.user;
  if (context.caller.uid != 0) return context.caller;
  const char* text = std::getenv("SUDO_UID");
  if (text == nullptr) return std::nullopt;
  uid_t uid = 0;
  const std::string_view digits(text);
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), uid);
  if (failure != std::errc{} || end != digits.data() + digits.size() || uid == 0) {
    return std::nullopt;
  }
  return user_from_uid(uid);
}

void turn_on(Invocation& invocation, Context& context, const Filesystem& filesystem) {
  if (context.kernel.probe(filesystem.fd()) != Support::not_enabled) return;
  require_enableable(context, filesystem);
  invocation.confirm("enable encryption on " + printable(filesystem.mount().mount_point) + " (" +
                     describe(filesystem.mount()) +
                     ")? existing files are not touched; it cannot be turned off again; GRUB "
                     "before 2.04 cannot boot from it");
  enable_encryption(context, filesystem);
  invocation.out.set_changed();
  invocation.out.message("enabled encryption on " + printable(filesystem.mount().mount_point));
}

void write_configuration(Invocation& invocation, Context& context, const Arguments& arguments) {
  Output& out = invocation.out;
  // An ordinary user setting up her own disk cannot write it, and needs none.
  const bool own_disk = context.caller.uid != 0 && arguments.mount_point && !arguments.kdf.any();
  if (own_disk) return;
  const ConfigResult result = set_up_configuration(context, arguments.kdf);
  put_path(out.json(), "config", context.config_path);
  if (result.kdf) out.json()["kdf"] = json_of(*result.kdf);
  if (!result.changed) return;
  out.set_changed();
  out.message("wrote " + printable(context.config_path) + " (Argon2id: " + describe(*result.kdf) +
              ")");
  if (weak_costs(*result.kdf)) {
    out.note("these hashing costs are weak: passphrases can be guessed fast");
  }
}

void set_up(Invocation& invocation, Context& context, const Filesystem& filesystem,
            const Arguments& arguments) {
  Output& out = invocation.out;
  const std::string mount_point = printable(filesystem.mount().mount_point);
  if (set_up_filesystem(context, filesystem, user_to_set_up(context), arguments.all_users)) {
    out.set_changed();
    out.message("set up " + mount_point + " for encrypted directories");
  } else {
    out.message(mount_point + " is set up already");
  }
  out.json()["filesystem"] = json_of(mount_status(context, filesystem).filesystem);
}

void remove(Invocation& invocation, Context& context, const Arguments& arguments) {
  Output& out = invocation.out;
  if (!arguments.mount_point) throw Error(Errc::usage, "--remove needs a mount point");
  const Filesystem filesystem = filesystem_of_path(context, *arguments.mount_point);
  const std::string mount_point = printable(filesystem.mount().mount_point);
  require_removable(context, filesystem);
  if (filesystem.metadata()) {
    invocation.confirm("remove all metadata of fscryptctl from " + mount_point + "?");
    remove_set_up(context, filesystem);
    out.set_changed();
    out.message("removed the metadata of " + mount_point);
  } else {
    out.message(mount_point + " is not set up");
  }
  put_path(out.json(), "mountpoint", filesystem.mount().mount_point);
}

}  // namespace

int run_setup(Invocation& invocation) {
  CLI::App app("prepares this machine and a filesystem; repeating it is safe");
  Arguments arguments;
  add_options(app, arguments);
  invocation.parse(app);
  if (arguments.kdf_time_ms) {
    arguments.kdf.time = std::chrono::milliseconds(*arguments.kdf_time_ms);
  }
  Context context = invocation.make_context();
  if (arguments.remove) {
    remove(invocation, context, arguments);
    return invocation.out.exit_code();
  }
  if (!arguments.mount_point) {
    if (arguments.all_users || arguments.enable_encryption) {
      throw Error(Errc::usage, "--all-users and --enable-encryption need a mount point");
    }
    write_configuration(invocation, context, arguments);
    return invocation.out.exit_code();
  }
  const Filesystem filesystem = filesystem_of_path(context, *arguments.mount_point);
  put_path(invocation.out.json(), "mountpoint", filesystem.mount().mount_point);
  if (arguments.enable_encryption) turn_on(invocation, context, filesystem);
  require_encryption(context, filesystem);
  write_configuration(invocation, context, arguments);
  set_up(invocation, context, filesystem, arguments);
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
