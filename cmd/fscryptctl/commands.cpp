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
    {"share", "seal a directory's key for another user", CommandGroup::protectors, run_share},
    {"accept", "take what another user has shared", CommandGroup::protectors, run_accept},
    {"backup", "save what unlocks the directories under a path", CommandGroup::metadata,
     run_backup},
    {"check", "look for damage, and repair what is safe", CommandGroup::metadata, run_check},
    {"restore", "write the records of a backup back", CommandGroup::metadata, run_restore},
};

}  // namespace

std::span<const Command> all_commands() { return kCommands; }

}  // namespace fscryptctl
