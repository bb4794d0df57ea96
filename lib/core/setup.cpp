#include "fscryptctl/core/setup.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

constexpr std::chrono::milliseconds kDefaultTarget{1000};
constexpr std::uint64_t kMaxMemoryMib = 1024 * 1024;

std::uint32_t wished_memory_kib(const KdfWishes& wishes) {
  if (!wishes.memory_mib) return default_memory_kib();
  if (*wishes.memory_mib == 0 || *wishes.memory_mib > kMaxMemoryMib) {
    throw Error(Errc::usage,
                "the memory for hashing must be 1 to " + std::to_string(kMaxMemoryMib) + " MiB");
  }
  return static_cast<std::uint32_t>(*wishes.memory_mib * 1024);
}

/// Waits for a program; its messages go to our standard error. Its exit status is what counts.
void run_program(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  // Nothing of the caller's environment may steer a program that runs as root.
  std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  std::string locale = "LC_ALL=C";
  std::array<char*, 3> environment{path.data(), locale.data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t child = -1;
  const int failure =
      ::posix_spawn(&child, argv.front(), &actions, nullptr, argv.data(), environment.data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) throw system_error(failure, "running " + arguments.front());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw system_error(errno, "waiting for " + arguments.front());
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw Error(Errc::io, arguments.front() + " failed");
  }
}

std::string find_program(const std::string& name) {
  for (const char* directory : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
    if (::access((directory + name).c_str(), X_OK) == 0) return directory + name;
  }
  throw Error(Errc::no_such_path, "the program " + name + " is not installed");
}

/// The mount table tells the name that was mounted, which may be another device's by now: what is
/// changed cannot be changed back.
std::string device_of(const Mount& mount) {
  const std::string by_number = "/dev/block/" + std::to_string(major(mount.device)) + ":" +
                                std::to_string(minor(mount.device));
  for (const std::string& name : {mount.source, by_number}) {
    struct stat info {};
    if (::stat(name.c_str(), &info) != 0 || !S_ISBLK(info.st_mode)) continue;
    if (info.st_rdev == mount.device) return name;
  }
  throw Error(Errc::no_such_path,
              "the device of " + printable(mount.mount_point) + " is not in /dev")
      .with_path(mount.mount_point);
}

}  // namespace

KdfCosts wished_costs(const KdfWishes& wishes) {
  const std::uint32_t lanes = wishes.lanes.value_or(default_lanes());
  const std::uint32_t memory_kib = wished_memory_kib(wishes);
  if (!valid_costs({1, memory_kib, lanes})) {
    throw Error(Errc::usage, "hashing needs 1 to 255 lanes and at least 8 KiB of memory a lane");
  }
  KdfCosts costs = calibrate(wishes.time.value_or(kDefaultTarget), memory_kib, lanes);
  // Less memory than was asked for would be a weaker hash than the user was promised.
  if (wishes.memory_mib && costs.memory_kib < memory_kib) costs = {1, memory_kib, lanes};
  return costs;
}

ConfigResult set_up_configuration(const Context& context, const KdfWishes& wishes) {
  std::optional<Config> config = read_config(context.config_path);
  if (config && !wishes.any()) return {false, config->kdf};
  if (!config) config.emplace();
  config->kdf = wished_costs(wishes);
  write_config(context.config_path, *config);
  return {true, config->kdf};
}

bool set_up_filesystem(Context& context, const Filesystem& filesystem, std::optional<Identity> user,
                       bool all_users) {
  require_encryption(context, filesystem);
  bool changed = false;
  const MetadataRoot root =
      MetadataRoot::create(filesystem.root_fd(), filesystem.trusted_owner(), all_users, changed);
  bool user_added = false;
  if (user) static_cast<void>(UserStore::create(root, *user, user_added));
  return changed || user_added;
}

void require_enableable(const Context& context, const Filesystem& filesystem) {
  const Mount& mount = filesystem.mount();
  if (context.caller.uid != 0) {
    throw Error(Errc::permission, "only root can turn on encryption").with_path(mount.mount_point);
  }
  if (mount.type != "ext4") {
    throw Error(Errc::filesystem,
                "encryption of " + describe(mount) + " cannot be turned on while it is mounted")
        .with_path(mount.mount_point);
  }
}

void enable_encryption(Context& context, const Filesystem& filesystem) {
  require_enableable(context, filesystem);
  const Mount& mount = filesystem.mount();
  run_program({find_program("tune2fs"), "-O", "encrypt", device_of(mount)});
  if (context.kernel.probe(filesystem.fd()) != Support::usable) {
    throw Error(Errc::no_kernel_support,
                "this kernel cannot encrypt directories on " + describe(mount))
        .with_path(mount.mount_point);
  }
}

}  // namespace fscryptctl
