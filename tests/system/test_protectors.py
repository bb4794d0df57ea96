"""`protector`: list, show, create, verify, rename, change-kdf and remove, as root and as users."""

import os
import shutil

import pytest

import kernel
from interruptible import RECORDS

USAGE, WRONG_KEY, NOT_FOUND, BUSY, PERMISSION, CORRUPT, REFUSED = 2, 3, 4, 5, 7, 8, 9


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def mine(passphrase_file):
    return passphrase_file("correct horse", name="mine")


@pytest.fixture
def other(passphrase_file):
    return passphrase_file("battery staple", name="other")


@pytest.fixture
def private(disk, run, mine):
    run.ok(["encrypt", disk / "private", "--create", "--passphrase-file", mine, "--name", "mine"])
    return disk / "private"


@pytest.fixture
def protector(run, disk):
    """protector("list", ...): the JSON object of a command that must succeed."""
    return lambda *args, **how: run.ok(["protector", *args, "--json"], **how)


@pytest.fixture
def create(run, disk):
    def make(name, file, *more, **how):
        return run(["protector", "create", disk, "--source", "passphrase", "--name", name,
                    "--passphrase-file", file, "--json", *more], **how)
    return make


def opens(run, directory, file, option="--passphrase-file", **how):
    result = run(["unlock", directory, "--dry-run", option, file], **how)
    assert result.rc in (0, WRONG_KEY), result
    return result.rc == 0


def record_of(disk, protector, uid=0):
    return disk / RECORDS / f"{uid}/protectors/{protector['id']}.yaml"


def names(answer):
    return sorted(protector["name"] for protector in answer["protectors"])


# list and show

def test_a_list_of_a_filesystem_and_of_a_directory(disk, private, run, protector, create, other):
    assert create("spare", other).rc == 0
    everything = protector("list", disk)
    assert names(everything) == ["mine", "spare"] and everything["changed"] is False
    assert everything["damaged"] == []
    (of_private,) = protector("list", private)["protectors"]
    key = kernel.get_policy(private).key_identifier
    assert of_private["name"] == "mine" and of_private["opens"] == [key]
    assert of_private["mountpoint"] == str(disk) and of_private["user"] == "root"
    assert names(protector("list", cwd=disk)) == ["mine", "spare"]
    assert names(protector("list", "--mount", disk)) == ["mine", "spare"]
    shown = run.ok(["protector", "list", disk]).out
    assert "PROTECTOR" in shown and "spare" in shown and "1 directory" in shown


def test_a_plain_directory_has_no_protectors(disk, run):
    (disk / "plain").mkdir()
    result = run(["protector", "list", disk / "plain", "--json"])
    assert result.rc == NOT_FOUND and result.json()["error"]["reason"] == "not_encrypted"


def test_a_list_of_an_empty_filesystem_is_empty(disk, run, protector):
    assert protector("list", disk)["protectors"] == []
    assert "no protectors" in run.ok(["protector", "list", disk]).err


def test_a_damaged_record_stands_beside_the_rest(disk, private, run, protector, create, other):
    spare = create("spare", other).json()["protector"]
    record_of(disk, spare).write_text("rubbish\n")
    result = run(["protector", "list", disk, "--json"])
    assert result.rc == CORRUPT and names(result.json()) == ["mine"]
    assert spare["id"] in result.json()["damaged"][0]["file"]


def test_show_by_name_id_prefix_and_mount_point(disk, private, run, protector):
    shown = protector("show", "mine", "--mount", disk)["protector"]
    for name in (shown["id"], shown["id"][:4], f"{disk}:mine", f"{disk}:{shown['id']}"):
        assert protector("show", name, cwd=disk)["protector"] == shown
    assert shown["source"] == "passphrase" and shown["kdf"]["algorithm"] == "argon2id"
    assert set(shown) >= {"id", "name", "source", "uid", "user", "mountpoint", "created", "opens",
                          "recovery_key", "wrapping"}
    assert str(private) in run.ok(["protector", "show", "mine"], cwd=disk).out


