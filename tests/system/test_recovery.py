"""Recovery keys: one more way in, for the day when the passphrase is lost."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

import harness
import kernel
from faults import CHANGING, FaultInjector, check_each

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
KEY = re.compile(r"(?:[0-9A-HJKMNP-TV-Z]{8}-){7}[0-9A-HJKMNP-TV-Z]{8}")
NOT_IN_USE = "NOT IN USE YET"


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem, "--all-users")
    return filesystem


@pytest.fixture
def old(passphrase_file):
    return passphrase_file("correct horse", name="old")


@pytest.fixture
def new(passphrase_file):
    return passphrase_file("battery staple", name="new")


@pytest.fixture
def private(disk, run, old):
    run.ok(["encrypt", disk / "private", "--create", "--passphrase-file", old])
    (disk / "private/letter").write_text("dear diary")
    return disk / "private"


@pytest.fixture
def paper(scratch):
    return scratch / "paper"


@pytest.fixture
def with_key(run, private, old, paper, secrets):
    """The file with the recovery key of `private`, which no command may say again."""
    run.ok(["recovery", "create", private, "--passphrase-file", old, "--output", paper])
    secrets.remember(key_of(paper).encode())
    secrets.remember(key_of(paper).replace("-", "").encode())
    return paper


def key_of(file):
    return KEY.search(file.read_text())[0]


def mistyped(key, place):
    other = ALPHABET[(ALPHABET.index(key[place]) + 1) % 32]
    return key[:place] + other + key[place + 1:]


def opens(run, directory, *words, **how):
    result = run(["unlock", directory, "--dry-run", *words], **how)
    assert result.rc in (0, 3), result
    return result.rc == 0


def opens_with_key(run, directory, file):
    return opens(run, directory, "--recovery-key-file", file)


def record_of(disk, uid=0):
    return next((disk / f".fscryptctl/users/{uid}/protectors").iterdir())


# Making one


def test_a_recovery_key_opens_what_its_protector_opens(disk, private, run, with_key, old):
    run.ok(["encrypt", disk / "later", "--create", "--protector", "private", "--passphrase-file", old])
    for directory in (private, disk / "later"):
        run.ok(["lock", directory])
        run.ok(["unlock", directory, "--recovery-key-file", with_key])
    assert (private / "letter").read_text() == "dear diary"
    status = run.ok(["status", private, "--json"])
    assert status["has_recovery_key"] is True and status["protectors"][0]["recovery_key"] is True
    listed = run.ok(["list"]).out.splitlines()
    assert [line.split()[-1] for line in listed[1:]] == ["yes", "yes"]


def test_the_file_is_private_and_says_what_it_opens(disk, run, private, with_key):
    info = os.stat(with_key)
    assert oct(info.st_mode) == "0o100600"
    text = with_key.read_text()
    assert '"private"' in text and str(disk) in text and NOT_IN_USE not in text
    assert run.ok(["status", private, "--json"])["protectors"][0]["id"] in text


def test_the_answer(disk, private, run, old, paper):
    answer = run.ok(["recovery", "create", private, "--passphrase-file", old, "--output", paper, "--json"])
    assert answer["changed"] is True and answer["output"] == str(paper)
    assert answer["protector"]["name"] == "private" and answer["protector"]["recovery_key"] is True
    assert answer["copies"] == [{"mountpoint": str(disk), "state": "written"}]
    assert "recovery_key" not in answer


def test_on_standard_output(private, run, old, secrets):
    result = run.ok(["recovery", "create", private, "--passphrase-file", old, "--output", "-"])
    assert KEY.fullmatch(result.out.strip()) and "KEY" not in result.err
    assert opens(run, private, "--recovery-key-file", "-", stdin=result.out.encode())
    answer = run.ok(["recovery", "create", private, "--passphrase-file", old, "--output", "-",
                     "--replace", "--json"])
    assert opens(run, private, stdin=answer["recovery_key"].encode())
    assert not opens(run, private, stdin=result.out.encode())


def test_off_a_terminal_it_is_shown_only_where_said(private, run, old, disk):
    before = record_of(disk).read_bytes()
    for more in ([], ["--yes"], ["--quiet"]):
        result = run(["recovery", "create", private, "--passphrase-file", old, "--json", *more])
        assert result.rc == 2 and result.json()["changed"] is False
    assert record_of(disk).read_bytes() == before


def test_a_second_one_must_be_wanted(private, run, old, with_key, scratch):
    result = run(["recovery", "create", private, "--passphrase-file", old, "--output", scratch / "second"])
    assert result.rc == 9 and "--replace" in result.err
    assert not (scratch / "second").exists() and opens_with_key(run, private, with_key)
    run.ok(["recovery", "create", private, "--passphrase-file", old, "--output", scratch / "second",
            "--replace"])
    assert opens_with_key(run, private, scratch / "second")
    assert not opens_with_key(run, private, with_key)


def test_a_wrong_passphrase_makes_none(disk, private, run, new, paper):
    before = record_of(disk).read_bytes()
    assert run(["recovery", "create", private, "--passphrase-file", new, "--output", paper]).rc == 3
    assert not paper.exists() and record_of(disk).read_bytes() == before


def test_by_protector_and_mount_point(disk, private, run, old, paper):
    run.ok(["recovery", "create", "--protector", "private", "--mount", disk, "--passphrase-file", old,
            "--output", paper])
    run.ok(["recovery", "verify", "--protector", f"{disk}:private", "--recovery-key-file", paper])
    run.ok(["recovery", "remove", "--mount", disk, "--passphrase-file", old])
    assert run(["recovery", "verify", private, "--protector", "nobody",
                "--recovery-key-file", paper]).rc == 4


def test_alice_makes_and_uses_one(disk, run, passphrase_file, alice, bob, scratch):
    file = passphrase_file("correct horse", owner=alice)
    home = disk / "alice"
    home.mkdir()
    os.chown(home, alice.uid, alice.gid)
    paper = scratch / "alices"
    run.ok(["encrypt", home / "private", "--create", "--passphrase-file", file,
            "--recovery-key-output", paper], user=alice)
    assert os.stat(paper).st_uid == alice.uid and oct(os.stat(paper).st_mode) == "0o100600"
    run.ok(["lock", home / "private"], user=alice)
    run.ok(["unlock", home / "private", "--recovery-key-file", paper], user=alice)
    run.ok(["recovery", "verify", home / "private", "--recovery-key-file", paper], user=alice)
    assert run(["recovery", "verify", home / "private", "--recovery-key-file", paper], user=bob).rc in (4, 7)
    run.ok(["recovery", "remove", home / "private", "--passphrase-file", file], user=alice)
    assert run(["unlock", "--dry-run", home / "private", "--recovery-key-file", paper], user=alice).rc == 3


# Where it is accepted


@pytest.mark.parametrize("spelling", [
    str.lower, lambda key: key.replace("-", ""), lambda key: key.replace("-", " "),
    lambda key: key.replace("0", "o").replace("1", "l")], ids=["lower", "plain", "spaces", "alike"])
def test_on_standard_input_and_in_passphrase_files(private, run, with_key, spelling, secrets):
    text = spelling(key_of(with_key)).encode() + b"\n"
    assert opens(run, private, stdin=text)
    file = secrets.file("spelled", text)
    assert opens(run, private, "--passphrase-file", file)
    assert opens(run, private, "--recovery-key-file", file)
    assert opens(run, private, "--recovery-key-file", "-", stdin=b"# explained\n\n" + text + b"rest")


def test_it_needs_no_hashing(private, run, with_key):
    for words in (["--recovery-key-file", with_key], ["--passphrase-file", with_key.with_name("p")]):
        with_key.with_name("p").write_text(key_of(with_key))
        result = run.ok(["--verbose", "unlock", "--dry-run", private, *words])
        assert "hashing" not in result.err


def test_it_sets_a_new_passphrase_and_goes_on_to_open(private, run, with_key, old, new):
    policy = kernel.get_policy(private)
    run.ok(["change-passphrase", private, "--recovery-key-file", with_key, "--new-passphrase-file", new])
    assert opens(run, private, "--passphrase-file", new)
    assert not opens(run, private, "--passphrase-file", old)
    assert opens_with_key(run, private, with_key) and kernel.get_policy(private) == policy
    run.ok(["change-passphrase", private, "--passphrase-file", new, "--new-passphrase-file", old])
    assert opens_with_key(run, private, with_key)


def test_both_from_standard_input(private, run, with_key, new):
    run.ok(["change-passphrase", private, "--recovery-key-file", "-", "--new-passphrase-file", "-"],
           stdin=key_of(with_key).encode() + b"\nbattery staple\n")
    assert opens(run, private, "--passphrase-file", new)


def test_it_replaces_a_lost_key_file(disk, run, key_file, paper):
    first, second = key_file(name="first"), key_file(name="second")
    run.ok(["encrypt", disk / "raw", "--create", "--key-file", first, "--recovery-key-output", paper])
    run.ok(["change-passphrase", disk / "raw", "--recovery-key-file", paper, "--new-key-file", second])
    assert opens(run, disk / "raw", "--key-file", second)
    assert not opens(run, disk / "raw", "--key-file", first)
    assert opens(run, disk / "raw", stdin=key_of(paper).encode())


def test_it_opens_a_protector_for_another_directory(disk, private, run, with_key, old):
    run.ok(["encrypt", disk / "second", "--create", "--protector", "private", "--recovery-key-file", with_key])
    assert opens(run, disk / "second", "--passphrase-file", old)


def test_it_is_tried_on_all_protectors(disk, run, passphrase_file, paper):
    names = []
    for number in range(6):
        file = passphrase_file(f"passphrase {number}", name=f"p{number}")
        more = ["--recovery-key-output", paper] if number == 5 else []
        run.ok(["encrypt", disk / f"d{number}", "--create", "--passphrase-file", file, *more])
        names += ["--protector", f"d{number}"]
    keys = b"".join(b"passphrase %d\n" % number for number in range(6))
    for number in range(6):
        (paper.parent / f"all{number}").write_bytes(keys)
    policy = [disk / "d5"]
    assert run(["unlock", "--dry-run", *policy, "--recovery-key-file", paper]).rc == 0


def test_several_paths_and_one_key(disk, private, run, with_key, old):
    run.ok(["encrypt", disk / "two", "--create", "--protector", "private", "--passphrase-file", old])
    answer = run.ok(["unlock", "--dry-run", private, disk / "two", "--json"],
                    stdin=key_of(with_key).encode())
    assert [result["ok"] for result in answer["results"]] == [True, True]


def test_a_passphrase_that_looks_like_one(disk, run, with_key, secrets):
    file = secrets.file("looks", key_of(with_key).encode() + b"\n")
    run.ok(["encrypt", disk / "looks", "--create", "--passphrase-file", file])
    assert opens(run, disk / "looks", "--passphrase-file", file)


def test_python_opens_with_a_recovery_key(disk, private, run, with_key):
    reader = harness.REPOSITORY / "metadata-format/reader.py"
    records = disk / ".fscryptctl/users/0"
    policy, protector = (next((records / kind).iterdir()) for kind in ("policies", "protectors"))
    identifier = run.ok(["status", private, "--json"])["policy"]["key_identifier"]

    def read(file):
        return subprocess.run([sys.executable, reader, "--recovery-key-file", file, policy, protector],
                              capture_output=True, text=True, timeout=60)

    assert read(with_key).stdout == f"key identifier {identifier}\n"
    wrong = with_key.with_name("wrong")
    wrong.write_text(mistyped(key_of(with_key), 30))
    assert read(wrong).returncode == 3 and "group 4" in read(wrong).stderr


# Where it is not


@pytest.mark.parametrize("place, group", [(0, 1), (25, 3), (70, 8)])
@pytest.mark.parametrize("words", [["recovery", "verify"], ["unlock", "--dry-run"]])
def test_a_typo_is_located(private, run, with_key, words, place, group):
    typo = mistyped(key_of(with_key), place)
    result = run([*words, private, "--recovery-key-file", "-"], stdin=typo.encode())
    assert result.rc == 3 and f"group {group} is mistyped" in result.err
    result = run([*words, private, "--json"], stdin=typo.encode())
    assert result.rc == 3 and f"group {group} is mistyped" in result.json()["error"]["message"]


def test_a_lost_character_is_located(private, run, with_key):
    key = key_of(with_key)
    result = run(["recovery", "verify", private], stdin=(key[:30] + key[31:]).encode())
    # By chance, once in 32 keys each, a neighbour's check character allows the gap there too.
    assert result.rc == 3
    assert re.search(r"group (3 or |3, )?4( or 5)? has 1 character too few", result.err)


def test_another_one_is_wrong(disk, private, run, with_key, old, scratch):
    other = scratch / "other"
    run.ok(["encrypt", disk / "other", "--create", "--passphrase-file", old, "--recovery-key-output", other])
    before = record_of(disk).read_bytes()
    for words in (["recovery", "verify"], ["unlock", "--dry-run"]):
        result = run([*words, private, "--recovery-key-file", other])
        assert result.rc == 3 and "wrong recovery key" in result.err
        assert "accepted here too" not in result.err
    assert record_of(disk).read_bytes() == before


def test_a_passphrase_is_no_recovery_key(private, run, with_key, old):
    result = run(["unlock", private, "--dry-run", "--recovery-key-file", old])
    assert result.rc == 3 and "hashing" not in run(
        ["--verbose", "unlock", private, "--dry-run", "--recovery-key-file", old]).err
    assert run(["recovery", "verify", private], stdin=b"correct horse\n").rc == 3


def test_verify_says_if_there_is_none_and_touches_nothing(disk, private, run, paper):
    shutil.copytree(disk / ".fscryptctl", paper)
    result = run(["recovery", "verify", private], stdin=b"whatever\n")
    assert result.rc == 3 and "has no recovery key" in result.err
    assert record_of(disk).read_bytes() == (
        paper / "users/0/protectors" / record_of(disk).name).read_bytes()


def test_a_missing_file(private, run, with_key):
    assert run(["unlock", private, "--dry-run", "--recovery-key-file", "/nonexistent"]).rc == 4


def test_a_hint_tells_that_one_is_accepted(private, run, new):
    run.ok(["lock", private])
    result = run(["unlock", private, "--passphrase-file", new])
    assert result.rc == 3 and "hint: a recovery key is accepted here too" in result.err


# Taking it away


def test_a_removed_one_opens_nothing(private, run, with_key, old):
    answer = run.ok(["recovery", "remove", private, "--passphrase-file", old, "--json"])
    assert answer["changed"] is True and answer["protector"]["recovery_key"] is False
    assert not opens_with_key(run, private, with_key)
    assert opens(run, private, "--passphrase-file", old)
    assert run.ok(["status", private, "--json"])["has_recovery_key"] is False
    assert run.ok(["recovery", "remove", private, "--passphrase-file", old, "--json"])["changed"] is False


def test_it_cannot_remove_itself(disk, private, run, with_key, new):
    """Whoever has only the recovery key would be locked out."""
    before = record_of(disk).read_bytes()
    result = run(["recovery", "remove", private, "--recovery-key-file", with_key, "--json"])
    assert result.rc == 9 and result.json()["error"]["reason"] == "last_way"
    assert run(["recovery", "remove", private], stdin=key_of(with_key).encode()).rc == 9
    assert run(["recovery", "remove", private, "--passphrase-file", new]).rc == 3
    assert record_of(disk).read_bytes() == before


# Copies


@pytest.fixture
def copy(disk, private, second_filesystem, set_up, run, old):
    set_up(second_filesystem)
    run.ok(["encrypt", second_filesystem / "copy", "--create", "--protector", f"{disk}:private",
            "--passphrase-file", old])
    return second_filesystem / "copy"


def test_all_copies_get_it_and_lose_it(private, copy, run, with_key, old, new):
    assert opens_with_key(run, copy, with_key)
    run.ok(["change-passphrase", private, "--recovery-key-file", with_key, "--new-passphrase-file", new])
    assert opens(run, copy, "--passphrase-file", new), "it opened the copy, too"
    answer = run.ok(["recovery", "remove", private, "--passphrase-file", new, "--json"])
    assert [copy["state"] for copy in answer["copies"]] == ["written", "written"]
    assert not opens_with_key(run, copy, with_key) and opens(run, copy, "--passphrase-file", new)


def test_a_copy_that_was_away_is_healed_by_the_recovery_key(private, copy, second_filesystem, run,
                                                            with_key, old, new):
    second_filesystem.unmount()
    run.ok(["change-passphrase", private, "--passphrase-file", old, "--new-passphrase-file", new])
    second_filesystem.mount()
    assert opens(run, copy, "--passphrase-file", old)
    run.ok(["change-passphrase", private, "--recovery-key-file", with_key, "--new-passphrase-file", new])
    assert opens(run, copy, "--passphrase-file", new) and not opens(run, copy, "--passphrase-file", old)


def test_a_copy_that_another_passphrase_opens_is_left_alone(private, copy, second_filesystem, run, old,
                                                            new, paper):
    second_filesystem.unmount()
    run.ok(["change-passphrase", private, "--passphrase-file", old, "--new-passphrase-file", new])
    second_filesystem.mount()
    answer = run.ok(["recovery", "create", private, "--passphrase-file", new, "--output", paper, "--json"])
    assert [copy["state"] for copy in answer["copies"]] == ["written", "stale"]
    assert not opens_with_key(run, copy, paper) and opens(run, copy, "--passphrase-file", old)


# Files that cannot be written


def create(private, old, file):
    return ["recovery", "create", private, "--passphrase-file", old, "--output", file]


@pytest.mark.parametrize("kind", ["file", "symlink", "dangling", "directory", "fifo"])
def test_nothing_that_exists_is_overwritten(disk, private, run, old, paper, scratch, kind):
    elsewhere = scratch / "elsewhere"
    before = record_of(disk).read_bytes()
    if kind == "file":
        paper.write_text("precious")
    if kind == "symlink":
        elsewhere.write_text("precious")
    if kind in ("symlink", "dangling"):
        paper.symlink_to(elsewhere)
    if kind == "directory":
        paper.mkdir()
    if kind == "fifo":
        os.mkfifo(paper)
    assert run(create(private, old, paper)).rc == 2
    result = run(["encrypt", disk / "more", "--create", "--passphrase-file", old,
                  "--recovery-key-output", paper])
    assert result.rc == 2 and not (disk / "more").exists()
    assert kind != "file" or paper.read_text() == "precious"
    assert kind != "symlink" or elsewhere.read_text() == "precious"
    assert kind != "dangling" or not elsewhere.exists()
    assert record_of(disk).read_bytes() == before


def test_a_full_disk(disk, private, run, old, scratch):
    full = scratch / "full"
    full.mkdir()
    harness.command("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", full)
    (full / "filler").write_bytes(b"x" * 4096)
    before = record_of(disk).read_bytes()
    result = run(create(private, old, full / "key"))
    assert result.rc == 1 and os.listdir(full) == ["filler"]
    result = run(["encrypt", disk / "more", "--create", "--passphrase-file", old,
                  "--recovery-key-output", full / "key"])
    assert result.rc == 1 and os.listdir(full) == ["filler"] and not (disk / "more").exists()
    assert record_of(disk).read_bytes() == before


def test_a_directory_that_cannot_be_written(disk, run, passphrase_file, alice, scratch):
    file = passphrase_file("correct horse", owner=alice)
    home, closed = disk / "alice", scratch / "closed"
    home.mkdir()
    closed.mkdir()
    os.chown(home, alice.uid, alice.gid)
    result = run(["encrypt", home / "d", "--create", "--passphrase-file", file,
                  "--recovery-key-output", closed / "key"], user=alice)
    assert result.rc == 7 and not (home / "d").exists()
    assert list(disk.mountpoint.glob(".fscryptctl/users/1000/*/*.yaml")) == []
    assert run(create(home, file, "/nonexistent/key"), user=alice).rc == 4


def test_a_file_that_would_be_locked_in_is_told(private, run, old):
    result = run.ok(create(private, old, private / "key"))
    assert "lies in an encrypted directory" in result.err


def test_a_forgotten_key_file_is_told_even_where_a_line_would_do(disk, run, key_file, paper):
    run.ok(["encrypt", disk / "raw", "--create", "--key-file", key_file(), "--recovery-key-output", paper])
    result = run(["unlock", "--dry-run", disk / "raw"])
    assert result.rc == 2 and "give --key-file" in result.err


# encrypt


def test_encrypt_makes_one(disk, run, old, paper):
    result = run.ok(["encrypt", disk / "d", "--create", "--passphrase-file", old,
                     "--recovery-key-output", paper])
    assert "or the recovery key nobody can read" in result.err and NOT_IN_USE not in paper.read_text()
    assert opens_with_key(run, disk / "d", paper)
    result = run.ok(["encrypt", disk / "e", "--create", "--passphrase-file", old, "--no-recovery-key"])
    assert "there is no recovery key and no backup yet" in result.err


def test_encrypt_makes_one_on_standard_output(disk, run, old):
    result = run.ok(["encrypt", disk / "d", "--create", "--passphrase-file", old, "--recovery-key-output", "-"])
    assert KEY.fullmatch(result.out.strip())
    assert opens(run, disk / "d", stdin=result.out.encode())
    answer = run.ok(["encrypt", disk / "e", "--create", "--passphrase-file", old,
                     "--recovery-key-output", "-", "--json"])
    assert answer["has_recovery_key"] is True
    assert opens(run, disk / "e", stdin=answer["recovery_key"].encode())


def test_encrypt_refuses_what_makes_no_sense(disk, private, run, old, paper, with_key):
    for more in (["--recovery-key-output", paper.with_name("x"), "--no-recovery-key"],
                 ["--recovery-key-output", paper.with_name("x"), "--protector", "private"],
                 ["--recovery-key-output", paper.with_name("x"), "--policy", private],
                 ["--recovery-key-file", with_key]):
        result = run(["encrypt", disk / "d", "--create", "--passphrase-file", old, *more])
        assert result.rc == 2 and not (disk / "d").exists(), result
    assert not paper.with_name("x").exists()


def test_encrypt_that_fails_leaves_no_key(disk, run, old, paper):
    (disk / "full").mkdir()
    (disk / "full/file").write_text("")
    command = ["encrypt", disk / "full", "--passphrase-file", old, "--recovery-key-output", paper]
    assert run(command).rc == 9 and not paper.exists()
    command = ["encrypt", disk / "d", "--create", "--passphrase-file", old, "--recovery-key-output", paper,
               "--contents", "SM4-XTS"]
    if run(command).rc == 6:  # this kernel may have it
        assert not paper.exists()


def test_ensure_can_be_repeated(disk, run, old, paper):
    command = ["encrypt", disk / "d", "--create", "--ensure", "--passphrase-file", old,
               "--recovery-key-output", paper, "--json"]
    assert run.ok(command)["changed"] is True
    text = paper.read_text()
    assert run.ok(command)["changed"] is False and paper.read_text() == text
    paper.unlink()
    assert run.ok(command)["changed"] is False and not paper.exists()


# On a terminal


def shown_key(terminal):
    terminal.expect(KEY.pattern)
    return terminal.match[0]


def test_it_is_shown_and_typed_again_with_typos(private, run, tty, old):
    terminal = tty(["recovery", "create", private, "--yes", "--quiet"])
    terminal.answer("passphrase for", "correct horse")
    key = shown_key(terminal)
    terminal.expect("type it")
    assert not run.ok(["status", private, "--json"])["has_recovery_key"], "not before it is typed"
    terminal.sendline(mistyped(key, 20))
    terminal.expect("group 3 is mistyped")
    terminal.expect("type it")
    terminal.sendline(key[:-9])
    terminal.expect("group 8 is missing")
    terminal.expect("type it")
    terminal.sendline(key.lower().replace("-", " "))
    assert terminal.finish() == 0
    assert opens(run, private, stdin=key.encode())


def test_a_second_question_is_asked_of_nobody(private, run, tty, with_key):
    terminal = tty(["recovery", "create", private])
    terminal.expect("has a recovery key already")
    assert terminal.finish() == 9


@pytest.mark.parametrize("key, rc", [("\x03", 130), ("\x04", 2)])
def test_a_key_that_was_not_typed_again_is_none(disk, private, tty, key, rc):
    before = record_of(disk).read_bytes()
    terminal = tty(["recovery", "create", private])
    terminal.answer("passphrase for", "correct horse")
    shown_key(terminal)
    terminal.expect("type it")
    terminal.send(key)
    assert terminal.finish() == rc
    assert record_of(disk).read_bytes() == before


def test_standard_output_that_is_the_terminal_is_no_way_round_typing(disk, private, tty):
    terminal = tty(["recovery", "create", private, "--output", "-"])
    terminal.answer("passphrase for", "correct horse")
    key = shown_key(terminal)
    terminal.expect("type it")
    terminal.sendline(key)
    assert terminal.finish() == 0


def test_it_is_typed_where_a_passphrase_is_asked_for(private, run, tty, with_key):
    key = key_of(with_key)
    terminal = tty(["unlock", "--dry-run", private])
    terminal.answer("passphrase for", mistyped(key, 10))
    terminal.expect(r"wrong recovery key \(group 2 is mistyped\), 2 tries left")
    terminal.answer("passphrase for", key.lower())
    assert terminal.finish() == 0
    terminal = tty(["recovery", "verify", private])
    terminal.answer("recovery key for", key.replace("-", ""))
    assert terminal.finish() == 0


def test_it_opens_a_raw_key_s_directory_at_a_terminal(disk, run, tty, key_file, paper):
    run.ok(["encrypt", disk / "raw", "--create", "--key-file", key_file(), "--recovery-key-output", paper])
    terminal = tty(["unlock", "--dry-run", disk / "raw"])
    terminal.answer("recovery key for", key_of(paper))
    assert terminal.finish() == 0


@pytest.mark.parametrize("options", [[], ["--yes"]])
def test_encrypt_offers_one(disk, run, tty, options):
    terminal = tty(["encrypt", disk / "d", "--create", *options])
    terminal.answer("passphrase for", "correct horse")
    terminal.answer("again", "correct horse")
    terminal.expect(r"recovery key.*\[y/N\] ")
    terminal.sendline("y")
    key = shown_key(terminal)
    terminal.expect("type it")
    assert not (disk / "d").exists() or kernel.get_policy(disk / "d") is None
    terminal.sendline(key)
    assert terminal.finish() == 0
    assert opens(run, disk / "d", stdin=key.encode())


def test_an_offer_can_be_declined(disk, run, tty):
    terminal = tty(["encrypt", disk / "d", "--create"])
    terminal.answer("passphrase for", "correct horse")
    terminal.answer("again", "correct horse")
    terminal.expect(r"\[y/N\] ")
    terminal.sendline("")
    terminal.expect("there is no recovery key and no backup yet")
    assert terminal.finish() == 0
    assert run.ok(["status", disk / "d", "--json"])["has_recovery_key"] is False


def test_an_interrupted_offer_encrypts_nothing(disk, tty):
    terminal = tty(["encrypt", disk / "d", "--create"])
    terminal.answer("passphrase for", "correct horse")
    terminal.answer("again", "correct horse")
    terminal.expect(r"\[y/N\] ")
    terminal.sendline("y")
    shown_key(terminal)
    terminal.expect("type it")
    terminal.send("\x03")
    assert terminal.finish() == 130 and not (disk / "d").exists()
    assert list(disk.mountpoint.glob(".fscryptctl/users/0/*/*.yaml")) == []


def test_no_prompt_offers_nothing(disk, tty, old):
    terminal = tty(["encrypt", disk / "d", "--create", "--no-prompt", "--passphrase-file", old])
    assert terminal.finish() == 0


# QR code


def picture_of(lines, dark):
    """A PGM image of half blocks; `dark` is what a drawn half is."""
    halves = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
    scale, rows = 6, []
    for line in lines:
        for half in (0, 1):
            row = b"".join(bytes([0 if bool(halves[c][half]) == dark else 255]) * scale for c in line)
            rows += [row] * scale
    return b"P5\n%d %d\n255\n" % (len(rows[0]), len(rows)) + b"".join(rows)


def decoded(picture, scratch):
    (scratch / "code.pgm").write_bytes(picture)
    return harness.command("zbarimg", "--quiet", "--raw", scratch / "code.pgm").strip()


def test_a_qr_code_in_a_file(private, run, old, paper, scratch):
    run.ok([*create(private, old, paper), "--qr"])
    lines = [line[2:] for line in paper.read_text().splitlines() if re.fullmatch("# [█▀▄ ]+", line)]
    assert len(lines) == 21 and {len(line) for line in lines} == {41}
    assert decoded(picture_of(lines, dark=True), scratch) == key_of(paper)


def test_a_qr_code_on_a_terminal(private, tty, scratch):
    terminal = tty(["recovery", "create", private, "--qr"])
    terminal.answer("passphrase for", "correct horse")
    key = shown_key(terminal)
    terminal.expect("type it")
    lines = re.findall("\x1b\\[0;97;40m([█▀▄ ]{41})\x1b\\[0m", terminal.before)
    assert len(lines) == 21
    assert decoded(picture_of(lines, dark=False), scratch) == key
    terminal.sendline(key)
    assert terminal.finish() == 0


# Interrupted


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


CALLS = (*CHANGING, "pwrite64")


class Creation:
    def __init__(self, run, private, old, paper, replace):
        self.run, self.private, self.old, self.paper = run, private, old, paper
        self.first = paper.with_name("first") if replace else None
        self.args = [*create(private, old, paper), *(["--replace"] if replace else [])]

    def prepare(self):
        self.paper.unlink(missing_ok=True)
        self.run.ok(["recovery", "remove", self.private, "--passphrase-file", self.old])
        if self.first:
            self.first.unlink(missing_ok=True)
            self.run.ok(create(self.private, self.old, self.first))

    def check(self, rc):
        assert opens(self.run, self.private, "--passphrase-file", self.old)
        has = self.run.ok(["status", self.private, "--json"])["has_recovery_key"]
        text = self.paper.read_text() if self.paper.exists() else ""
        new = KEY.search(text) is not None and opens_with_key(self.run, self.private, self.paper)
        old = self.first is not None and opens_with_key(self.run, self.private, self.first)
        assert has == (new or old), "a recovery key that nobody has"
        assert new or rc != 0, "it reported success"
        assert new or not text or NOT_IN_USE in text, "a file claims to open what it does not"

    def finish(self):
        text = self.paper.read_text() if self.paper.exists() else ""
        done = KEY.search(text) and NOT_IN_USE not in text
        if not done:
            self.run.ok(self.args)
        assert opens_with_key(self.run, self.private, self.paper)
        assert NOT_IN_USE not in self.paper.read_text()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("fault, ends", [("signal=KILL", {-signal.SIGKILL}), ("signal=INT", {0, 130}),
                                         ("error=EIO", {0, 1})])
def test_create_can_end_at_any_moment(private, run, old, paper, injector, replace, fault, ends):
    creation = Creation(run, private, old, paper, replace)
    creation.prepare()
    names = CALLS if "signal" in fault else ("write", "pwrite64", "fsync", "renameat")
    calls = injector.calls(creation.args, names)
    creation.check(0)

    def check(call):
        creation.prepare()
        result = injector.run(creation.args, call, fault)
        assert result.rc in ends, result
        creation.check(result.rc)
        creation.finish()

    check_each(calls, check)


@pytest.mark.parametrize("fault, ends", [("signal=KILL", {-signal.SIGKILL}), ("signal=INT", {0, 130}),
                                         ("error=EIO", None)])
def test_encrypt_with_a_recovery_key_can_end_at_any_moment(disk, run, key_file, paper, injector, fault,
                                                           ends):
    key, directory = key_file(), disk / "d"
    args = ["encrypt", directory, "--create", "--key-file", key, "--recovery-key-output", paper]

    def prepare():
        paper.unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        for user in (disk / ".fscryptctl/users").iterdir():
            shutil.rmtree(user)

    def check(call):
        prepare()
        result = injector.run(args, call, fault)
        assert result.rc in (ends or range(11)), result
        encrypted = directory.exists() and kernel.get_policy(directory) is not None
        text = paper.read_text() if paper.exists() else ""
        if encrypted:
            assert opens(run, directory, "--key-file", key) and opens_with_key(run, directory, paper)
        else:
            assert result.rc != 0 and (not text or NOT_IN_USE in text)
        run.ok(args)
        assert opens_with_key(run, directory, paper) and NOT_IN_USE not in paper.read_text()

    prepare()
    calls = injector.calls(args, CALLS if "signal" in fault else ("pwrite64", "fsync", "renameat", "ioctl"))
    check_each(calls, check)


def test_two_at_once_make_one(private, run, old, scratch):
    """Each writes its key first; only the one that the record took is left."""
    papers = [scratch / f"paper{number}" for number in range(4)]
    running = [run.start([os.fsdecode(word) for word in create(private, old, paper)],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for paper in papers]
    codes = []
    for process in running:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert sorted(codes) == [0, 9, 9, 9]
    kept = [paper for paper in papers if paper.exists()]
    assert [paper for paper, rc in zip(papers, codes) if rc == 0] == kept
    assert opens_with_key(run, private, kept[0])
