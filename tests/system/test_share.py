"""`share` and `accept`: two users open one directory, each with an own secret, and nobody else."""

import hashlib
import os
import re
import stat
import subprocess
import sys

import pytest

import harness

USERS = ".fscryptctl/users"
READER = harness.REPOSITORY / "metadata-format/reader.py"
CODE = re.compile(r"(?:[0-9A-HJKMNP-TV-Z]{4}-){7}[0-9A-HJKMNP-TV-Z]{4}")
TEAM = 4242


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem, "--all-users")
    return filesystem


@pytest.fixture
def run(run):
    """Every user of these tests is in the team."""
    start = run.start
    run.start = lambda args, user=None, env=None, cwd=None, **streams: (
        start(args, None, env, cwd, **streams) if user is None else subprocess.Popen(
            [run._program, *args], env=run.environment(env), cwd=cwd or run.directory,
            start_new_session=True, user=user.uid, group=user.gid, extra_groups=[TEAM], **streams))
    return run


@pytest.fixture
def team(disk, run, alice, passphrase_file):
    """A group's directory that root made and alice encrypted; unlocked, with a file in it."""
    place = disk / "team"
    place.mkdir()
    os.chown(place, alice.uid, TEAM)
    place.chmod(0o2770)
    run.ok(["encrypt", place, "--mode", "keep", "--new-passphrase-file",
            passphrase_file("hers of alice", name="alices", owner=alice)], user=alice)
    (place / "plan").write_text("a plan")
    (place / "plan").chmod(0o660)
    os.chown(place / "plan", alice.uid, TEAM)
    return place


@pytest.fixture
def share(run, team, scratch, alice, secrets):
    """share(name): the share's file, which bob can read, and the code."""

    def make(name="share", path=team, user=alice):
        file = scratch / name
        code_file = scratch / f"{name}-code"
        run.ok(["share", path, "--output", file, "--code-output", code_file, "--json"], user=user,
               stdin=b"hers of alice\n")
        for made in (file, code_file):
            assert stat.S_IMODE(made.stat().st_mode) == 0o600 and made.stat().st_uid == user.uid
            os.chown(made, harness.BOB.uid, harness.BOB.gid)
        code = code_file.read_text().strip()
        assert CODE.fullmatch(code)
        secrets.remember(code.encode())
        return file, code

    return make


def as_user(user, *words):
    return subprocess.run([str(word) for word in words], user=user.uid, group=user.gid,
                          extra_groups=[TEAM], capture_output=True, text=True, check=False)


def metadata(disk):
    return {str(path.relative_to(disk)): path.read_bytes()
            for path in (disk / USERS).rglob("*.yaml")}


def test_two_users_open_one_directory_each_with_an_own_secret(disk, run, team, share, alice, bob,
                                                           passphrase_file):
    file, code = share()
    his = passphrase_file("his of bob", name="bobs", owner=bob)
    answer = run.ok(["accept", file, "--new-passphrase-file", his, "--json"], user=bob,
                    stdin=code.encode() + b"\n")
    key = run.ok(["status", team, "--json"], user=alice)["policy"]["key_identifier"]
    assert (answer["changed"], answer["key_identifier"], answer["path"], answer["uid"]) == (
        True, key, str(team), bob.uid)
    assert answer["protector"]["name"] == "team"
    for record in (disk / USERS / "1001").rglob("*.yaml"):
        assert (record.stat().st_uid, stat.S_IMODE(record.stat().st_mode)) == (bob.uid, 0o600)
    run.ok(["lock", team, "--all-users"])
    assert as_user(bob, "cat", team / "plan").returncode != 0
    assert run(["unlock", team], user=bob, stdin=b"hers of alice\n").rc == 3
    run.ok(["unlock", team], user=bob, stdin=b"his of bob\n")
    assert as_user(bob, "cat", team / "plan").stdout == "a plan"
    assert as_user(alice, "cat", team / "plan").stdout == "a plan"
    run.ok(["unlock", team], user=alice, stdin=b"hers of alice\n")
    # Each has an own claim.
    assert run(["lock", team, "--json"], user=bob).rc == 5
    run.ok(["lock", team], user=alice)
    run.ok(["unlock", team], user=alice, stdin=b"hers of alice\n")
    assert as_user(bob, "cat", team / "plan").stdout == "a plan"
    # And an own passphrase to change.
    new = passphrase_file("newer of bob", name="newer", owner=bob)
    run.ok(["change-passphrase", team, "--passphrase-file", his, "--new-passphrase-file", new],
           user=bob)
    run.ok(["unlock", team, "--dry-run"], user=alice, stdin=b"hers of alice\n")
    assert run.ok(["check", disk, "--json"])["findings"] == []


