# fish completion for fscryptctl
# Written by cmd/fscryptctl/completions/generate: change that, not this.
# Only constants stand here; names of files and directories come from fish itself, which quotes them.

# Sets `command` to what stands before the cursor, one word or two, and `operands` to how many follow.
function __fscryptctl_look --no-scope-shadowing
    set command ''
    set operands 0
    set -l value 0
    set -l options_end 0
    for word in (commandline -opc)[2..]
        if test $value = 1
            set value 0
        else if test "x$word" = x-- -a $options_end = 0
            set options_end 1
        else if string match -q -- '-?*' "$word"; and test $options_end = 0
            if contains -- "$word" --code-file --code-output --config --contents --data-unit-size --expect --filenames --kdf-lanes --kdf-limit --kdf-memory --kdf-time --key-file --key-format --mode --mount --name --new-key-file --new-passphrase-file --open-with --output --padding --passphrase-file --policy --protector --recovery-key-file --recovery-key-output --source --user --wait
                set value 1
            end
        else if test "x$command" = x
            set command "$word"
        else if contains -- "$command" protector policy recovery import
            set command "$command $word"
        else
            set operands (math $operands + 1)
        end
    end
end

# __fscryptctl_in COMMAND [OPERANDS]: whether the cursor is behind it, and behind so many operands.
function __fscryptctl_in
    set -l command
    set -l operands
    __fscryptctl_look
    test "x$command" = "x$argv[1]"; and test (count $argv) -lt 2 -o "$argv[2]" = $operands
end

function __fscryptctl_takes_global_options
    set -l command
    set -l operands
    __fscryptctl_look
    not contains -- "$command" add_key remove_key key_status get_policy set_policy import_hw_wrapped_key generate_hw_wrapped_key prepare_hw_wrapped_key
end