@pytest.mark.parametrize("name", ["nobody", "abc", "0123456789abcdef", "/:mine", "nowhere:mine"])
def test_what_is_not_there_is_not_found(disk, private, run, name):
    for words in (["show", name], ["verify", name], ["rename", name, "x"], ["remove", name],
                  ["rotate", name], ["change-kdf", name]):
        assert run(["protector", *words, "--mount", disk, "--json"]).rc == NOT_FOUND


# create

def test_a_new_protector_opens_nothing_until_it_is_used(disk, run, create, mine):
    made = create("mine", mine)
    assert made.rc == 0 and made.json()["changed"] is True
    assert made.json()["protector"]["opens"] == []
    run.ok(["encrypt", disk / "d", "--create", "--protector", "mine", "--passphrase-file", mine])
    assert opens(run, disk / "d", mine)
    assert len(list((disk / RECORDS).rglob("protectors/*"))) == 1


def test_repeating_it_is_success_and_another_secret_is_not(disk, run, create, mine, other):
    first = create("mine", mine).json()
    again = create("mine", mine).json()
    assert again["changed"] is False and again["protector"] == first["protector"]
    result = create("mine", other)
    assert result.rc == USAGE and "already" in result.json()["error"]["message"]
    assert len(list((disk / RECORDS).rglob("protectors/*"))) == 1


def test_both_spellings_standard_input_and_raw_keys(disk, run, create, mine, key_file, protector):
    run.ok(["protector", "create", disk, "--name", "a", "--new-passphrase-file", mine])
    run.ok(["protector", "create", disk, "--name", "b", "--passphrase-file", "-"], stdin=b"correct horse\n")
    key = key_file()
    run.ok(["protector", "create", disk, "--source", "raw-key", "--name", "c", "--key-file", key])
    run.ok(["protector", "create", disk, "--name", "d", "--new-key-file", key])
    kinds = {one["name"]: one["source"] for one in protector("list", disk)["protectors"]}
    assert kinds == {"a": "passphrase", "b": "passphrase", "c": "raw-key", "d": "raw-key"}
    for name, option, file in (("b", "--passphrase-file", mine), ("c", "--key-file", key)):
        run.ok(["protector", "verify", name, option, file], cwd=disk)


def test_without_a_name_it_is_the_mount_point_s(disk, run, protector, mine, other):
    first = protector("create", disk, "--passphrase-file", mine)["protector"]
    assert first["name"] == disk.mountpoint.name
    assert protector("create", disk, "--passphrase-file", mine)["changed"] is False
    second = protector("create", disk, "--passphrase-file", other)["protector"]
    assert second["name"] == disk.mountpoint.name + "-2"


@pytest.mark.parametrize("name", ["login", "abcd", "0123456789ABCDEF", "a:b", "a/b", "a\nb", "\xa0"[:0] + "x" * 256])
def test_names_that_are_not_allowed(disk, run, create, mine, name):
    assert create(name, mine).rc == USAGE
    assert not list((disk / RECORDS).rglob("protectors/*"))


def test_mistakes_of_create(disk, run, filesystem, mine, make_filesystem, key_file):
    for words in (["--source", "tpm2", "--passphrase-file", mine],
                  ["--source", "login", "--passphrase-file", mine],
                  ["--source", "raw-key", "--passphrase-file", mine],
                  ["--source", "passphrase", "--key-file", key_file()],
                  ["--source", "passphrase"],
                  ["--passphrase-file", mine, "--new-passphrase-file", mine]):
        assert run(["protector", "create", disk, "--name", "mine", *words, "--json"]).rc == USAGE
    other = make_filesystem()
    result = run(["protector", "create", other, "--name", "x", "--passphrase-file", mine])
    assert result.rc == NOT_FOUND and "not set up" in result.err


def test_on_a_terminal_a_new_secret_is_asked_for_twice(disk, run, tty, mine):
    terminal = tty(["protector", "create", disk, "--name", "mine"])
    terminal.answer("new passphrase for protector mine", "correct horse")
    terminal.answer("the same again", "correct horse")
    assert terminal.finish() == 0
    run.ok(["protector", "verify", "mine", "--passphrase-file", mine], cwd=disk)