def test_a_directory_that_was_moved_is_found_where_it_is(disk, run, team, share, bob, passphrase_file):
    (disk / "deep").mkdir()
    os.rename(team, disk / "deep/team")
    (disk / "deep/team/below").mkdir()
    for name, path in (("a", disk / "deep/team"), ("b", disk / "deep/team/below")):
        file, code = share(name, path=path)
        paths = re.findall(rb'^  - "(.*)"$', file.read_bytes(), re.MULTILINE)
        assert paths == ([b"team", b"deep/team"] if name == "a" else [b"team"])
        if name == "b":
            continue
        answer = run.ok(["accept", file, "--new-passphrase-file", passphrase_file(
            "his of bob", owner=bob), "--json"], user=bob, stdin=code.encode())
        assert answer["path"] == str(disk / "deep/team")


def test_accepting_again_changes_nothing(disk, run, share, bob, passphrase_file):
    file, code = share()
    how = ["accept", file, "--new-passphrase-file", passphrase_file("his of bob", owner=bob), "--json"]
    run.ok(how, user=bob, stdin=code.encode())
    before = metadata(disk)
    answer = run.ok(how, user=bob, stdin=b"")
    assert answer["changed"] is False and metadata(disk) == before
    # Who shared it has it, too.
    os.chown(file, harness.ALICE.uid, harness.ALICE.gid)
    assert run.ok(["accept", file, "--json", "--no-prompt"], user=harness.ALICE)["changed"] is False


def test_a_wrong_code(disk, run, share, bob, passphrase_file):
    file, code = share()
    _, other = share("other")
    his = passphrase_file("his of bob", owner=bob)
    before = metadata(disk)
    mistyped = code[:-1] + ("2" if code[-1] != "2" else "3")
    for wrong in (other, mistyped, code[:-1], "", "correct horse", code + code):
        result = run(["accept", file, "--new-passphrase-file", his, "--json"], user=bob,
                     stdin=wrong.encode() + b"\n")
        assert (result.rc, result.json()["error"]["code"]) in ((3, "wrong_key"), (2, "usage")), wrong
        assert (result.rc == 2) == (wrong == "")
        assert metadata(disk) == before
    assert run(["accept", file, "--new-passphrase-file", his], user=bob, stdin=b"").rc == 2
    assert run(["accept", file, "--code-file", "missing"], user=bob).rc == 4
    # As somebody writes it down.
    run.ok(["accept", file, "--new-passphrase-file", his], user=bob,
           stdin=b"  " + code.lower().replace("-", " ").encode() + b"\n")


def test_a_damaged_file_at_every_byte(disk, run, share, bob, scratch, passphrase_file):
    """The unit tests damage every byte; here the command does, now and then."""
    file, code = share()
    his = passphrase_file("his of bob", owner=bob)
    good = file.read_bytes()
    bad = scratch / "bad"
    before = metadata(disk)
    for place in [*range(0, len(good), 37), len(good) - 1]:
        bad.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
        bad.chmod(0o644)
        result = run(["accept", bad, "--new-passphrase-file", his, "--json"], user=bob,
                     stdin=code.encode())
        assert result.rc == 8 and result.json()["error"]["path"] == str(bad), place
        bad.write_bytes(good[:place])
        assert run(["accept", bad, "--new-passphrase-file", his], user=bob, stdin=code.encode()).rc == 8
    os.mkfifo(scratch / "fifo")
    for path, rc in ((scratch / "fifo", 2), (scratch, 2), ("/dev/zero", 2), (scratch / "missing", 4)):
        assert run(["accept", path, "--json"], user=bob, stdin=b"", timeout=10).rc == rc
    assert metadata(disk) == before


def seal(text):
    """The text with the digest that fits it."""
    body = text[:text.rindex(b"sha256: ")]
    return body + b"sha256: " + hashlib.sha256(body).hexdigest().encode() + b"\n"


@pytest.mark.parametrize("change, rc", [
    ((b"padding: 32", b"padding: 16"), 8),  # the directory that is seen says otherwise
    ((b'"team"', b'"elsewhere"'), 0),
    ((b"filesystem: ", b"filesystem: 00"), 8),
    ((b'"team"', b'"../../etc"'), 8),
])
def test_a_file_changed_on_purpose(disk, run, share, bob, scratch, passphrase_file, change, rc):
    file, code = share()
    changed = scratch / "changed"
    text = file.read_bytes()
    assert change[0] in text
    changed.write_bytes(seal(text.replace(*change)))
    os.chown(changed, bob.uid, bob.gid)
    changed.chmod(0o600)
    result = run(["accept", changed, "--mount", disk, "--new-passphrase-file",
                  passphrase_file("his of bob", owner=bob), "--json"], user=bob, stdin=code.encode())
    assert result.rc == rc, result
    if rc == 0:
        assert "path" not in result.json() and "not seen" in result.err
        run.ok(["unlock", disk / "team", "--dry-run"], user=bob, stdin=b"his of bob\n")


