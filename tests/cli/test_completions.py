"""What TAB offers in bash, zsh and fish: every command and option, and never a path run as code.

The shells run on a terminal of their own with the installed files; `fscryptctl` is there a program
that notes its arguments.
"""

import os
import re
import shlex
import subprocess

import pexpect
import pytest

import harness

COMPLETIONS = harness.REPOSITORY / "cmd/fscryptctl/completions"
GENERATE = COMPLETIONS / "generate"
FILES = {"bash": "share/bash-completion/completions/fscryptctl",
         "zsh": "share/zsh/site-functions/_fscryptctl",
         "fish": "share/fish/vendor_completions.d/fscryptctl.fish"}
SHELLS = list(FILES)
HOSTILE = ["$(touch pwned)", "`touch pwned`", "new\nline", "x\ntouch pwned\n", "'single", '"double', "a b",
           "  two  ", "-rf", "--json", "*", "g?[l]ob*", "!!", "~nobodyhere", "#hash", "x;touch pwned", "&touch pwned&",
           "$HOME", "back\\slash", "{a,b}", "(touch pwned)", "=ls", "<(touch pwned)", "a=b", "a:b",
           "x[$(touch pwned)]", "$'x'", "|touch pwned", "ümlaut", "tab\there", "%s", "a,b", "^x", "a\\nb"]
# fish cuts every name that it offers at a tab.
TORN = {"fish": {"tab\there"}}


@pytest.fixture(scope="session")
def program(sandbox):
    return sandbox.install_program()


def help_of(program, *words):
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


def commands_of(program):
    """The commands of the general help: each indented once, before two or more spaces."""
    return re.findall(r"^  (\S+(?: \S+)?)  ", help_of(program), re.MULTILINE)


def options_of(program, command):
    """All that stands where the help of a command has options, read apart from the generator."""
    words = re.findall(r"^  (-\S+)", help_of(program, *command.split()), re.MULTILINE)
    return {name.split("=")[0] for word in words for name in word.split(",")}


def fish_quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# bash, zsh and fish


class Shell(pexpect.spawn):
    """A shell on a terminal, ready for a line; every command that it runs leaves its arguments."""

    PROMPT = "READY> "

    def __init__(self, kind, prefix, work, environment):
        self.kind, self.work = kind, work
        self.noted = work.parent / "arguments"
        words = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"],
                 "fish": []}[kind]
        # Without it a new fish reads all manuals in the background, and goes on when the test is over.
        (work.parent / ".local/share/fish/generated_completions").mkdir(parents=True, exist_ok=True)
        env = {"PATH": f"{prefix}/stub:{harness.PATH}", "TERM": "dumb", "LANG": "C.UTF-8",
               "HOME": str(work.parent), "XDG_DATA_DIRS": f"{prefix}/share:/usr/share",
               "BASH_COMPLETION_USER_DIR": f"{prefix}/share/bash-completion", "NOTED": str(self.noted),
               "LC_ALL": "C.UTF-8", **environment}
        super().__init__(kind, words, env=env, cwd=str(work), timeout=20, encoding="utf-8",
                         codec_errors="surrogateescape", dimensions=(400, 1000))
        self.delaybeforesend = None
        for line in {
                "bash": ["bind 'set enable-bracketed-paste off'", "bind 'set completion-query-items 0'",
                         "bind 'set page-completions off'", "bind 'set show-all-if-ambiguous on'",
                         "bind 'set bell-style none'", ". /usr/share/bash-completion/bash_completion",
                         f"PS1='REA''DY> '"],
                "zsh": [f"fpath=({prefix}/share/zsh/site-functions $fpath)", "autoload -U compinit",
                        "compinit -D -u", "zstyle ':completion:*' verbose no", "LISTMAX=100000",
                        "unsetopt beep zle_bracketed_paste 2>/dev/null", "unset zle_bracketed_paste",
                        "PROMPT_EOL_MARK=", "PS1='REA''DY> '"],
                "fish": ["set -g fish_greeting", "set -g fish_autosuggestion_enabled 0",
                         "function fish_prompt; echo -n 'REA''DY> '; end"]}[kind]:
            self.send(line + "\r")
        self.expect_exact(self.PROMPT)
        self.settle()
        self.settle()

    def settle(self):
        """Waits until what was typed before has been worked on."""
        self.send("echo DO''NE\r")
        self.expect_exact("DONE\r\n")
        self.expect_exact(self.PROMPT)

    def arguments(self, typed):
        """The arguments that the program gets when `typed` is typed and entered."""
        self.noted.unlink(missing_ok=True)
        self.send(typed)
        self.send("\r")
        self.settle()
        assert self.noted.exists(), self.before
        return self.noted.read_bytes().decode().split("\0")[:-1]

    def try_out(self, typed):
        """What TAB behind a line does, the line thrown away."""
        if self.kind == "fish":
            # What TAB asks. Throwing a line away takes a moment there, in which keys are lost.
            self.send(f"complete -C {fish_quoted(typed)} > /dev/null\r")
            return self.settle()
        self.send(typed + "\t\t\x15")
        self.settle()

    def offered(self, typed):
        """The words shown for a line, not by fish."""
        self.send(typed + "\t\x15")
        self.send("echo DO''NE\r")
        self.expect_exact("DONE\r\n")
        shown = self.before
        self.expect_exact(self.PROMPT)
        return set(re.findall(r"(?<!\S)[\w-]+(?!\S)", shown))