# verify

def test_verify_proves_and_touches_nothing(disk, private, run, protector, mine, other):
    before = {file: file.read_bytes() for file in (disk / RECORDS).rglob("*.yaml")}
    run.ok(["lock", private])
    assert protector("verify", "mine", "--passphrase-file", mine, cwd=disk)["verified"] is True
    result = run(["protector", "verify", "mine", "--passphrase-file", other, "--json"], cwd=disk)
    assert result.rc == WRONG_KEY and "verified" not in result.json()
    assert run(["protector", "verify", "mine"], cwd=disk, stdin=b"correct horse\n").rc == 0
    assert {file: file.read_bytes() for file in (disk / RECORDS).rglob("*.yaml")} == before
    assert kernel.key_status(disk, kernel.get_policy(private).key_identifier).state == "absent"


# rename

def test_rename_changes_the_name_alone(disk, private, run, protector, mine, create, other):
    before = protector("show", "mine", cwd=disk)["protector"]
    answer = protector("rename", "mine", "home key", cwd=disk)
    assert answer["changed"] and answer["protector"] == {**before, "name": "home key"}
    assert protector("rename", "home key", "home key", cwd=disk)["changed"] is False
    assert opens(run, private, mine)
    assert create("spare", other).rc == 0
    for name in ("home key", "login", "abcdef", "a:b"):
        assert run(["protector", "rename", "spare", name], cwd=disk).rc == USAGE
    assert names(protector("list", disk)) == ["home key", "spare"]


# change-kdf

def test_change_kdf_keeps_the_secret(disk, private, run, protector, mine, other):
    record = record_of(disk, protector("show", "mine", cwd=disk)["protector"])
    before, policies = record.read_text(), list((disk / RECORDS).rglob("policies/*"))[0].read_bytes()
    costs = ["--kdf-time", "1", "--kdf-memory", "2", "--kdf-lanes", "2"]
    answer = protector("change-kdf", "mine", *costs, "--passphrase-file", mine, cwd=disk)
    assert answer["changed"] and answer["protector"]["kdf"] == answer["kdf"]
    assert answer["kdf"]["memory_kib"] == 2048 and answer["kdf"]["lanes"] == 2
    assert answer["copies"] == [{"mountpoint": str(disk), "state": "written"}]
    salts = [[line for line in text.splitlines() if "salt" in line] for text in (before, record.read_text())]
    assert not set(salts[0]) & set(salts[1])
    assert "generation: 2" in record.read_text()
    assert list((disk / RECORDS).rglob("policies/*"))[0].read_bytes() == policies
    assert opens(run, private, mine) and not opens(run, private, other)
    assert run(["protector", "change-kdf", "mine", "--passphrase-file", other], cwd=disk).rc == WRONG_KEY


def test_change_kdf_takes_the_configuration_s_costs(disk, private, run, protector, mine):
    protector("change-kdf", "mine", "--kdf-memory", "2", "--kdf-time", "1", "--passphrase-file", mine, cwd=disk)
    configured = run.ok(["setup", "--json"])["kdf"]
    assert protector("change-kdf", "mine", "--passphrase-file", mine, cwd=disk)["kdf"] == configured


def test_change_kdf_of_what_is_not_hashed_or_too_much(disk, run, private, mine, key_file):
    key = key_file()
    run.ok(["protector", "create", disk, "--name", "raw", "--key-file", key])
    assert run(["protector", "change-kdf", "raw", "--key-file", key], cwd=disk).rc == USAGE
    for costs in (["--kdf-memory", "0"], ["--kdf-lanes", "0"], ["--kdf-memory", "9999999"]):
        assert run(["protector", "change-kdf", "mine", *costs, "--passphrase-file", mine],
                   cwd=disk).rc == USAGE
    assert opens(run, private, mine)


