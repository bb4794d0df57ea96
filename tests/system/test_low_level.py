"""google/fscryptctl's commands: what scripts for that program give, see and rely on, byte for byte."""

import errno
import fcntl
import os
import struct
import subprocess
import termios
import time

import pytest

import kernel

KEY = bytes(range(64))
KEY_ID = "8699c2c53707405da5aba5ae4d8583c0"
OTHER_KEY = bytes(range(1, 65))
OTHER_ID = "69b2f6edeee720cce0577937eb8a6751"
SHORT_KEY = bytes(range(16))
SHORT_ID = "7c656a522d30b5d06b3ecb33463b2e3b"
NO_ENCRYPTION = ("your kernel is too old to support filesystem encryption, or the filesystem you are "
                 "using does not support encryption")
NOT_ENABLED = ("filesystem encryption has been disabled in the kernel config, or you need to enable "
               "encryption on your filesystem (see the README for more detailed instructions).")
HARDWARE_COMMANDS = ["import_hw_wrapped_key", "generate_hw_wrapped_key", "prepare_hw_wrapped_key"]
COMMANDS = ["add_key", "remove_key", "key_status", "get_policy", "set_policy", *HARDWARE_COMMANDS]


@pytest.fixture
def says(run):
    """says(args, out): succeeds with exactly this on standard output and nothing else."""

    def check(args, out="", **how):
        result = run(args, **how)
        assert (result.rc, result.out, result.err) == (0, out, ""), result

    return check


@pytest.fixture
def fails(run):
    """fails(args, fact): exit code 1, `error: FACT` on standard error, `out` on standard output."""

    def check(args, fact, out="", **how):
        result = run(args, **how)
        assert (result.rc, result.out, result.err) == (1, out, f"error: {fact}\n"), result

    return check


@pytest.fixture
def directory(filesystem):
    made = filesystem / "d"
    made.mkdir()
    return made


@pytest.fixture
def hers(filesystem, alice):
    made = filesystem / "hers"
    made.mkdir()
    os.chown(made, alice.uid, alice.gid)
    return made


def policy_text(path, identifier=KEY_ID, contents="AES-256-XTS", filenames="AES-256-CTS",
                flags="PAD_32", unit="default"):
    return (f"Encryption policy for {path}:\n"
            "\tPolicy version: 2\n"
            f"\tMaster key identifier: {identifier}\n"
            f"\tContents encryption mode: {contents}\n"
            f"\tFilenames encryption mode: {filenames}\n"
            f"\tFlags: {flags}\n"
            f"\tData unit size: {unit}\n")


# Keys


@pytest.mark.parametrize("key, identifier", [(KEY, KEY_ID), (OTHER_KEY, OTHER_ID), (SHORT_KEY, SHORT_ID)])
@pytest.mark.parametrize("ordinary", [False, True])
def test_a_key_is_added_shown_and_removed(filesystem, says, alice, key, identifier, ordinary):
    how = {"user": alice} if ordinary else {}
    says(["key_status", identifier, filesystem], "Absent\n", **how)
    says(["add_key", filesystem], identifier + "\n", stdin=key, **how)
    says(["key_status", identifier, filesystem], "Present (user_count=1, added_by_self)\n", **how)
    says(["remove_key", identifier, filesystem], **how)
    says(["key_status", identifier, filesystem], "Absent\n", **how)


def test_a_key_may_have_from_16_to_64_bytes(filesystem, fails, run):
    for size in (0, 1, 15):
        fails(["add_key", filesystem], "key was too short; it must be at least 16 bytes",
              stdin=b"X" * size)
    for size in (65, 128, 70000):
        fails(["add_key", filesystem], "key was too long; it can be at most 64 bytes", stdin=b"X" * size)
    for size in (16, 17, 63, 64):
        run.ok(["add_key", filesystem], stdin=os.urandom(size))


