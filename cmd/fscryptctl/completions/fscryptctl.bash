# bash completion for fscryptctl
# shellcheck shell=bash
# Written by cmd/fscryptctl/completions/generate: change that, not this.
# Only constants are offered here. What was typed is compared and never expanded; names of files and
# directories come from readline itself, which quotes them.

# The constants that begin with what was typed.
_fscryptctl_words() {
  local candidate
  for candidate in "$@"; do
    if [[ $candidate == "$typed"* ]]; then COMPREPLY+=("$candidate"); fi
  done
}

# No answer of ours: readline's own names of files (default) or directories (dirnames).
_fscryptctl_files() {
  compopt -o "$1" -o filenames
}

_fscryptctl_users() {
  local name
  while IFS= read -r name; do
    COMPREPLY+=("$name")
  done < <(compgen -u -- "$typed")
}

_fscryptctl_takes_value() {
  case $1 in
    --code-file|--code-output|--config|--contents|--data-unit-size|--expect|--filenames|--kdf-lanes|--kdf-limit|--kdf-memory|--kdf-time|--key-file|--key-format|--mode|--mount|--name|--new-key-file|--new-passphrase-file|--open-with|--output|--padding|--passphrase-file|--policy|--protector|--recovery-key-file|--recovery-key-output|--source|--user|--wait) return 0 ;;
  esac
  return 1
}