def test_change_kdf_reaches_the_copies(disk, private, second_filesystem, set_up, run, protector, mine):
    set_up(second_filesystem)
    run.ok(["encrypt", second_filesystem / "d", "--create", "--protector", f"{disk}:mine",
            "--passphrase-file", mine])
    answer = protector("change-kdf", "mine", "--passphrase-file", mine, cwd=disk)
    assert [copy["state"] for copy in answer["copies"]] == ["written", "written"]
    shown = [protector("show", f"{mount}:mine")["protector"]["kdf"] for mount in (disk, second_filesystem)]
    assert shown[0] == shown[1]
    assert opens(run, second_filesystem / "d", mine)


# remove

@pytest.fixture
def remove(run, disk):
    return lambda name, *more, **how: run(["protector", "remove", name, "--mount", disk, "--json", *more], **how)


def add(run, directory, existing, name, new):
    return run.ok(["policy", "add-protector", directory, "--name", name, "--source", "passphrase",
                   "--passphrase-file", existing, "--new-passphrase-file", new, "--json"])


def test_one_that_opens_nothing_just_goes(disk, run, create, mine, remove, protector):
    create("mine", mine)
    assert remove("mine").json()["changed"] is True
    assert protector("list", disk)["protectors"] == []
    assert remove("mine").rc == NOT_FOUND


@pytest.mark.parametrize("options", [[], ["--yes"]], ids=["plain", "yes"])
def test_the_last_way_stays_and_the_directories_are_named(disk, private, run, mine, remove, options):
    run.ok(["encrypt", disk / "taxes", "--create", "--policy", private, "--passphrase-file", mine])
    run.ok(["encrypt", disk / "more", "--create", "--protector", "mine", "--passphrase-file", mine])
    result = remove("mine", *options)
    error = result.json()["error"]
    assert result.rc == REFUSED and error["code"] == "refused" and error["reason"] == "last_way"
    assert sorted(error["candidates"]) == sorted(map(str, (private, disk / "taxes", disk / "more")))
    assert error["message"].startswith('"mine" is the last way into ') and " and " in error["message"]
    assert "add another first: fscryptctl policy add-protector " in error["hint"]
    assert opens(run, private, mine) and opens(run, disk / "more", mine)


@pytest.mark.parametrize("locked", [False, True], ids=["unlocked", "locked"])
def test_a_directory_that_was_moved_keeps_its_last_way(disk, private, run, mine, remove, locked):
    moved = disk / "elsewhere/deep/below"
    moved.parent.mkdir(parents=True)
    os.rename(private, moved)
    if locked:
        run.ok(["lock", moved])
    result = remove("mine", "--yes")
    assert result.rc == REFUSED and result.json()["error"]["candidates"] == [str(moved)]
    assert opens(run, moved, mine)


def test_a_file_that_was_moved_out_of_it_counts(disk, private, run, remove):
    (private / "letter").write_text("dear diary")
    os.rename(private / "letter", disk / "letter")
    shutil.rmtree(private)
    assert remove("mine", "--yes").json()["error"]["candidates"] == [str(disk / "letter")]
    run.ok(["lock", "--policy", "x"][:1] + ["--all", disk])
    assert remove("mine", "--yes").rc == REFUSED


def test_with_another_way_it_goes(disk, private, run, mine, other, remove, protector):
    add(run, private, mine, "other", other)
    key = kernel.get_policy(private).key_identifier
    answer = remove("mine").json()
    assert answer["ok"] and answer["taken_from"] == [key] and answer["removed_policies"] == []
    assert names(protector("list", private)) == ["other"]
    assert opens(run, private, other) and not opens(run, private, mine)
    assert remove("other", "--yes").rc == REFUSED


@pytest.mark.parametrize("damage", ["rubbish", "missing", "untrusted", "second document"])
def test_a_record_that_cannot_be_used_is_no_other_way(disk, private, run, mine, other, remove, damage):
    record = record_of(disk, add(run, private, mine, "other", other)["protector"])
    if damage == "missing":
        record.unlink()
    elif damage == "untrusted":
        record.chmod(0o666)
    elif damage == "rubbish":
        record.write_text("rubbish\n")
    else:
        record.write_text(record.read_text().replace("ciphertext: ", "ciphertext: 00"))
    assert remove("mine", "--yes").rc == REFUSED
    assert opens(run, private, mine)