def test_modes_that_nobody_sees_are_bound_to_the_code(disk, run, share, team, bob, scratch,
                                                    passphrase_file):
    file, code = share()
    os.rename(team, disk / "moved")
    text = file.read_bytes()
    file.write_bytes(seal(text.replace(b"padding: 32", b"padding: 16")))
    how = ["accept", file, "--mount", disk, "--new-passphrase-file",
           passphrase_file("his of bob", owner=bob), "--json"]
    assert run(how, user=bob, stdin=code.encode()).rc == 3
    file.write_bytes(text)
    assert run.ok(how, user=bob, stdin=code.encode())["changed"] is True


def test_a_file_that_others_can_read_is_noted(run, share, bob, passphrase_file):
    file, code = share()
    his = passphrase_file("his of bob", owner=bob)
    file.chmod(0o644)
    assert "others can read" in run(["accept", file, "--new-passphrase-file", his], user=bob,
                                    stdin=code.encode()).err


def test_with_a_protector_that_is_there_already(disk, run, team, share, bob, key_file):
    key = key_file(name="bobs-key", owner=bob)
    home = disk / "bob"
    home.mkdir()
    os.chown(home, bob.uid, bob.gid)
    run.ok(["encrypt", home / "own", "--create", "--key-file", key, "--name", "mine"], user=bob)
    file, code = share()
    how = ["accept", file, "--json", "--protector"]
    assert run([*how, "other"], user=bob, stdin=code.encode()).rc == 4
    assert run([*how, "mine", "--name", "x"], user=bob, stdin=code.encode()).rc == 2
    wrong = key_file(name="wrong", owner=bob)
    assert run([*how, "mine", "--key-file", wrong], user=bob, stdin=code.encode()).rc == 3
    answer = run.ok([*how, "mine", "--key-file", key], user=bob, stdin=code.encode())
    assert answer["protector"]["name"] == "mine"
    assert len(list((disk / USERS / "1001/protectors").iterdir())) == 1
    run.ok(["lock", team, "--all-users"])
    run.ok(["unlock", team, "--key-file", key], user=bob)
    assert as_user(bob, "cat", team / "plan").stdout == "a plan"


def test_a_raw_key_and_names(disk, run, share, bob, key_file):
    file, code = share()
    key = key_file(name="bobs-key", owner=bob)
    for name in ("login", "a:b", "abcd"):
        assert run(["accept", file, "--new-key-file", key, "--name", name], user=bob,
                   stdin=code.encode()).rc == 2
    answer = run.ok(["accept", file, "--new-key-file", key, "--name", "theirs", "--json"], user=bob,
                    stdin=code.encode())
    assert answer["protector"] == {"id": answer["protector"]["id"], "name": "theirs",
                                   "source": "raw-key"}
    run.ok(["unlock", disk / "team", "--dry-run", "--key-file", key], user=bob)


def test_what_an_interrupted_run_left_is_taken_up(disk, run, share, bob, key_file):
    file, code = share()
    key = key_file(name="bobs-key", owner=bob)
    how = ["accept", file, "--new-key-file", key, "--name", "theirs", "--json"]
    run.ok(how, user=bob, stdin=code.encode())
    (policy,) = (disk / USERS / "1001/policies").iterdir()
    policy.unlink()
    run.ok(how, user=bob, stdin=code.encode())
    assert len(list((disk / USERS / "1001/protectors").iterdir())) == 1
    policy.unlink()
    other = key_file(name="another", owner=bob)
    result = run(["accept", file, "--new-key-file", other, "--name", "theirs", "--json"], user=bob,
                 stdin=code.encode())
    assert result.rc == 2 and "named theirs" in result.json()["error"]["message"]


def test_the_secret_is_always_asked(run, team, scratch, alice, bob):
    how = ["share", team, "--output", scratch / "s", "--code-output", scratch / "c", "--json"]
    assert run(how, user=alice, stdin=b"wrong\n").rc == 3
    assert run(how, user=alice, stdin=b"").rc == 2
    assert run(how, user=bob, stdin=b"hers of alice\n").rc == 4, "bob has no record"
    assert not (scratch / "s").exists() and not (scratch / "c").exists()