def test_a_key_that_comes_in_pieces_is_one_key(filesystem, run):
    process = run.start(["add_key", str(filesystem)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for start in range(0, 64, 16):
        process.stdin.write(KEY[start:start + 16])
        process.stdin.flush()
    out, _ = process.communicate(timeout=20)
    assert out.decode() == KEY_ID + "\n"


def test_the_key_is_looked_at_before_the_mount_point(fails, room):
    fails(["add_key", room / "missing"], "key was too short; it must be at least 16 bytes", stdin=b"")
    fails(["add_key", room / "missing"], f"opening {room}/missing: No such file or directory", stdin=KEY)


def test_reading_the_key_can_be_interrupted(filesystem, run):
    process = run.start(["add_key", str(filesystem)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(KEY[:20])
    process.stdin.flush()
    while fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4)) != bytes(4):
        time.sleep(0.01)  # until the program has read them and waits for more
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_closed_standard_streams_end_nothing_badly(filesystem, room, sandbox, run):
    program = sandbox.install_program()
    done = subprocess.run(["sh", "-c", f'"$0" add_key {filesystem} <&-', str(program)],
                          env=run.environment(), capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr == "error: key was too short; it must be at least 16 bytes\n"
    with open("/dev/full", "wb") as full:
        process = run.start(["key_status", KEY_ID, str(filesystem)], stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err == b"error: writing to stdout: No space left on device\n"


def test_a_reader_that_stops_reading_disturbs_nothing(filesystem, directory, sandbox, run, says):
    says(["set_policy", KEY_ID, directory])
    environment = run.environment({"PATH": f"{sandbox.install_program().parent}:{run.environment()['PATH']}"})
    for _ in range(20):
        done = subprocess.run(["bash", "-o", "pipefail", "-c", 'fscryptctl get_policy "$1" | head -n 1', "bash",
                               str(directory)], env=environment, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout, done.stderr) == (
            0, f"Encryption policy for {directory}:\n", "")
    # Nor does one that was never there: the original is ended silently.
    reader, writer = os.pipe()
    os.close(reader)
    process = run.start(["get_policy", str(directory)], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, err = process.communicate(timeout=20)
    assert process.returncode != 0 and err == b""


def test_the_claims_of_several_users(filesystem, says, fails, alice, bob):
    for user in (alice, bob):
        says(["add_key", filesystem], KEY_ID + "\n", stdin=KEY, user=user)
    says(["key_status", KEY_ID, filesystem], "Present (user_count=2)\n")
    fails(["remove_key", KEY_ID, filesystem], "removing key: Required key not available")
    says(["remove_key", KEY_ID, filesystem], "warning: other users still have this key added\n", user=alice)
    fails(["remove_key", KEY_ID, filesystem], "removing key: Required key not available", user=alice)
    fails(["remove_key", "--all-users", KEY_ID, filesystem], "removing key: Permission denied", user=alice)
    says(["remove_key", "--all-users", KEY_ID, filesystem])
    says(["key_status", KEY_ID, filesystem], "Absent\n")


def test_files_in_use_keep_a_key(filesystem, directory, says):
    says(["add_key", filesystem], KEY_ID + "\n", stdin=KEY)
    says(["set_policy", KEY_ID, directory])
    with open(directory / "file", "w"):
        for _ in range(3):
            says(["remove_key", KEY_ID, filesystem],
                 "warning: some files using this key are still in-use\n")
            says(["key_status", KEY_ID, filesystem], "Incompletely removed\n")
    says(["remove_key", KEY_ID, filesystem])
    says(["key_status", KEY_ID, filesystem], "Absent\n")


@pytest.mark.parametrize("command", ["remove_key", "key_status"])
def test_key_identifiers_are_32_digits(filesystem, run, fails, command):
    for bad in ("", "bad", "X" * 32, KEY_ID[:31], KEY_ID + "0", "g" + KEY_ID[1:], KEY_ID + "\n", "é" * 16):
        fails([command, bad, filesystem], f"invalid key identifier: {bad}")
    # Before the mount point is looked at.
    fails([command, "bad", "/missing"], "invalid key identifier: bad")
    fails([command, KEY_ID, "/missing"], "opening /missing: No such file or directory")


def test_digits_may_be_capital_letters(filesystem, directory, says):
    says(["add_key", filesystem], KEY_ID + "\n", stdin=KEY)
    says(["key_status", KEY_ID.upper(), filesystem], "Present (user_count=1, added_by_self)\n")
    says(["set_policy", KEY_ID.upper(), directory])
    says(["get_policy", directory], policy_text(directory))


def test_any_path_of_the_filesystem_names_it(filesystem, directory, says):
    (directory / "file").touch()
    says(["add_key", directory / "file"], KEY_ID + "\n", stdin=KEY)
    says(["key_status", KEY_ID, directory], "Present (user_count=1, added_by_self)\n")


def test_key_quota(filesystem, run, fails, alice):
    for number in range(200):
        result = run(["add_key", filesystem], stdin=struct.pack(">Q", number) * 4, user=alice)
        if result.rc != 0:
            break
    assert result.err == f"error: adding key to {filesystem}: Disk quota exceeded\n"


# Policies


@pytest.mark.parametrize("ordinary", [False, True])
def test_a_policy_is_set_and_shown(filesystem, hers, says, fails, alice, ordinary):
    how = {"user": alice} if ordinary else {}
    fails(["get_policy", hers], f"getting policy for {hers}: file or directory not encrypted", **how)
    says(["add_key", filesystem], KEY_ID + "\n", stdin=KEY, **how)
    says(["set_policy", KEY_ID, hers], **how)
    says(["get_policy", hers], policy_text(hers), **how)
    (hers / "file").write_text("x")
    (hers / "file").chmod(0o644)
    says(["get_policy", hers / "file"], policy_text(hers / "file"), **how)
    # The same again is success, anything else is not.
    says(["set_policy", KEY_ID, hers], **how)
    says(["add_key", filesystem], OTHER_ID + "\n", stdin=OTHER_KEY, **how)
    already = f"setting policy for {hers}: file or directory already encrypted"
    fails(["set_policy", OTHER_ID, hers], already, **how)
    fails(["set_policy", KEY_ID, hers, "--padding=4"], already, **how)


def test_root_needs_no_key_for_a_policy(directory, says):
    # The everyday commands refuse this; a script that adds the key later is served.
    says(["set_policy", KEY_ID, directory])
    says(["get_policy", directory], policy_text(directory))
    says(["add_key", directory], KEY_ID + "\n", stdin=KEY)
    (directory / "file").write_text("x")


def test_a_user_needs_the_key_and_the_directory(filesystem, directory, hers, says, fails, alice, bob):
    fails(["set_policy", KEY_ID, hers], f"setting policy for {hers}: Required key not available", user=alice)
    says(["add_key", filesystem], KEY_ID + "\n", stdin=KEY, user=bob)
    fails(["set_policy", KEY_ID, hers], f"setting policy for {hers}: Required key not available", user=alice)
    fails(["set_policy", KEY_ID, directory], f"setting policy for {directory}: Permission denied", user=bob)
    hers.chmod(0o700)
    fails(["get_policy", hers], f"opening {hers}: Permission denied", user=bob)
    assert kernel.get_policy(hers) is None and kernel.get_policy(directory) is None


def test_what_cannot_be_encrypted(filesystem, directory, says, fails):
    says(["add_key", filesystem], KEY_ID + "\n", stdin=KEY)
    (directory / "sub").mkdir()
    fails(["set_policy", KEY_ID, directory], f"setting policy for {directory}: Directory not empty")
    (filesystem / "file").touch()
    fails(["set_policy", KEY_ID, filesystem / "file"],
          f"setting policy for {filesystem}/file: Not a directory")
    fails(["set_policy", KEY_ID, filesystem / "missing"],
          f"opening {filesystem}/missing: No such file or directory")
    for bad in ("bad", "X" * 32):
        fails(["set_policy", bad, "/missing"], f"invalid key identifier: {bad}")


def test_a_policy_survives_a_power_cut(filesystem, directory, says):
    says(["add_key", filesystem], KEY_ID + "\n", stdin=KEY)
    # So that only the policy is left to be written.
    os.sync()
    says(["set_policy", KEY_ID, directory])
    kernel.cut_power(filesystem)
    filesystem.remount()
    says(["get_policy", directory], policy_text(directory))


@pytest.mark.parametrize("padding", [4, 8, 16, 32])
def test_padding(directory, says, padding):
    says(["set_policy", f"--padding={padding}", KEY_ID, directory])
    says(["get_policy", directory], policy_text(directory, flags=f"PAD_{padding}"))


@pytest.mark.parametrize("options, shown", [
    (["--contents=AES-256-XTS", "--filenames=AES-256-CTS"], {}),
    (["--contents=AES-128-CBC", "--filenames=AES-128-CTS"],
     {"contents": "AES-128-CBC", "filenames": "AES-128-CTS"}),
    (["--contents=Adiantum", "--filenames=Adiantum"], {"contents": "Adiantum", "filenames": "Adiantum"}),
    (["--contents=Adiantum", "--filenames=Adiantum", "--padding=4", "--direct-key"],
     {"contents": "Adiantum", "filenames": "Adiantum", "flags": "PAD_4, DIRECT_KEY"}),
    (["--direct-key", "--contents=Adiantum", "--filenames=Adiantum", "--padding=16"],
     {"contents": "Adiantum", "filenames": "Adiantum", "flags": "PAD_16, DIRECT_KEY"}),
    (["--filenames=AES-256-HCTR2"], {"filenames": "AES-256-HCTR2"}),
    (["--contents=SM4-XTS", "--filenames=SM4-CTS"], {"contents": "SM4-XTS", "filenames": "SM4-CTS"}),
    (["--data-unit-size=1024"], {"unit": "1024"}),
    (["--data-unit-size=4096"], {"unit": "4096"})])
def test_modes_and_units(directory, says, options, shown):
    says(["set_policy", *options, KEY_ID, directory])
    says(["get_policy", directory], policy_text(directory, **shown))


def test_inline_encryption_flags(make_filesystem, run, says):
    disk = make_filesystem(stable_inodes=True)
    for name, options, out, flags in (
            ("a", ["--iv-ino-lblk-64"], "", "PAD_32, IV_INO_LBLK_64"),
            ("b", ["--iv-ino-lblk-32"], "warning: --iv-ino-lblk-32 should normally not be used\n",
             "PAD_32, IV_INO_LBLK_32")):
        (disk / name).mkdir()
        says(["set_policy", *options, KEY_ID, disk / name], out)
        says(["get_policy", disk / name], policy_text(disk / name, flags=flags))


@pytest.mark.parametrize("options", [
    ["--contents=AES-256-XTS", "--filenames=AES-128-CTS"],
    ["--contents=AES-256-CTS"], ["--filenames=AES-256-XTS"],
    ["--direct-key"], ["--iv-ino-lblk-64"], ["--data-unit-size=2"], ["--data-unit-size=8192"],
    ["--data-unit-size=1073741824"]])
def test_what_the_kernel_refuses(directory, fails, options):
    fails(["set_policy", *options, KEY_ID, directory],
          f"setting policy for {directory}: invalid encryption options provided")
    assert kernel.get_policy(directory) is None


@pytest.mark.parametrize("option, value, what", [
    ("contents", "foo", "contents mode"), ("filenames", "foo", "filenames mode"),
    ("contents", "", "contents mode"), ("contents", "aes-256-xts", "contents mode"),
    ("contents", "AES-256-XTS ", "contents mode"),
    ("padding", "0", "padding"), ("padding", "5", "padding"), ("padding", "64", "padding"),
    ("padding", "-4", "padding"), ("padding", "x", "padding"), ("padding", "", "padding"),
    ("data-unit-size", "0", "data unit size"), ("data-unit-size", "1", "data unit size"),
    ("data-unit-size", "1000", "data unit size"), ("data-unit-size", "-512", "data unit size"),
    ("data-unit-size", "x", "data unit size"),
    ("data-unit-size", "99999999999999999999", "data unit size")])
def test_values_that_mean_nothing(directory, fails, option, value, what):
    fails(["set_policy", f"--{option}={value}", KEY_ID, directory], f"invalid {what}: {value}")
    fails(["set_policy", KEY_ID, directory, f"--{option}", value], f"invalid {what}: {value}")
    # Even when nothing else is right.
    fails(["set_policy", f"--{option}={value}"], f"invalid {what}: {value}")
    assert kernel.get_policy(directory) is None


def test_a_warning_comes_when_its_option_does(fails):
    fails(["set_policy", "--iv-ino-lblk-32", "--padding=1"], "invalid padding: 1",
          out="warning: --iv-ino-lblk-32 should normally not be used\n")


def test_version_1_policies_are_shown(directory, says):
    descriptor = "04334e23057a6e2d"
    raw = bytearray(struct.pack("<BBBB8s", 0, 1, 4, 2, bytes.fromhex(descriptor)))
    kernel._ioctl(directory, kernel.SET_ENCRYPTION_POLICY, raw)
    says(["get_policy", directory],
         f"Encryption policy for {directory}:\n"
         "\tPolicy version: 1\n"
         f"\tMaster key descriptor: {descriptor}\n"
         "\tContents encryption mode: AES-256-XTS\n"
         "\tFilenames encryption mode: AES-256-CTS\n"
         "\tFlags: PAD_16\n")


def test_filesystems_that_cannot_encrypt(make_filesystem, room, fails):
    plain = make_filesystem(encrypt=False)
    (plain / "d").mkdir()
    tmpfs = room / "d"
    tmpfs.mkdir()
    for path, fact in ((plain / "d", NOT_ENABLED), (tmpfs, NO_ENCRYPTION)):
        fails(["add_key", path], f"adding key to {path}: {fact}", stdin=KEY)
        fails(["add_key", "--hw-wrapped-key", path], f"adding key to {path}: {fact}", stdin=KEY)
        fails(["remove_key", KEY_ID, path], f"removing key: {fact}")
        fails(["key_status", KEY_ID, path], f"getting key status: {fact}")
        fails(["get_policy", path], f"getting policy for {path}: {fact}")
        fails(["set_policy", KEY_ID, path], f"setting policy for {path}: {fact}")


def test_a_locked_file_and_a_fifo(filesystem, directory, says, fails):
    says(["add_key", filesystem], KEY_ID + "\n", stdin=KEY)
    says(["set_policy", KEY_ID, directory])
    (directory / "file").touch()
    says(["remove_key", KEY_ID, filesystem])
    locked = directory / os.listdir(directory)[0]
    fails(["get_policy", locked], f"opening {locked}: Required key not available")
    says(["get_policy", directory], policy_text(directory))
    os.mkfifo(filesystem / "fifo")  # nobody ever writes to it
    fails(["get_policy", filesystem / "fifo"], f"getting policy for {filesystem}/fifo: {NO_ENCRYPTION}")


# Arguments


@pytest.mark.parametrize("command, fact, wrong", [
    ("add_key", "must specify a single mountpoint", [[], ["a", "b"], ["--"]]),
    ("remove_key", "must specify a key identifier and a mountpoint", [[], ["a"], ["a", "b", "c"]]),
    ("key_status", "must specify a key identifier and a mountpoint", [[], ["a"], ["a", "b", "c"]]),
    ("get_policy", "must specify a single file or directory", [[], ["a", "b"]]),
    ("set_policy", "must specify a key and a directory", [[], ["a"], ["a b c"], ["a", "b", "c"]]),
    *((command, "must specify a single block device", [[], ["a", "b"]]) for command in HARDWARE_COMMANDS)])
@pytest.mark.parametrize("ordinary", [False, True])
def test_the_number_of_arguments(fails, alice, command, fact, wrong, ordinary):
    for words in wrong:
        fails([command, *words], fact, user=alice if ordinary else None)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_that_do_not_exist(fails, command):
    for words, fact in ((["--bogus"], "unrecognized option '--bogus'"),
                        (["--bogus=x", "a"], "unrecognized option '--bogus'"),
                        (["a", "b", "--json"], "unrecognized option '--json'"),
                        (["--quiet"], "unrecognized option '--quiet'"),
                        (["--hel"], "unrecognized option '--hel'"),
                        (["-q"], "invalid option -- 'q'"),
                        (["-xh"], "invalid option -- 'x'")):
        fails([command, *words], fact)


def test_options_used_wrongly(fails):
    fails(["set_policy", "--iv"], "option '--iv' is ambiguous")
    fails(["set_policy", "--padding"], "option '--padding' requires an argument")
    fails(["set_policy", "--pad"], "option '--pad' requires an argument")
    fails(["set_policy", "--direct-key=1"], "option '--direct-key' doesn't allow an argument")
    fails(["remove_key", "--all=yes", "a", "b"], "option '--all' doesn't allow an argument")


def test_options_may_be_abbreviated_and_stand_anywhere(make_filesystem, says, fails, alice):
    disk = make_filesystem(stable_inodes=True)
    for name in "abc":
        (disk / name).mkdir()
    says(["set_policy", KEY_ID, "--pad", "8", disk / "a", "--data=1024"])
    says(["get_policy", disk / "a"], policy_text(disk / "a", flags="PAD_8", unit="1024"))
    says(["set_policy", "--c=Adiantum", KEY_ID, disk / "b", "--f", "Adiantum", "--di"])
    says(["get_policy", disk / "b"], policy_text(disk / "b", contents="Adiantum", filenames="Adiantum",
                                                 flags="PAD_32, DIRECT_KEY"))
    says(["set_policy", "--padding=4", KEY_ID, "--iv-ino-lblk-6", disk / "c", "--padding=16"])
    says(["get_policy", disk / "c"], policy_text(disk / "c", flags="PAD_16, IV_INO_LBLK_64"))
    says(["add_key", disk], KEY_ID + "\n", stdin=KEY, user=alice)
    says(["remove_key", KEY_ID, disk, "--all"])
    # Where POSIX order is asked for, options end at the first operand.
    fails(["key_status", KEY_ID, "--", disk], "must specify a key identifier and a mountpoint",
          env={"POSIXLY_CORRECT": "1"})


def test_files_named_like_options(filesystem, run, says):
    says(["add_key", "."], KEY_ID + "\n", stdin=KEY, cwd=filesystem)
    for name in ("-h", "-v", "--help", "--version", "--", "--padding=4", "-"):
        (filesystem / name).mkdir()
        says(["set_policy", KEY_ID, "--", name], cwd=filesystem)
        says(["get_policy", "--", name], policy_text(name), cwd=filesystem)
        result = run(["get_policy", name], cwd=filesystem)
        if name not in ("-",):
            assert "Encryption policy for" not in result.out


@pytest.mark.parametrize("name", [b"with space", b"[x]", b"[a,b]", b"++", b"%%", b"{}", b"\xff\xfe",
                                  b"new\nline", "ümlaut".encode(), b"\x1b[31m", b"back\\slash"])
def test_names_come_back_as_they_are(filesystem, run, name):
    path = os.path.join(os.fsencode(filesystem), name)
    os.mkdir(path)
    assert run(["set_policy", KEY_ID, path]).rc == 0
    shown = run(["get_policy", path]).out.encode("utf-8", "surrogateescape")
    assert shown.startswith(b"Encryption policy for " + path + b":\n\tPolicy version: 2\n")
    error = run(["get_policy", path + b"x"]).err.encode("utf-8", "surrogateescape")
    assert error == b"error: opening " + path + b"x: No such file or directory\n"


def test_on_a_terminal_names_cannot_move_the_cursor(filesystem, tty):
    (filesystem / "\x1b[31m\nred").mkdir()
    kernel.set_policy(filesystem / "\x1b[31m\nred", KEY_ID)
    terminal = tty(["get_policy", filesystem / "\x1b[31m\nred"])
    assert terminal.finish() == 0
    assert "\x1b" not in terminal.before and "Encryption policy for" in terminal.before
    terminal = tty(["get_policy", filesystem / "\x1b[31mx"])
    assert terminal.finish() == 1
    assert "\x1b" not in terminal.before and "No such file or directory" in terminal.before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("ordinary", [False, True])
def test_help_and_version_of_each_command(run, alice, command, ordinary):
    user = alice if ordinary else None
    for words in (["--help"], ["-h"], ["a", "-h"], ["--bogus", "--help"], ["-h", "--", "x"]):
        result = run([command, *words], user=user)
        assert result.rc == 0 and result.err == "", result
        assert f"Usage: fscryptctl {command} [OPTIONS] " in result.out
    for words in (["--version"], ["-v"], ["a", "-v"]):
        assert run([command, *words], user=user).out == run(["--version"]).out


def test_help_is_not_looked_for_behind_the_end_of_options(fails):
    fails(["get_policy", "--", "--help"], "opening --help: No such file or directory")
    fails(["get_policy", "--", "-v"], "opening -v: No such file or directory")


def test_the_general_help_names_the_commands_last(run):
    text = run.ok(["--help"]).out
    heading = text.index("Low-level commands, as in google/fscryptctl:")
    positions = [text.index(f"  {command} ") for command in COMMANDS]
    assert positions == sorted(positions) and heading < positions[0]
    assert text.index("change-passphrase") < heading


def test_other_commands_are_not_google_s(run):
    result = run(["NONEXISTENT_COMMAND"])
    assert result.rc == 2 and result.err.splitlines()[0] == "error: invalid command: NONEXISTENT_COMMAND"
    result = run(["--quiet", "get_policy", "/"])
    assert result.rc == 2 and result.err == "error: get_policy takes no global options\n"


# Keys wrapped by hardware


def test_sizes_of_hardware_wrapped_keys(filesystem, fails):
    for size in (0, 15):
        fails(["add_key", "--hw-wrapped-key", filesystem],
              "key was too short; it must be at least 16 bytes", stdin=b"X" * size)
    fails(["add_key", "--hw-wrapped-key", filesystem], "key was too long; it can be at most 128 bytes",
          stdin=b"X" * 129)
    for words, longest in ((["import_hw_wrapped_key"], 64), (["prepare_hw_wrapped_key"], 128)):
        fails([*words, "/missing"], "key was too short; it must be at least 16 bytes", stdin=b"X" * 15)
        fails([*words, "/missing"], f"key was too long; it can be at most {longest} bytes",
              stdin=b"X" * (longest + 1))
        fails([*words, "/missing"], "opening /missing: No such file or directory", stdin=b"X" * longest)


def test_a_wrapped_key_needs_the_hardware(filesystem, says, fails):
    for size in (16, 128):
        for option in ("--hw-wrapped-key", "--hw"):
            fails(["add_key", option, filesystem],
                  f"adding key to {filesystem}: this filesystem cannot use hardware-wrapped keys (they "
                  "need such hardware and the mount option inlinecrypt)", stdin=b"X" * size)
    says(["key_status", kernel.key_identifier(b"X" * 16), filesystem], "Absent\n")


@pytest.mark.parametrize("command, doing", zip(HARDWARE_COMMANDS, ("importing", "generating", "preparing")))
def test_devices_without_the_hardware(filesystem, run, fails, alice, command, doing):
    result = run([command, filesystem.device], stdin=KEY)
    # Which of the two depends on how the kernel was built.
    unsupported = "this device does not support hardware-wrapped keys"
    unknown = ("not a block device, or this kernel has no hardware-wrapped keys (they need Linux 6.15 and "
               "inline encryption)")
    assert result.rc == 1 and result.out == ""
    assert result.err in (f"error: {doing} hardware-wrapped key: {unsupported}\n",
                          f"error: {doing} hardware-wrapped key: {unknown}\n")
    fails([command, filesystem], f"{doing} hardware-wrapped key: {unknown}", stdin=KEY)
    fails([command, filesystem.device], f"opening {filesystem.device}: Permission denied", stdin=KEY,
          user=alice)


# A script as people have it


SCRIPT = r"""
set -eu
mnt=$1 dir=$2
head -c 64 /dev/urandom > key
id=$(fscryptctl add_key "$mnt" < key)
[ "$(fscryptctl key_status "$id" "$mnt")" = "Present (user_count=1, added_by_self)" ]
mkdir "$dir"
fscryptctl set_policy --padding=16 "$id" "$dir"
fscryptctl get_policy "$dir" | sed -n 's/^\tMaster key identifier: //p' | grep -qx "$id"
fscryptctl get_policy "$dir" | grep -q '^	Flags: PAD_16$'
echo secret > "$dir/file"
[ -z "$(fscryptctl remove_key "$id" "$mnt")" ]
[ "$(fscryptctl key_status "$id" "$mnt")" = Absent ]
! cat "$dir/file" 2> /dev/null
if fscryptctl remove_key "$id" "$mnt" 2> err; then exit 1; fi
grep -qx 'error: removing key: Required key not available' err
[ "$(fscryptctl add_key "$mnt" < key)" = "$id" ]
[ "$(cat "$dir/file")" = secret ]
if fscryptctl get_policy "$mnt" > /dev/null 2> err; then exit 1; else [ $? -eq 1 ]; fi
grep -q 'file or directory not encrypted' err
fscryptctl --version > /dev/null
fscryptctl --help | grep -q set_policy
echo done
"""


@pytest.mark.parametrize("ordinary", [False, True])
def test_a_script_for_google_fscryptctl(filesystem, hers, scratch, sandbox, run, alice, ordinary):
    work = scratch / "work"
    work.mkdir()
    identity = {}
    if ordinary:
        os.chown(work, alice.uid, alice.gid)
        identity = {"user": alice.uid, "group": alice.gid, "extra_groups": []}
    program = sandbox.install_program()
    environment = run.environment({"PATH": f"{program.parent}:{run.environment()['PATH']}"})
    done = subprocess.run(["sh", "-c", SCRIPT, "script", str(filesystem), str(hers / "new")],
                          cwd=work, env=environment, capture_output=True, text=True, timeout=60, **identity)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_no_file_system_error_goes_unnoticed(filesystem, directory, run):
    # A kernel that refuses the sync: the policy may be lost, so it is no success.
    strace = ["strace", "-f", "-e", "trace=fsync", "-e", f"inject=fsync:error={errno.errorcode[errno.EIO]}",
              "-o", os.devnull, str(run._program), "set_policy", KEY_ID, str(directory)]
    done = subprocess.run(strace, env=run.environment(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"error: setting policy for {directory}: Input/output error\n"