complete -c fscryptctl -f
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a setup -d 'prepare this machine or a filesystem'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a encrypt -d 'encrypt an empty directory'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a unlock -d 'make encrypted files readable'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a lock -d 'make encrypted files unreadable'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a purge -d 'lock everything on a filesystem'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a list -d 'show encrypted directories'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a status -d 'show filesystems, a directory or what opens it'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a change-passphrase -d 'replace a passphrase or key file'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a protector -d 'list, show, create, verify, rename, change-kdf, rotate, remove'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a policy -d 'list, show, add-protector, remove-protector, remove'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a recovery -d 'create, verify, remove'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a share -d 'seal a directory\'s key for another user'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a accept -d 'take what another user has shared'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a backup -d 'save what unlocks the directories under a path'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a check -d 'look for damage, and repair what is safe'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a restore -d 'write the records of a backup back'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a import -d 'google-fscrypt, systemd-homed'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a add_key -d 'add a raw key to a filesystem'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a remove_key -d 'remove a key from a filesystem'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a key_status -d 'show whether a key is present'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a get_policy -d 'show the policy of a file or directory'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a set_policy -d 'encrypt an empty directory with a key'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a import_hw_wrapped_key -d 'wrap a raw key in hardware'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a generate_hw_wrapped_key -d 'make a key in hardware'
complete -c fscryptctl -n '__fscryptctl_in ""' -f -a prepare_hw_wrapped_key -d 'make a wrapped key ready for use'
complete -c fscryptctl -n '__fscryptctl_in protector' -f -a list -d 'show what opens a directory, or all on a filesystem'
complete -c fscryptctl -n '__fscryptctl_in protector' -f -a show -d 'show one protector'
complete -c fscryptctl -n '__fscryptctl_in protector' -f -a create -d 'make a protector'
complete -c fscryptctl -n '__fscryptctl_in protector' -f -a verify -d 'prove that a secret opens it'
complete -c fscryptctl -n '__fscryptctl_in protector' -f -a rename -d 'give it another name'
complete -c fscryptctl -n '__fscryptctl_in protector' -f -a change-kdf -d 'hash its passphrase with other costs'
complete -c fscryptctl -n '__fscryptctl_in protector' -f -a rotate -d 'give it a new key, with the same secret'
complete -c fscryptctl -n '__fscryptctl_in protector' -f -a remove -d 'remove it'
complete -c fscryptctl -n '__fscryptctl_in policy' -f -a list -d 'show all policies on a filesystem'
complete -c fscryptctl -n '__fscryptctl_in policy' -f -a show -d 'show one policy'
complete -c fscryptctl -n '__fscryptctl_in policy' -f -a add-protector -d 'let one more protector open it'
complete -c fscryptctl -n '__fscryptctl_in policy' -f -a remove-protector -d 'take a protector from it'
complete -c fscryptctl -n '__fscryptctl_in policy' -f -a remove -d 'remove the record of a policy that is not needed any more'
complete -c fscryptctl -n '__fscryptctl_in recovery' -f -a create -d 'make a recovery key, one more way in'
complete -c fscryptctl -n '__fscryptctl_in recovery' -f -a verify -d 'prove that a recovery key opens something'
complete -c fscryptctl -n '__fscryptctl_in recovery' -f -a remove -d 'take a recovery key away'
complete -c fscryptctl -n '__fscryptctl_in import' -f -a google-fscrypt -d 'take over what google/fscrypt set up'
complete -c fscryptctl -n '__fscryptctl_in import' -f -a systemd-homed -d 'take over a home directory of systemd-homed'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -s v -d 'show the version; with --verbose also the libraries inside'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l version -d 'show the version; with --verbose also the libraries inside'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -s q -d 'only errors'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l quiet -d 'only errors'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l verbose -d 'say what is done'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l json -d 'one JSON object on standard output'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -s y -d 'confirm what would be asked'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l yes -d 'confirm what would be asked'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l no-prompt -d 'never ask: missing input is an error'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l no-input -d 'never ask: missing input is an error'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l user -x -a '(__fish_complete_users)' -d 'act for this user (root only)'
complete -c fscryptctl -n '__fscryptctl_takes_global_options' -l config -r -F -d 'instead of /etc/fscryptctl.yaml'
complete -c fscryptctl -n '__fscryptctl_in "setup"' -l all-users -d 'every user may encrypt directories here'
complete -c fscryptctl -n '__fscryptctl_in "setup"' -l enable-encryption -d 'turn on the filesystem\'s encryption feature'
complete -c fscryptctl -n '__fscryptctl_in "setup"' -l remove -d 'take the filesystem\'s metadata away'
complete -c fscryptctl -n '__fscryptctl_in "setup"' -l recalibrate -d 'measure hashing costs again'
complete -c fscryptctl -n '__fscryptctl_in "setup"' -l kdf-time -x -d 'how long hashing a passphrase should take (1000)'
complete -c fscryptctl -n '__fscryptctl_in "setup"' -l kdf-memory -x -d 'memory for hashing'
complete -c fscryptctl -n '__fscryptctl_in "setup"' -l kdf-lanes -x -d 'parallel lanes of hashing'
complete -c fscryptctl -n '__fscryptctl_in "setup" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l create -d 'make the directory, for its user alone'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l ensure -d 'succeed if it is encrypted so already and the secret opens it'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l source -x -a 'passphrase raw-key login' -d 'what opens it: passphrase (default), raw-key or login'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l name -x -d 'of the new protector; default: the directory\'s'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l protector -x -d 'use this existing protector (NAME, id, or MOUNTPOINT:NAME)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l policy -r -F -d 'use the key of another directory, so that files can be moved between the two'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l contents -x -a 'AES-256-XTS AES-128-CBC SM4-XTS Adiantum' -d 'cipher for contents (AES-256-XTS)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l filenames -x -a 'AES-256-CTS AES-256-HCTR2 AES-128-CTS SM4-CTS Adiantum' -d 'cipher for names (AES-256-CTS)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l padding -x -a '4 8 16 32' -d 'pad names to 4, 8, 16 or 32 bytes (32)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l data-unit-size -x -d 'bytes encrypted at once (the filesystem\'s block size)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l direct-key -d 'with Adiantum: no key for each file'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l iv-ino-lblk-64 -d 'for inline encryption (UFS)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l iv-ino-lblk-32 -d 'for inline encryption (eMMC)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l mode -x -a 'keep' -d 'permissions of the directory'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l no-unlock -d 'leave it locked'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l new-passphrase-file -r -F -d 'new passphrase'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l new-key-file -r -F -d 'new raw key'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l recovery-key-output -r -F -d 'make a recovery key and write it here, - for standard output'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l no-recovery-key -d 'make no recovery key and do not offer one'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "encrypt"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "encrypt" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l policy -x -d 'a policy by its key identifier, on the filesystem of --mount'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l protector -x -d 'open with this protector only'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l dry-run -d 'only prove that the secret opens it, touch nothing'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "unlock"' -F
complete -c fscryptctl -n '__fscryptctl_in "lock"' -l all -d 'everything on these filesystems, or on all'
complete -c fscryptctl -n '__fscryptctl_in "lock"' -l all-users -d 'also for other users; needs root'
complete -c fscryptctl -n '__fscryptctl_in "lock"' -l wait -x -d 'how long to wait for files in use (1)'
complete -c fscryptctl -n '__fscryptctl_in "lock"' -F
complete -c fscryptctl -n '__fscryptctl_in "purge"' -l all-users -d 'also for other users; needs root'
complete -c fscryptctl -n '__fscryptctl_in "purge"' -l wait -x -d 'how long to wait for files in use (1)'
complete -c fscryptctl -n '__fscryptctl_in "purge"' -F
complete -c fscryptctl -n '__fscryptctl_in "list"' -l all-users -d 'of all users; needs root'
complete -c fscryptctl -n '__fscryptctl_in "status"' -l expect -x -a 'locked unlocked encrypted' -d 'exit with 10 unless PATH is locked, unlocked, or encrypted'
complete -c fscryptctl -n '__fscryptctl_in "status" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l protector -x -d 'the protector to change'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l new-passphrase-file -r -F -d 'new passphrase'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l new-key-file -r -F -d 'new raw key'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "change-passphrase" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "protector list"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "protector list" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "protector show"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "protector create"' -l source -x -a 'passphrase raw-key login' -d 'passphrase (default), raw-key or login'
complete -c fscryptctl -n '__fscryptctl_in "protector create"' -l name -x -d 'its name; default: the mount point\'s'
complete -c fscryptctl -n '__fscryptctl_in "protector create"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector create"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector create"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "protector create"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector create"' -l new-passphrase-file -r -F -d 'new passphrase'
complete -c fscryptctl -n '__fscryptctl_in "protector create"' -l new-key-file -r -F -d 'new raw key'
complete -c fscryptctl -n '__fscryptctl_in "protector create" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "protector verify"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "protector verify"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector verify"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector verify"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "protector verify"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector verify"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "protector rename"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l kdf-time -x -d 'how long hashing should take (default: the configuration\'s costs)'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l kdf-memory -x -d 'memory for hashing'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l kdf-lanes -x -d 'parallel lanes of hashing'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector change-kdf"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "protector rotate"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "protector rotate"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector rotate"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector rotate"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "protector rotate"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "protector rotate"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "protector remove"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "protector remove"' -l allow-data-loss -d 'even if files can never be read again'
complete -c fscryptctl -n '__fscryptctl_in "policy list"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "policy list" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "policy show"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l open-with -x -d 'the protector whose secret is given (default: any of the policy\'s)'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l protector -x -d 'an existing one: NAME, id, or MOUNTPOINT:NAME (it is copied here)'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l source -x -a 'passphrase raw-key login' -d 'make a new one: passphrase (default), raw-key or login'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l name -x -d 'of the new one; default: the directory\'s'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l new-passphrase-file -r -F -d 'new passphrase'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l new-key-file -r -F -d 'new raw key'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "policy add-protector"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "policy remove-protector"' -l protector -x -d 'the protector to take away'
complete -c fscryptctl -n '__fscryptctl_in "policy remove-protector"' -l allow-data-loss -d 'even if files can never be read again'
complete -c fscryptctl -n '__fscryptctl_in "policy remove-protector"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "policy remove"' -l allow-data-loss -d 'even if files can never be read again'
complete -c fscryptctl -n '__fscryptctl_in "policy remove"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l protector -x -d 'the protector, where there are several'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l output -r -F -d 'write it here instead of showing it, - for standard output'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l qr -d 'show or write it as QR code, too'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l replace -d 'in place of the one it has, which opens nothing any more then'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "recovery create"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "recovery create" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "recovery verify"' -l protector -x -d 'the protector, where there are several'
complete -c fscryptctl -n '__fscryptctl_in "recovery verify"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "recovery verify"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "recovery verify" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "recovery remove"' -l protector -x -d 'the protector, where there are several'
complete -c fscryptctl -n '__fscryptctl_in "recovery remove"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "recovery remove"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "recovery remove"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "recovery remove"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "recovery remove"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "recovery remove"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "recovery remove" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "share"' -l output -r -F -d 'the file to make for the other user\'s accept'
complete -c fscryptctl -n '__fscryptctl_in "share"' -l code-output -r -F -d 'where the code goes instead of the terminal, - for standard output'
complete -c fscryptctl -n '__fscryptctl_in "share"' -l protector -x -d 'open with this protector only'
complete -c fscryptctl -n '__fscryptctl_in "share"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "share"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "share"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "share"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "share"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "share" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l code-file -r -F -d 'the one-time code: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l source -x -a 'passphrase raw-key' -d 'what opens it from now on: passphrase (default) or raw-key'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l name -x -d 'of the new protector; default: the directory\'s'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l protector -x -d 'let this existing protector open it instead of a new one'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l passphrase-file -r -F -d 'passphrase: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l key-file -r -F -d 'raw key: a file of 32 bytes, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l key-format -x -a 'raw hex base64' -d 'how key files are written (default: raw)'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l recovery-key-file -r -F -d 'recovery key: a file with it, - for a line of standard input'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l new-passphrase-file -r -F -d 'new passphrase'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l new-key-file -r -F -d 'new raw key'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "accept"' -l kdf-limit -x -d 'permit hashing that needs this much memory'
complete -c fscryptctl -n '__fscryptctl_in "accept" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "backup"' -l output -r -F -d 'the file to make; it must not exist'
complete -c fscryptctl -n '__fscryptctl_in "backup" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "check"' -l repair -d 'repair what cannot lose access to anything'
complete -c fscryptctl -n '__fscryptctl_in "check" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "restore"' -l dry-run -d 'only say what would happen'
complete -c fscryptctl -n '__fscryptctl_in "restore"' -l replace -d 'replace records that are different or damaged'
complete -c fscryptctl -n '__fscryptctl_in "restore"' -l mount -r -F -d 'where protectors and keys are looked up (default: here)'
complete -c fscryptctl -n '__fscryptctl_in "restore" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "import google-fscrypt"' -l dry-run -d 'only show what would be imported'
complete -c fscryptctl -n '__fscryptctl_in "import google-fscrypt"' -l update -d 'take over again what google/fscrypt has changed since, unless it was changed here'
complete -c fscryptctl -n '__fscryptctl_in "import google-fscrypt" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "import systemd-homed"' -l name -x -d 'the new protector\'s name'
complete -c fscryptctl -n '__fscryptctl_in "import systemd-homed"' -l passphrase-file -r -F -d 'password or recovery key: the first line of a file, - for standard input'
complete -c fscryptctl -n '__fscryptctl_in "import systemd-homed" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "add_key"' -l hw-wrapped-key -d 'the key is hardware-wrapped, made by prepare_hw_wrapped_key'
complete -c fscryptctl -n '__fscryptctl_in "add_key"' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "add_key"' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "add_key"' -s v -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "add_key"' -l version -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "add_key" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "remove_key"' -l all-users -d 'for all users at once (root only)'
complete -c fscryptctl -n '__fscryptctl_in "remove_key"' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "remove_key"' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "remove_key"' -s v -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "remove_key"' -l version -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "remove_key" 1' -F
complete -c fscryptctl -n '__fscryptctl_in "key_status"' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "key_status"' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "key_status"' -s v -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "key_status"' -l version -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "key_status" 1' -F
complete -c fscryptctl -n '__fscryptctl_in "get_policy"' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "get_policy"' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "get_policy"' -s v -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "get_policy"' -l version -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "get_policy" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l contents -x -a 'AES-256-XTS AES-128-CBC SM4-XTS Adiantum' -d 'cipher for contents (AES-256-XTS)'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l filenames -x -a 'AES-256-CTS AES-256-HCTR2 AES-128-CTS SM4-CTS Adiantum' -d 'cipher for names (AES-256-CTS)'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l padding -x -a '4 8 16 32' -d 'pad names to 4, 8, 16 or 32 bytes (32)'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l direct-key -d 'with Adiantum: no key for each file'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l iv-ino-lblk-64 -d 'for inline encryption (UFS)'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l iv-ino-lblk-32 -d 'for inline encryption (eMMC)'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l data-unit-size -x -d 'bytes encrypted at once (the filesystem\'s block size)'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -s v -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "set_policy"' -l version -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "set_policy" 1' -F
complete -c fscryptctl -n '__fscryptctl_in "import_hw_wrapped_key"' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "import_hw_wrapped_key"' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "import_hw_wrapped_key"' -s v -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "import_hw_wrapped_key"' -l version -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "import_hw_wrapped_key" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "generate_hw_wrapped_key"' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "generate_hw_wrapped_key"' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "generate_hw_wrapped_key"' -s v -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "generate_hw_wrapped_key"' -l version -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "generate_hw_wrapped_key" 0' -F
complete -c fscryptctl -n '__fscryptctl_in "prepare_hw_wrapped_key"' -s h -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "prepare_hw_wrapped_key"' -l help -d 'show this help'
complete -c fscryptctl -n '__fscryptctl_in "prepare_hw_wrapped_key"' -s v -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "prepare_hw_wrapped_key"' -l version -d 'show the version'
complete -c fscryptctl -n '__fscryptctl_in "prepare_hw_wrapped_key" 0' -F