def test_places_that_are_taken_or_impossible(disk, run, team, scratch, alice):
    taken = scratch / "taken"
    taken.write_text("precious")
    how = ["share", team, "--json", "--output"]
    for output, code, rc in ((taken, scratch / "c", 9), (scratch / "s", taken, 9),
                             (scratch / "missing/s", scratch / "c", 4),
                             (scratch / "s", scratch / "missing/c", 4), (scratch / "s", "-", 2)):
        result = run([*how, output, "--code-output", code], user=alice, stdin=b"hers of alice\n")
        assert result.rc == rc, (output, code)
        assert sorted(path.name for path in scratch.iterdir() if path.name in "sc") == []
    assert run([*how, scratch / "s"], user=alice, stdin=b"hers of alice\n").rc == 2
    assert run(["share", disk, "--output", scratch / "s", "--code-output", scratch / "c"], user=alice,
               stdin=b"x\n").rc == 4
    assert taken.read_text() == "precious"


def test_the_code_on_standard_output(run, team, scratch, alice, passphrase_file):
    process = run.start(["share", str(team), "--output", str(scratch / "s"), "--code-output", "-"],
                        user=alice, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE)
    out, err = process.communicate(b"hers of alice\n", timeout=30)
    assert process.returncode == 0 and CODE.fullmatch(out.decode().strip())
    assert out.strip() not in err and b"needs a new key" in err
    assert out.strip() not in (scratch / "s").read_bytes()


def test_on_a_terminal(disk, run, team, tty, scratch, alice, bob, secrets):
    os.chown(scratch, alice.uid, alice.gid)
    terminal = tty(["share", team, "--output", scratch / "s"], user=alice)
    terminal.answer("passphrase for", "hers of alice")
    terminal.expect(CODE.pattern)
    code = terminal.match.group(0)
    assert terminal.finish() == 0
    os.chown(scratch / "s", bob.uid, bob.gid)
    terminal = tty(["accept", scratch / "s", "--mount", disk], user=bob)
    terminal.answer("one-time code for", code[:-1] + ("2" if code[-1] != "2" else "3"))
    terminal.expect("mistyped, 2 tries left")
    terminal.answer("one-time code for", code.lower())
    terminal.answer("new passphrase for", "his of bob")
    terminal.answer("the same again", "his of bob")
    assert terminal.finish() == 0
    assert code not in (terminal.before or "")
    run.ok(["unlock", team, "--dry-run"], user=bob, stdin=b"his of bob\n")


def test_the_independent_reader_opens_a_share(run, team, share, alice):
    file, code = share()
    key = run.ok(["status", team, "--json"], user=alice)["policy"]["key_identifier"]
    read = [sys.executable, str(READER), "--share", str(file)]
    done = subprocess.run(read, input=code.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, f"key identifier {key}\n")
    _, other = share("other")
    assert subprocess.run(read, input=other.encode(), capture_output=True, check=False).returncode == 3
    file.write_bytes(file.read_bytes().replace(b"salt: ", b"salt:  "))
    assert subprocess.run(read, input=code.encode(), capture_output=True, check=False).returncode == 8


def test_root_accepts_for_a_user(disk, run, team, share, bob, passphrase_file):
    file, code = share()
    run.ok(["accept", file, "--user", "bob", "--new-passphrase-file",
            passphrase_file("his of bob")], stdin=code.encode())
    run.ok(["unlock", team, "--dry-run"], user=bob, stdin=b"his of bob\n")


def test_where_the_user_may_not_have_records(filesystem, set_up, run, alice, bob, scratch,
                                             passphrase_file):
    set_up(filesystem, "--user", "alice")
    place = filesystem / "team"
    place.mkdir()
    os.chown(place, alice.uid, TEAM)
    place.chmod(0o2770)
    run.ok(["encrypt", place, "--mode", "keep", "--new-passphrase-file",
            passphrase_file("hers of alice", owner=alice)], user=alice)
    run.ok(["share", place, "--output", scratch / "s", "--code-output", scratch / "c"], user=alice,
           stdin=b"hers of alice\n")
    os.chmod(scratch / "s", 0o644)
    result = run(["accept", scratch / "s", "--new-passphrase-file",
                  passphrase_file("his of bob", name="his", owner=bob), "--json"], user=bob,
                 stdin=(scratch / "c").read_bytes())
    assert result.rc == 4 and result.json()["error"]["reason"] == "not_set_up"


def test_accepting_twice_at_once(disk, run, share, bob, key_file):
    file, code = share()
    key = key_file(name="bobs-key", owner=bob)
    for _ in range(5):
        running = [run.start(["accept", str(file), "--new-key-file", str(key), "--code-file",
                              f"{file}-code"], user=bob, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
        assert [process.wait(30) for process in running] == [0, 0, 0]
        assert len(list((disk / USERS / "1001").rglob("*.yaml"))) == 2
        for record in (disk / USERS / "1001").rglob("*.yaml"):
            record.unlink()