def test_a_damaged_protector_can_be_removed_by_its_id(disk, private, run, mine, other, remove):
    added = add(run, private, mine, "other", other)["protector"]
    record_of(disk, added).write_text("rubbish\n")
    answer = remove(added["id"]).json()
    assert answer["ok"] and not record_of(disk, added).exists()
    assert run.ok(["status", private, "--json"])["protectors"][0]["name"] == "mine"


def test_a_policy_that_cannot_be_read_may_need_it(disk, private, run, mine, create, other, remove):
    create("spare", other)
    (policy,) = (disk / RECORDS).rglob("policies/*.yaml")
    good = policy.read_text()
    policy.write_text("rubbish\n")
    result = remove("mine", "--yes")
    assert result.rc == CORRUPT and result.json()["error"]["code"] == "corrupt_metadata"
    policy.write_text(good)
    assert opens(run, private, mine)


def test_only_the_explicit_flag_permits_data_loss(disk, private, run, mine, remove, tty):
    terminal = tty(["protector", "remove", "mine", "--mount", disk, "--allow-data-loss"])
    terminal.expect(r"last way into .*private\? you cannot read these files again \[y/N\]")
    terminal.sendline("n")
    assert terminal.finish() == 1
    assert remove("mine", "--allow-data-loss").rc == USAGE  # a question that nobody can answer
    assert opens(run, private, mine)
    answer = remove("mine", "--allow-data-loss", "--yes").json()
    assert answer["removed_policies"] == [kernel.get_policy(private).key_identifier]
    assert list((disk / RECORDS).rglob("*.yaml")) == []


def test_a_policy_whose_directory_is_gone_is_an_ordinary_question(disk, private, run, remove, tty):
    shutil.rmtree(private)
    assert remove("mine").rc == USAGE
    terminal = tty(["protector", "remove", "mine", "--mount", disk])
    terminal.expect("there is no directory any more")
    terminal.sendline("y")
    assert terminal.finish() == 0
    assert list((disk / RECORDS).rglob("*.yaml")) == []


def test_copies_elsewhere_stay_and_are_named(disk, private, second_filesystem, set_up, run, mine,
                                             other, remove):
    set_up(second_filesystem)
    run.ok(["encrypt", second_filesystem / "d", "--create", "--protector", f"{disk}:mine",
            "--passphrase-file", mine])
    add(run, private, mine, "other", other)
    answer = remove("mine").json()
    assert answer["copies"] == [{"mountpoint": str(second_filesystem), "state": "kept"}]
    assert opens(run, second_filesystem / "d", mine)


# users

@pytest.fixture
def shared(filesystem, set_up, alice):
    set_up(filesystem, "--all-users")
    home = filesystem / "alice"
    home.mkdir(mode=0o755)
    os.chown(home, alice.uid, alice.gid)
    return filesystem


def test_an_ordinary_user_does_it_all_alone(shared, run, alice, bob, secrets):
    mine, other = secrets.file("m", b"correct horse\n", alice), secrets.file("o", b"battery staple\n", alice)
    run.ok(["protector", "create", shared, "--name", "mine", "--passphrase-file", mine], user=alice)
    directory = shared / "alice/private"
    run.ok(["encrypt", directory, "--create", "--protector", "mine", "--passphrase-file", mine], user=alice)
    assert run(["protector", "show", "mine", "--mount", shared], user=bob).rc == NOT_FOUND
    assert run.ok(["protector", "list", shared, "--json"], user=bob)["protectors"] == []
    assert run(["protector", "remove", "mine", "--mount", shared, "--yes"], user=alice).rc == REFUSED
    run.ok(["policy", "add-protector", directory, "--name", "other", "--passphrase-file", mine,
            "--new-passphrase-file", other], user=alice)
    run.ok(["protector", "rotate", "mine", "--mount", shared, "--passphrase-file", mine], user=alice)
    run.ok(["protector", "remove", "mine", "--mount", shared], user=alice)
    assert opens(run, directory, other, user=alice)
    shutil.rmtree(directory)
    run.ok(["protector", "remove", "other", "--mount", shared, "--yes"], user=alice)


