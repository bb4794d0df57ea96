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
    {"protector list", "show what opens a directory, or all on a filesystem",
     CommandGroup::protectors, run_protector_list},
    {"protector show", "show one protector", CommandGroup::protectors, run_protector_show},
    {"protector create", "make a protector", CommandGroup::protectors, run_protector_create},
    {"protector verify", "prove that a secret opens it", CommandGroup::protectors,
     run_protector_verify},
    {"protector rename", "give it another name", CommandGroup::protectors, run_protector_rename},
    {"protector change-kdf", "hash its passphrase with other costs", CommandGroup::protectors,
     run_protector_change_kdf},
    {"protector rotate", "give it a new key, with the same secret", CommandGroup::protectors,
     run_protector_rotate},
    {"protector remove", "remove it", CommandGroup::protectors, run_protector_remove},
    {"policy list", "show all policies on a filesystem", CommandGroup::protectors, run_policy_list},
    {"policy show", "show one policy", CommandGroup::protectors, run_policy_show},
    {"policy add-protector", "let one more protector open it", CommandGroup::protectors,
     run_policy_add_protector},
    {"policy remove-protector", "take a protector from it", CommandGroup::protectors,
     run_policy_remove_protector},
    {"policy remove", "remove the record of a policy that is not needed any more",
     CommandGroup::protectors, run_policy_remove},
    {"share", "seal a directory's key for another user", CommandGroup::protectors, run_share},
    {"accept", "take what another user has shared", CommandGroup::protectors, run_accept},
    {"backup", "save what unlocks the directories under a path", CommandGroup::metadata,
     run_backup},
    {"check", "look for damage, and repair what is safe", CommandGroup::metadata, run_check},
    {"restore", "write the records of a backup back", CommandGroup::metadata, run_restore},
    {"add_key", "add a raw key to a filesystem", CommandGroup::low_level, nullptr, run_add_key},
    {"remove_key", "remove a key from a filesystem", CommandGroup::low_level, nullptr,
     run_remove_key},
    {"key_status", "show whether a key is present", CommandGroup::low_level, nullptr,
     run_key_status},
    {"get_policy", "show the policy of a file or directory", CommandGroup::low_level, nullptr,
     run_get_policy},
    {"set_policy", "encrypt an empty directory with a key", CommandGroup::low_level, nullptr,
     run_set_policy},
    {"import_hw_wrapped_key", "wrap a raw key in hardware", CommandGroup::low_level, nullptr,
     run_import_hw_wrapped_key},
    {"generate_hw_wrapped_key", "make a key in hardware", CommandGroup::low_level, nullptr,
     run_generate_hw_wrapped_key},
    {"prepare_hw_wrapped_key", "make a wrapped key ready for use", CommandGroup::low_level, nullptr,
     run_prepare_hw_wrapped_key},
    {"recovery create", "make a recovery key, one more way in", CommandGroup::protectors,
     run_recovery_create},
    {"recovery verify", "prove that a recovery key opens something", CommandGroup::protectors,
     run_recovery_verify},
    {"recovery remove", "take a recovery key away", CommandGroup::protectors, run_recovery_remove},
};

}  // namespace

std::span<const Command> all_commands() { return kCommands; }

}  // namespace fscryptctl
