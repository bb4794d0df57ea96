#include "commands.h"

namespace fscryptctl {
namespace {

constexpr Command kCommands[] = {
    {"setup", "prepare this machine or a filesystem", CommandGroup::everyday, run_setup},
    {"encrypt", "encrypt an empty directory", CommandGroup::everyday, run_encrypt},
    {"unlock", "make encrypted files readable", CommandGroup::everyday, run_unlock},
    {"lock", "make encrypted files unreadable", CommandGroup::everyday, run_lock},
    {"purge", "lock everything on a filesystem", CommandGroup::everyday, run_purge},
    {"list", "show encrypted directories", CommandGroup::everyday, run_list},
    {"status", "show filesystems, a directory or what opens it", CommandGroup::everyday,
     run_status},
    {"change-passphrase", "replace a passphrase or key file", CommandGroup::everyday,
     run_change_passphrase},
    {"recovery create", "make a recovery key, one more way in", CommandGroup::protectors,
     run_recovery_create},
    {"recovery verify", "prove that a recovery key opens something", CommandGroup::protectors,
     run_recovery_verify},
    {"recovery remove", "take a recovery key away", CommandGroup::protectors, run_recovery_remove},
};

}  // namespace

std::span<const Command> all_commands() { return kCommands; }

}  // namespace fscryptctl