@pytest.fixture(scope="session")
def installed(sandbox, tmp_path_factory):
    prefix = sandbox.directory / "installed"
    done = subprocess.run(["cmake", "--install", harness.REPOSITORY / "build/release", "--prefix", prefix],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    stub = prefix / "stub/fscryptctl"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf \'%s\\0\' "$@" > "$NOTED"\n')
    stub.chmod(0o755)
    return prefix


@pytest.fixture
def shell(installed, room):
    """shell(kind): a shell in an empty directory."""
    opened = []
    work = room / "work"
    work.mkdir()

    def start(kind, **environment):
        opened.append(Shell(kind, installed, work, environment))
        return opened[-1]

    yield start
    for one in opened:
        one.close(force=True)
    assert not list(room.rglob("pwned")), "something was run"


# The files are those of the program


def test_the_files_fit_the_program(program):
    done = subprocess.run([GENERATE, "--check", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + f"(run {GENERATE.relative_to(harness.REPOSITORY)} PROGRAM)"


@pytest.mark.parametrize("kind", SHELLS)
def test_they_are_installed_where_shells_look(installed, kind):
    names = {"bash": "fscryptctl.bash", "zsh": "_fscryptctl", "fish": "fscryptctl.fish"}
    assert (installed / FILES[kind]).read_bytes() == (COMPLETIONS / names[kind]).read_bytes()


@pytest.mark.parametrize("words", [["bash", "-n", "fscryptctl.bash"], ["zsh", "-n", "_fscryptctl"],
                                   ["fish", "-n", "fscryptctl.fish"], ["shellcheck", "fscryptctl.bash"]])
def test_they_are_well_formed(words):
    done = subprocess.run(words, cwd=COMPLETIONS, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def bash_answer(*words, script=COMPLETIONS / "fscryptctl.bash"):
    """What the function answers for the last of `words`, with what it asks of readline."""
    code = f'''. {shlex.quote(str(script))}
        compopt() {{ printf '%s\\n' "compopt $*"; }}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _fscryptctl; printf '%s\\n' "${{COMPREPLY[@]}}"'''
    done = subprocess.run(["bash", "-euc", code, "bash", "fscryptctl", *words], capture_output=True,
                          text=True, timeout=20)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split("\n")[:-1]


def fish_answer(line, script=COMPLETIONS / "fscryptctl.fish", cwd=None):
    code = f"source {fish_quoted(str(script))}; complete -C {fish_quoted(line)}"
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, cwd=cwd,
                          timeout=20)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return [answer.split("\t")[0] for answer in done.stdout.splitlines()]


def test_bash_knows_every_command_and_option(program):
    commands = commands_of(program)
    assert len(commands) > 15
    assert bash_answer("") == list(dict.fromkeys(command.split()[0] for command in commands))
    for command in commands:
        answer = bash_answer(*command.split(), "-")
        assert set(answer) == options_of(program, command) and len(answer) == len(set(answer)), command


def test_fish_knows_every_command_and_option(program, scratch):
    commands = commands_of(program)
    assert set(fish_answer("fscryptctl ", cwd=scratch)) == {command.split()[0] for command in commands}
    for command in commands:
        answer = fish_answer(f"fscryptctl {command} -", cwd=scratch)
        assert set(answer) == options_of(program, command), command


def test_zsh_knows_every_command_and_option(program, shell):
    zsh = shell("zsh")
    commands = commands_of(program)
    shown = zsh.offered("fscryptctl ")
    assert shown >= {command.split()[0] for command in commands}
    for command in commands:
        shown = {word for word in zsh.offered(f"fscryptctl {command} -") if word.startswith("-")}
        assert shown - {"-"} == options_of(program, command), command


# Values


MODES = ["AES-256-XTS", "AES-256-CTS", "AES-128-CBC", "AES-128-CTS", "SM4-XTS", "SM4-CTS", "Adiantum",
         "AES-256-HCTR2"]
VALUES = [("encrypt", "--contents"), ("encrypt", "--filenames"), ("encrypt", "--padding"),
          ("encrypt", "--source"), ("encrypt", "--mode"), ("unlock", "--key-format"),
          ("status", "--expect"), ("set_policy", "--contents"), ("set_policy", "--filenames"),
          ("set_policy", "--padding")]


def test_all_modes_are_offered():
    offered = bash_answer("encrypt", "--contents", "") + bash_answer("encrypt", "--filenames", "")
    assert set(offered) == set(MODES)


@pytest.mark.parametrize("command, option", VALUES)
def test_the_shells_offer_the_same_values_and_the_program_takes_them(program, run, scratch, shell, command,
                                                                     option):
    values = bash_answer(command, option, "")
    assert values and "" not in values
    assert bash_answer(command, option, "=") == values
    assert bash_answer(command, option, "=", values[0][:2]) == [
        value for value in values if value.startswith(values[0][:2])]
    assert set(fish_answer(f"fscryptctl {command} {option} ", cwd=scratch)) == set(values)
    assert {answer.removeprefix(option + "=") for answer in
            fish_answer(f"fscryptctl {command} {option}=", cwd=scratch)} == set(values)
    if len(values) > 1:
        assert shell("zsh").offered(f"fscryptctl {command} {option} ") >= set(values)
    target = [] if command == "set_policy" else [scratch / "d"]
    (scratch / "d").mkdir()
    refusal = run([command, *target, option, "bogus"]).err
    assert "bogus" in refusal or "must be" in refusal or "invalid" in refusal
    for value in values:
        # Something else may be wrong with such a command, but not this value.
        assert run([command, *target, option, value]).err.replace(value, "bogus") != refusal


@pytest.mark.parametrize("words, answer", [
    (["encrypt", ""], "compopt -o dirnames -o filenames"),
    (["encrypt", "--create", ""], "compopt -o dirnames -o filenames"),
    (["encrypt", "--name", "x", ""], "compopt -o dirnames -o filenames"),
    (["encrypt", "--name", "=", "x", ""], "compopt -o dirnames -o filenames"),
    (["encrypt", "--protector", "a", ":", "b", ""], "compopt -o dirnames -o filenames"),
    (["--user", "encrypt", "encrypt", ""], "compopt -o dirnames -o filenames"),
    (["-q", "encrypt", "--", ""], "compopt -o dirnames -o filenames"),
    (["encrypt", "--", "--"], "compopt -o dirnames -o filenames"),
    (["encrypt", "d", ""], ""), (["encrypt", "a", "=", "b", ""], ""),
    (["encrypt", "a", ":", ""], "compopt -o dirnames -o filenames"),
    (["unlock", "a", "b", ""], "compopt -o default -o filenames"),
    (["unlock", "--key-file", ""], "compopt -o default -o filenames"),
    (["unlock", "--key-file", "=", "x"], "compopt -o default -o filenames"),
    (["unlock", "--protector", ""], ""), (["unlock", "--policy", ""], ""),
    (["encrypt", "--policy", ""], "compopt -o default -o filenames"),
    (["set_policy", ""], ""), (["set_policy", "8699", ""], "compopt -o dirnames -o filenames"),
    (["set_policy", "--padding", "4", "8699", ""], "compopt -o dirnames -o filenames"),
    (["get_policy", "a"], "compopt -o default -o filenames"), (["get_policy", "a", ""], ""),
    (["nonsense", ""], ""), (["nonsense", "-"], ""), (["list", ""], ""),
    (["--config", ""], "compopt -o default -o filenames")])
def test_what_bash_leaves_to_readline(words, answer):
    assert bash_answer(*words) == [answer] if answer == "" else [answer, ""]


def test_users_are_offered():
    assert "root" in bash_answer("--user", "ro") and "root" in fish_answer("fscryptctl --user ro")


# Commands of two words, of which a program that only prints help is made


FAMILY = {
    "": """Usage: fscryptctl [GLOBAL OPTIONS] COMMAND [OPTIONS] ARGUMENTS

Everyday commands:
  list              show it
  protector create  make one: [x] it's `new` $HOME
  protector list    show all

"fscryptctl COMMAND --help" shows a command's options.
""",
    "list": "",
    "protector create": """makes one
Usage: fscryptctl protector create [OPTIONS] MOUNTPOINT

Positionals:
  MOUNTPOINT REQUIRED           where

Options:
  --source KIND REQUIRED        passphrase (default), raw-key or login; it's [new]: `x` $y \\z
  --a-very-long-name-of-an-option FILE
                                a file
  --only x|y Excludes: --source
                                one of two
""",
    "protector list": "",
}
GLOBALS = """
Global options:
  -h,--help                     show this help
  --user NAME|UID               act for this user
"""


@pytest.fixture
def family(room):
    """The completions of a program with two-word commands."""
    texts = room / "help"
    texts.mkdir()
    for name, text in FAMILY.items():
        text = text or f"shows\nUsage: fscryptctl {name} [OPTIONS] [PATH]\n\nOptions:\n  --all  more\n"
        (texts / (name.replace(" ", "_") or "general")).write_text(text + (GLOBALS if name else ""))
    stub = room / "stub"
    stub.write_text(f'#!/bin/sh\nfor last; do :; done\n[ "$last" = --help ] || exit 1\n'
                    f'case $# in 1) n=general ;; 2) n=$1 ;; 3) n=$1_$2 ;; esac\ncat "{texts}/$n"\n')
    stub.chmod(0o755)
    subprocess.run([GENERATE, stub, texts], check=True, timeout=30)
    return texts


def test_two_word_commands(family, shell):
    def bash(*words):
        return bash_answer(*words, script=family / "fscryptctl.bash")

    assert bash("") == ["list", "protector"]
    assert bash("protector", "") == ["create", "list"]
    assert bash("protector", "c") == ["create"]
    assert bash("--user", "x", "protector", "create", "--s") == ["--source"]
    assert bash("protector", "create", "--source", "") == ["passphrase", "raw-key", "login"]
    assert bash("protector", "create", "--only", "") == ["x", "y"]
    assert bash("protector", "create", "") == ["compopt -o dirnames -o filenames", ""]
    assert bash("protector", "list", "-") == ["--all", "-h", "--help", "--user"]
    script = family / "fscryptctl.fish"
    assert fish_answer("fscryptctl protector ", script) == ["create", "list"]
    assert set(fish_answer("fscryptctl protector create --", script)) == {
        "--source", "--a-very-long-name-of-an-option", "--only", "--help", "--user"}
    assert set(fish_answer("fscryptctl protector create --source ", script)) == {
        "passphrase", "raw-key", "login"}
    assert fish_answer("fscryptctl list --a", script) == ["--all"]
    zsh = shell("zsh")
    zsh.send(f"fpath=({family} $fpath); unfunction _fscryptctl 2>/dev/null; autoload -Uz _fscryptctl\r")
    zsh.settle()
    assert zsh.offered("fscryptctl protector ") >= {"create", "list"}
    assert {word for word in zsh.offered("fscryptctl protector create --") if len(word) > 2 and
            word.startswith("-")} == {"--source", "--a-very-long-name-of-an-option", "--only", "--help",
                                      "--user"}
    assert zsh.offered("fscryptctl --user x protector create --source ") >= {"passphrase", "raw-key",
                                                                            "login"}


@pytest.mark.parametrize("change", ["added", "removed", "renamed"])
def test_the_check_notices_a_difference(family, room, change):
    listing = family / "protector_list"
    listing.write_text({"added": listing.read_text().replace("  --all  more\n", "  --all  more\n  --new  it\n"),
                        "removed": listing.read_text().replace("  --all  more\n", "  --other  it\n"),
                        "renamed": listing.read_text().replace("--all", "--al")}[change])
    before = {file: file.read_bytes() for file in family.iterdir()}
    done = subprocess.run([GENERATE, "--check", room / "stub", family], capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 1 and "out of date" in done.stderr
    assert before == {file: file.read_bytes() for file in family.iterdir()}


def test_help_that_is_not_understood_is_an_error(family, room):
    (family / "list").write_text("Usage: fscryptctl list [OPTIONS]\n\nOptions:\n  --odd\n\n")
    done = subprocess.run([GENERATE, room / "stub", family], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "not understood" in done.stderr


# Hostile names


@pytest.mark.parametrize("kind", SHELLS)
def test_a_directory_s_name_reaches_the_program_as_it_is(shell, kind):
    one = shell(kind)
    for number, name in enumerate(name for name in HOSTILE if name not in TORN.get(kind, ())):
        place = one.work / str(number)
        (place / name).mkdir(parents=True)
        one.send(f"cd {place}\r")
        one.settle()
        for line in (["encrypt"], ["get_policy"], ["unlock", "a", "--mount"]):
            got = one.arguments(f"fscryptctl {' '.join(line)} \t")
            assert [*got[:-1], got[-1].removesuffix("/").removeprefix("./")] == [*line, name], (kind, name)
        got = one.arguments("fscryptctl unlock --mount=./\t")
        assert [word.removesuffix("/") for word in got] == ["unlock", f"--mount=./{name}"], (kind, name)
        assert not list(one.work.parent.rglob("pwned")), name


@pytest.mark.parametrize("kind", SHELLS)
def test_a_file_s_name_reaches_the_program_as_it_is(shell, kind):
    one = shell(kind)
    for number, name in enumerate(name for name in HOSTILE if name not in TORN.get(kind, ())):
        place = one.work / str(number)
        place.mkdir()
        (place / name).touch()
        one.send(f"cd {place}\r")
        one.settle()
        got = one.arguments("fscryptctl unlock x --key-file \t")
        assert [*got[:-1], got[-1].removeprefix("./")] == ["unlock", "x", "--key-file", name], (kind, name)
        assert not list(one.work.parent.rglob("pwned")), name


@pytest.mark.parametrize("kind", SHELLS)
def test_many_hostile_names_are_only_shown(shell, kind):
    one = shell(kind)
    for name in HOSTILE:
        (one.work / name).mkdir()
    for line in ("encrypt ", "unlock ", "get_policy ", "encrypt --mount ", "encrypt --mount=", "unlock --key-file "):
        one.try_out(f"fscryptctl {line}")
        assert not list(one.work.parent.rglob("pwned")), line


@pytest.mark.parametrize("kind", SHELLS)
def test_what_was_typed_before_is_not_run(shell, kind):
    one = shell(kind)
    (one.work / "d").mkdir()
    for word in ("$(touch pwned)", "`touch pwned`", '"$(touch pwned)"', "'$(touch pwned)'", "x[$(touch pwned)]",
                 "a=$(touch pwned)", "'a[$(touch pwned)]'"):
        if kind == "fish" and "`" in word:
            continue  # only a character there
        for line in (f"{word} ", f"encrypt {word} ", f"unlock {word} ", f"--user {word} encrypt ",
                     f"encrypt --name {word} ", f"encrypt --name={word} ", f"encrypt {word} -",
                     f"encrypt --mount {word} --", f"encrypt -- {word} "):
            one.try_out(f"fscryptctl {line}")
            assert not list(one.work.parent.rglob("pwned")), (kind, line)


def test_hostile_users_and_environment_change_nothing(shell, installed):
    one = shell("bash", typed="$(touch pwned)", everywhere="$(touch pwned)", option="--mount", index="x[$(touch pwned)]",
                operands="x[$(touch pwned)]")
    one.try_out("fscryptctl encrypt --s")
    assert one.arguments("fscryptctl encrypt --sou\tlogin") == ["encrypt", "--source", "login"]


@pytest.mark.parametrize("kind", SHELLS)
def test_typing_with_tab(shell, kind):
    one = shell(kind)
    (one.work / "private").mkdir()
    assert one.arguments("fscryptctl encr\tpri\t --cont\tAdi\t")[0] == "encrypt"
    got = one.arguments("fscryptctl set_p\t8699 ./pri\t --filenames=AES-256-H\t")
    assert got[:2] == ["set_policy", "8699"] and got[2] in ("./private/", "./private")
    assert got[3] == "--filenames=AES-256-HCTR2"