def test_what_a_user_cannot_look_at_may_hold_her_directory(shared, run, alice, secrets):
    mine = secrets.file("m", b"correct horse\n", alice)
    directory = shared / "alice/private"
    run.ok(["encrypt", directory, "--create", "--name", "mine", "--passphrase-file", mine], user=alice)
    closed = shared / "closed"
    closed.mkdir(mode=0o700)
    os.rename(directory, closed / "private")
    result = run(["protector", "remove", "mine", "--mount", shared, "--yes", "--json"], user=alice)
    assert result.rc == REFUSED and result.json()["error"]["candidates"] == [str(closed)]
    assert "could not be looked at" in result.json()["error"]["message"]
    result = run(["protector", "remove", "mine", "--mount", shared, "--user", "alice", "--yes",
                  "--json"])
    assert result.json()["error"]["candidates"] == [str(closed / "private")]
    run.ok(["protector", "remove", "mine", "--mount", shared, "--yes", "--allow-data-loss"], user=alice)


def test_root_finds_the_one_user_who_has_it(shared, run, alice, bob, secrets):
    for user in (alice, bob):
        file = secrets.file(f"m{user.name}", b"correct horse\n", user)
        run.ok(["protector", "create", shared, "--name", f"of {user.name}", "--passphrase-file", file], user=user)
        run.ok(["protector", "create", shared, "--name", "same", "--passphrase-file", file], user=user)
    assert run.ok(["protector", "show", "of alice", "--mount", shared, "--json"])["protector"]["user"] == "alice"
    result = run(["protector", "show", "same", "--mount", shared, "--json"])
    assert result.rc == USAGE and result.json()["error"]["candidates"] == ["alice", "bob"]
    run.ok(["protector", "remove", "same", "--mount", shared, "--user", "bob"])
    assert run.ok(["protector", "show", "same", "--mount", shared, "--json"])["protector"]["user"] == "alice"
    assert run(["protector", "show", "same", "--mount", shared, "--user", "alice"], user=bob).rc == PERMISSION


def test_a_name_does_not_lead_root_to_somebody_elses_protector(disk, run, set_up, alice, mine,
                                                               passphrase_file, create):
    set_up(disk, "--all-users")
    hers = passphrase_file("her secret", name="hers", owner=alice)
    assert create("spare", hers, user=alice).rc == 0
    assert create("spare", mine).rc == 0
    run.ok(["protector", "remove", "spare", "--mount", disk])
    for command in (["remove", "spare"], ["rename", "spare", "other"]):
        result = run(["protector", *command, "--mount", disk, "--json"])
        assert result.rc == NOT_FOUND and result.json()["error"]["candidates"] == ["alice"]
    left = run.ok(["protector", "list", "--mount", disk, "--json"])["protectors"]
    assert [one["user"] for one in left] == ["alice"]
    run.ok(["protector", "remove", "spare", "--mount", disk, "--user", "alice"])


def test_no_name_looks_like_that_of_a_rotation(disk, run, create, mine):
    name = "mine (rotated from 0123456789abcdef)"
    assert create(name, mine).rc == USAGE
    assert create("mine", mine).rc == 0
    assert run(["protector", "rename", "mine", name, "--mount", disk]).rc == USAGE


def test_one_of_many_protectors_is_chosen_to_open_a_policy(disk, run, private, mine, passphrase_file):
    for number in range(6):
        new = passphrase_file(f"passphrase {number}", name=f"new{number}")
        run.ok(["policy", "add-protector", private, "--source", "passphrase", "--name", f"p{number}",
                "--passphrase-file", mine, "--new-passphrase-file", new])
    last, more = new, passphrase_file("one more", name="more")
    add = ["policy", "add-protector", private, "--source", "passphrase", "--name", "more",
           "--passphrase-file", last, "--new-passphrase-file", more]
    assert run(add).rc == USAGE
    run.ok([*add, "--open-with", "p5"])
    run.ok(["unlock", private, "--dry-run", "--protector", "more", "--passphrase-file", more])