_fscryptctl() {
  local typed=${COMP_WORDS[COMP_CWORD]} word command='' option='' family='' options_end=''
  local -a everywhere=(-h --help -v --version -q --quiet --verbose --json -y --yes --no-prompt --no-input --user --config)
  local -i index operands=0
  COMPREPLY=()
  [[ $typed == [=:] ]] && typed=''
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=${COMP_WORDS[index]}
    if [[ $word == [=:] && -z $option ]]; then
      operands+=-1 # readline has split one word here; its end counts
    elif [[ -n $option ]]; then
      [[ $word == = ]] || option=''
    elif [[ $word == -- && -z $options_end ]]; then
      options_end=1
    elif [[ $word == -?* && -z $options_end ]]; then
      if _fscryptctl_takes_value "$word"; then option=$word; fi
    elif [[ -z $command ]]; then
      command=$word
      case $command in
        protector|policy|recovery|import) family=1 ;;
      esac
    elif [[ -n $family ]]; then
      command+=" $word"
      family=''
    else
      operands+=1
    fi
  done
  if [[ -n $option ]]; then
    case "$command $option" in
      *' --code-file') _fscryptctl_files default ;;
      *' --code-output') _fscryptctl_files default ;;
      *' --config') _fscryptctl_files default ;;
      *' --contents') _fscryptctl_words AES-256-XTS AES-128-CBC SM4-XTS Adiantum ;;
      *' --expect') _fscryptctl_words locked unlocked encrypted ;;
      *' --filenames') _fscryptctl_words AES-256-CTS AES-256-HCTR2 AES-128-CTS SM4-CTS Adiantum ;;
      *' --key-file') _fscryptctl_files default ;;
      *' --key-format') _fscryptctl_words raw hex base64 ;;
      *' --mode') _fscryptctl_words keep ;;
      *' --mount') _fscryptctl_files dirnames ;;
      *' --new-key-file') _fscryptctl_files default ;;
      *' --new-passphrase-file') _fscryptctl_files default ;;
      *' --output') _fscryptctl_files default ;;
      *' --padding') _fscryptctl_words 4 8 16 32 ;;
      *' --passphrase-file') _fscryptctl_files default ;;
      'unlock --policy') : ;;
      *' --policy') _fscryptctl_files default ;;
      *' --recovery-key-file') _fscryptctl_files default ;;
      *' --recovery-key-output') _fscryptctl_files default ;;
      'accept --source') _fscryptctl_words passphrase raw-key ;;
      *' --source') _fscryptctl_words passphrase raw-key login ;;
      *' --user') _fscryptctl_users ;;
    esac
  elif [[ $typed == -* && -z $options_end ]]; then
    case $command in
      '') _fscryptctl_words "${everywhere[@]}" ;;
      'setup') _fscryptctl_words --all-users --enable-encryption --remove --recalibrate --kdf-time --kdf-memory --kdf-lanes "${everywhere[@]}" ;;
      'encrypt') _fscryptctl_words --create --ensure --source --name --protector --policy --contents --filenames --padding --data-unit-size --direct-key --iv-ino-lblk-64 --iv-ino-lblk-32 --mode --no-unlock --passphrase-file --key-file --key-format --recovery-key-file --new-passphrase-file --new-key-file --recovery-key-output --no-recovery-key --mount --kdf-limit "${everywhere[@]}" ;;
      'unlock') _fscryptctl_words --policy --protector --dry-run --passphrase-file --key-file --key-format --recovery-key-file --mount --kdf-limit "${everywhere[@]}" ;;
      'lock') _fscryptctl_words --all --all-users --wait "${everywhere[@]}" ;;
      'purge') _fscryptctl_words --all-users --wait "${everywhere[@]}" ;;
      'list') _fscryptctl_words --all-users "${everywhere[@]}" ;;
      'status') _fscryptctl_words --expect "${everywhere[@]}" ;;
      'change-passphrase') _fscryptctl_words --protector --passphrase-file --key-file --key-format --recovery-key-file --new-passphrase-file --new-key-file --mount --kdf-limit "${everywhere[@]}" ;;
      'protector list') _fscryptctl_words --mount "${everywhere[@]}" ;;
      'protector show') _fscryptctl_words --mount "${everywhere[@]}" ;;
      'protector create') _fscryptctl_words --source --name --passphrase-file --key-file --key-format --recovery-key-file --new-passphrase-file --new-key-file "${everywhere[@]}" ;;
      'protector verify') _fscryptctl_words --mount --passphrase-file --key-file --key-format --recovery-key-file --kdf-limit "${everywhere[@]}" ;;
      'protector rename') _fscryptctl_words --mount "${everywhere[@]}" ;;
      'protector change-kdf') _fscryptctl_words --mount --kdf-time --kdf-memory --kdf-lanes --passphrase-file --key-file --key-format --recovery-key-file --kdf-limit "${everywhere[@]}" ;;
      'protector rotate') _fscryptctl_words --mount --passphrase-file --key-file --key-format --recovery-key-file --kdf-limit "${everywhere[@]}" ;;
      'protector remove') _fscryptctl_words --mount --allow-data-loss "${everywhere[@]}" ;;
      'policy list') _fscryptctl_words --mount "${everywhere[@]}" ;;
      'policy show') _fscryptctl_words --mount "${everywhere[@]}" ;;
      'policy add-protector') _fscryptctl_words --open-with --protector --source --name --passphrase-file --key-file --key-format --recovery-key-file --new-passphrase-file --new-key-file --mount --kdf-limit "${everywhere[@]}" ;;
      'policy remove-protector') _fscryptctl_words --protector --allow-data-loss --mount "${everywhere[@]}" ;;
      'policy remove') _fscryptctl_words --allow-data-loss --mount "${everywhere[@]}" ;;
      'recovery create') _fscryptctl_words --protector --mount --output --qr --replace --passphrase-file --key-file --key-format --recovery-key-file --kdf-limit "${everywhere[@]}" ;;
      'recovery verify') _fscryptctl_words --protector --mount --recovery-key-file "${everywhere[@]}" ;;
      'recovery remove') _fscryptctl_words --protector --mount --passphrase-file --key-file --key-format --recovery-key-file --kdf-limit "${everywhere[@]}" ;;
      'share') _fscryptctl_words --output --code-output --protector --passphrase-file --key-file --key-format --recovery-key-file --kdf-limit "${everywhere[@]}" ;;
      'accept') _fscryptctl_words --code-file --source --name --protector --passphrase-file --key-file --key-format --recovery-key-file --new-passphrase-file --new-key-file --mount --kdf-limit "${everywhere[@]}" ;;
      'backup') _fscryptctl_words --output "${everywhere[@]}" ;;
      'check') _fscryptctl_words --repair "${everywhere[@]}" ;;
      'restore') _fscryptctl_words --dry-run --replace --mount "${everywhere[@]}" ;;
      'convert') _fscryptctl_words --low-space --no-verify --trim --dry-run --status --cancel --ensure --source --name --protector --policy --contents --filenames --padding --data-unit-size --direct-key --iv-ino-lblk-64 --iv-ino-lblk-32 --mode --no-unlock --passphrase-file --key-file --key-format --recovery-key-file --new-passphrase-file --new-key-file --recovery-key-output --no-recovery-key --mount --kdf-limit "${everywhere[@]}" ;;
      'reencrypt') _fscryptctl_words --low-space --no-verify --trim --dry-run --status --cancel --ensure --source --name --protector --policy --contents --filenames --padding --data-unit-size --direct-key --iv-ino-lblk-64 --iv-ino-lblk-32 --mode --no-unlock --passphrase-file --key-file --key-format --recovery-key-file --new-passphrase-file --new-key-file --recovery-key-output --no-recovery-key --mount --kdf-limit "${everywhere[@]}" ;;
      'decrypt') _fscryptctl_words --low-space --no-verify --trim --dry-run --status --cancel --passphrase-file --key-file --key-format --recovery-key-file --mount --kdf-limit "${everywhere[@]}" ;;
      'import google-fscrypt') _fscryptctl_words --dry-run --update "${everywhere[@]}" ;;
      'import systemd-homed') _fscryptctl_words --name --passphrase-file "${everywhere[@]}" ;;
      'add_key') _fscryptctl_words --hw-wrapped-key -h --help -v --version ;;
      'remove_key') _fscryptctl_words --all-users -h --help -v --version ;;
      'key_status') _fscryptctl_words -h --help -v --version ;;
      'get_policy') _fscryptctl_words -h --help -v --version ;;
      'set_policy') _fscryptctl_words --contents --filenames --padding --direct-key --iv-ino-lblk-64 --iv-ino-lblk-32 --data-unit-size -h --help -v --version ;;
      'import_hw_wrapped_key') _fscryptctl_words -h --help -v --version ;;
      'generate_hw_wrapped_key') _fscryptctl_words -h --help -v --version ;;
      'prepare_hw_wrapped_key') _fscryptctl_words -h --help -v --version ;;
    esac
  elif [[ -z $command ]]; then
    _fscryptctl_words setup encrypt unlock lock purge list status change-passphrase protector policy recovery share accept backup check restore convert reencrypt decrypt import add_key remove_key key_status get_policy set_policy import_hw_wrapped_key generate_hw_wrapped_key prepare_hw_wrapped_key
  elif [[ -n $family ]]; then
    case $command in
      'protector') _fscryptctl_words list show create verify rename change-kdf rotate remove ;;
      'policy') _fscryptctl_words list show add-protector remove-protector remove ;;
      'recovery') _fscryptctl_words create verify remove ;;
      'import') _fscryptctl_words google-fscrypt systemd-homed ;;
    esac
  else
    case "$command $operands" in
      'setup 0') _fscryptctl_files dirnames ;;
      'encrypt 0') _fscryptctl_files dirnames ;;
      'unlock '*) _fscryptctl_files default ;;
      'lock '*) _fscryptctl_files default ;;
      'purge '*) _fscryptctl_files dirnames ;;
      'status 0') _fscryptctl_files default ;;
      'change-passphrase 0') _fscryptctl_files default ;;
      'protector list 0') _fscryptctl_files default ;;
      'protector create 0') _fscryptctl_files dirnames ;;
      'policy list 0') _fscryptctl_files dirnames ;;
      'recovery create 0') _fscryptctl_files default ;;
      'recovery verify 0') _fscryptctl_files default ;;
      'recovery remove 0') _fscryptctl_files default ;;
      'share 0') _fscryptctl_files default ;;
      'accept 0') _fscryptctl_files default ;;
      'backup 0') _fscryptctl_files default ;;
      'check 0') _fscryptctl_files dirnames ;;
      'restore 0') _fscryptctl_files default ;;
      'convert 0') _fscryptctl_files dirnames ;;
      'reencrypt 0') _fscryptctl_files dirnames ;;
      'decrypt 0') _fscryptctl_files dirnames ;;
      'import google-fscrypt 0') _fscryptctl_files dirnames ;;
      'import systemd-homed 0') _fscryptctl_files dirnames ;;
      'add_key 0') _fscryptctl_files dirnames ;;
      'remove_key 1') _fscryptctl_files dirnames ;;
      'key_status 1') _fscryptctl_files dirnames ;;
      'get_policy 0') _fscryptctl_files default ;;
      'set_policy 1') _fscryptctl_files dirnames ;;
      'import_hw_wrapped_key 0') _fscryptctl_files default ;;
      'generate_hw_wrapped_key 0') _fscryptctl_files default ;;
      'prepare_hw_wrapped_key 0') _fscryptctl_files default ;;
    esac
  fi
}

complete -F _fscryptctl fscryptctl
