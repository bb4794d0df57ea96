"""`policy`: list, show, add-protector, remove-protector and remove; and protectors on two disks."""

import os
import shutil

import pytest

import kernel
from interruptible import RECORDS

USAGE, WRONG_KEY, NOT_FOUND, CORRUPT, REFUSED = 2, 3, 4, 8, 9


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def disk2(second_filesystem, set_up):
    set_up(second_filesystem)
    return second_filesystem


@pytest.fixture
def mine(passphrase_file):
    return passphrase_file("correct horse", name="mine")


@pytest.fixture
def other(passphrase_file):
    return passphrase_file("battery staple", name="other")


@pytest.fixture
def private(disk, run, mine):
    run.ok(["encrypt", disk / "private", "--create", "--passphrase-file", mine, "--name", "mine"])
    (disk / "private/letter").write_text("dear diary")
    return disk / "private"


@pytest.fixture
def key(private):
    return kernel.get_policy(private).key_identifier


@pytest.fixture
def add(run):
    def make(policy, *options, **how):
        return run(["policy", "add-protector", policy, "--json", *options], **how)
    return make


@pytest.fixture
def take(run):
    def make(policy, protector, *options, **how):
        return run(["policy", "remove-protector", policy, "--protector", protector, "--json", *options], **how)
    return make


def new(name, existing, file):
    return ["--source", "passphrase", "--name", name, "--passphrase-file", existing,
            "--new-passphrase-file", file]


def opens(run, directory, file, option="--passphrase-file", **how):
    result = run(["unlock", directory, "--dry-run", option, file], **how)
    assert result.rc in (0, WRONG_KEY), result
    return result.rc == 0


def protectors(run, directory):
    return [one["name"] for one in run.ok(["status", directory, "--json"])["protectors"]]


# list and show

def test_list_and_show(disk, private, key, run):
    (listed,) = run.ok(["policy", "list", disk, "--json"])["policies"]
    assert listed["key_identifier"] == key and listed["user"] == "root"
    assert listed["paths"] == [{"path": str(private), "state": "ok"}]
    assert run.ok(["policy", "list", "--json"], cwd=disk)["policies"] == [listed]
    for name in (private, private / "letter", key):
        shown = run.ok(["policy", "show", name, "--json"], cwd=disk)
        assert {name: shown["policy"][name] for name in listed} == listed
        assert shown["policy"]["contents"] == "AES-256-XTS" and shown["policy"]["padding"] == 32
        assert [one["name"] for one in shown["protectors"]] == ["mine"]
    assert key in run.ok(["policy", "list", disk]).out
    text = run.ok(["policy", "show", private]).out
    assert key in text and 'passphrase "mine"' in text and str(private) in text


def test_a_damaged_policy_stands_beside_the_rest(disk, private, key, run, mine):
    run.ok(["encrypt", disk / "d", "--create", "--protector", "mine", "--passphrase-file", mine])
    (disk / RECORDS / f"0/policies/{key}.yaml").write_text("rubbish\n")
    result = run(["policy", "list", disk, "--json"])
    assert result.rc == CORRUPT and len(result.json()["policies"]) == len(result.json()["damaged"]) == 1
    assert run(["policy", "show", key, "--json"], cwd=disk).rc == CORRUPT


@pytest.mark.parametrize("name", ["0" * 32, "nowhere", "."])
def test_what_is_not_there(disk, private, run, mine, name):
    for words in (["show", name], ["add-protector", name, "--protector", "mine", "--passphrase-file", mine],
                  ["remove-protector", name, "--protector", "mine"]):
        assert run(["policy", *words, "--json"], cwd=disk).rc == NOT_FOUND
    assert run(["policy", "remove", "0" * 32, "--json"], cwd=disk).rc == NOT_FOUND
    assert run(["policy", "remove", private], cwd=disk).rc == USAGE


# add-protector

def test_a_new_protector_is_one_more_way(disk, private, key, run, add, mine, other):
    answer = add(private, *new("other", mine, other)).json()
    assert answer["changed"] and answer["key_identifier"] == key
    assert answer["protector"]["name"] == "other" and answer["protector"]["opens"] == [key]
    assert protectors(run, private) == ["mine", "other"]
    assert opens(run, private, mine) and opens(run, private, other)
    again = add(private, *new("other", mine, other)).json()
    assert again["ok"] and again["changed"] is False
    assert protectors(run, private) == ["mine", "other"]


def test_a_wrong_secret_adds_nothing(disk, private, run, add, mine, other):
    before = {file: file.read_bytes() for file in (disk / RECORDS).rglob("*.yaml")}
    assert add(private, *new("other", other, other)).rc == WRONG_KEY
    assert {file: file.read_bytes() for file in (disk / RECORDS).rglob("*.yaml")} == before


def test_both_secrets_from_standard_input_existing_first(private, run, add, mine, other):
    options = ["--name", "other", "--passphrase-file", "-", "--new-passphrase-file", "-"]
    assert add(private, *options, stdin=b"correct horse\nbattery staple\n").rc == 0
    assert opens(run, private, other)


def test_a_key_file_and_a_policy_by_its_key(disk, private, key, run, add, mine, key_file):
    file = key_file()
    answer = add(key, "--mount", disk, "--source", "raw-key", "--passphrase-file", mine, "--new-key-file", file)
    assert answer.json()["protector"]["source"] == "raw-key"
    assert opens(run, private, file, "--key-file")


def test_an_existing_protector_whose_secret_is_another_one(disk, private, run, add, mine, other):
    run.ok(["protector", "create", disk, "--name", "other", "--passphrase-file", other])
    assert add(private, "--protector", "other", "--passphrase-file", mine).rc == WRONG_KEY
    assert add(private, "--protector", "other", "--passphrase-file", mine,
               "--new-passphrase-file", mine).rc == WRONG_KEY
    assert protectors(run, private) == ["mine"]
    answer = add(private, "--protector", "other", "--passphrase-file", "-", "--new-passphrase-file", "-",
                 stdin=b"correct horse\nbattery staple\n").json()
    assert answer["ok"] and answer["made"] is answer["copied"] is False
    assert opens(run, private, other)
    assert add(private, "--protector", "other", "--passphrase-file", other).json()["changed"] is False


def test_on_a_terminal(disk, private, run, tty, mine, other):
    terminal = tty(["policy", "add-protector", private, "--source", "passphrase", "--name", "other"])
    terminal.answer("passphrase for .*private", "correct horse")
    terminal.answer("new passphrase for protector other", "battery staple")
    terminal.answer("again", "battery staple")
    assert terminal.finish() == 0
    assert opens(run, private, other)
    run.ok(["protector", "create", disk, "--name", "third", "--passphrase-file", mine])
    terminal = tty(["policy", "add-protector", private, "--protector", "third"])
    terminal.answer("passphrase for .*private", "battery staple")
    terminal.answer("passphrase for protector third", "correct horse")
    assert terminal.finish() == 0
    assert protectors(run, private) == ["mine", "other", "third"]


def test_mistakes_of_add(disk, private, run, add, mine, other, key_file):
    for options in ([], ["--protector", "mine", "--name", "x"], ["--source", "tpm2"],
                    ["--source", "raw-key", "--new-passphrase-file", other],
                    ["--name", "login", "--new-passphrase-file", other],
                    ["--name", "mine", "--new-passphrase-file", other],
                    ["--name", "x"]):
        assert add(private, "--passphrase-file", mine, *options).rc == USAGE, options
    assert add(private, "--passphrase-file", mine, "--protector", "nobody").rc == NOT_FOUND
    assert protectors(run, private) == ["mine"]
    assert len(list((disk / RECORDS).rglob("protectors/*"))) == 1


def test_sixteen_protectors_and_no_more(disk, private, run, add, mine, key_file):
    files = [key_file(name=f"key{number}") for number in range(16)]
    for number, file in enumerate(files[:15]):
        assert add(private, "--name", f"key {number}", "--passphrase-file", mine, "--new-key-file", file).rc == 0
    result = add(private, "--name", "too many", "--passphrase-file", mine, "--new-key-file", files[15])
    assert result.rc == USAGE and "16 protectors" in result.json()["error"]["message"]
    run.ok(["protector", "create", disk, "--name", "too many", "--key-file", files[15]])
    assert add(private, "--protector", "too many", "--passphrase-file", mine, "--new-key-file", files[15]).rc == USAGE
    assert len(protectors(run, private)) == 16
    assert opens(run, private, files[14], "--key-file")
    # Rotating a full policy replaces in place.
    run.ok(["protector", "rotate", "mine", "--passphrase-file", mine], cwd=disk)
    assert len(protectors(run, private)) == 16 and opens(run, private, mine)


def test_a_wrapping_that_somebody_changed_is_replaced(disk, private, key, run, add, mine, other):
    add(private, *new("other", mine, other))
    record = disk / RECORDS / f"0/policies/{key}.yaml"
    lines = record.read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if "mac:" in line)
    lines[last] = lines[last][:-64] + "0" * 64
    record.write_text("\n".join(lines) + "\n")
    assert run(["unlock", private, "--dry-run", "--passphrase-file", other]).rc == CORRUPT
    assert add(private, "--protector", "other", "--passphrase-file", mine,
               "--new-passphrase-file", other).json()["changed"]
    assert opens(run, private, other) and opens(run, private, mine)


# remove-protector

def test_a_protector_taken_from_a_policy_stays_itself(disk, private, key, run, add, take, mine, other):
    add(private, *new("other", mine, other))
    answer = take(private, "mine").json()
    assert answer["ok"] and answer["changed"] and answer["opens_others"] is False
    assert opens(run, private, other) and not opens(run, private, mine)
    run.ok(["protector", "verify", "mine", "--passphrase-file", mine], cwd=disk)
    assert take(private, "mine").rc == NOT_FOUND


def test_a_protector_is_looked_up_where_it_is_said(disk, disk2, private, both, run, add, take, mine, other):
    add(both, *new("other", mine, other))
    run.ok(["protector", "rename", "mine", "renamed", "--mount", disk2])
    assert take(both, "mine").rc == NOT_FOUND
    assert take(both, "mine", "--mount", disk).rc == 0
    assert protectors(run, both) == ["other"]


def test_what_it_says_about_who_knew_the_secret(private, run, add, mine, other):
    add(private, *new("other", mine, other))
    result = run.ok(["policy", "remove-protector", private, "--protector", "mine"])
    assert "may have kept the key" in result.err and "reencrypt" in result.err


@pytest.mark.parametrize("options", [[], ["--yes"]], ids=["plain", "yes"])
@pytest.mark.parametrize("by_key", [False, True], ids=["path", "key"])
def test_the_last_way_is_refused(disk, private, key, run, take, mine, options, by_key):
    result = take(key if by_key else private, "mine", *options, cwd=disk)
    error = result.json()["error"]
    assert result.rc == REFUSED and error["reason"] == "last_way"
    assert error["candidates"] == [str(private)] and error["message"] == f'"mine" is the last way into {private}'
    assert opens(run, private, mine)


def test_the_last_way_goes_only_with_its_own_flag(disk, private, key, run, take, mine):
    assert take(private, "mine", "--allow-data-loss").rc == USAGE
    assert opens(run, private, mine)
    assert take(private, "mine", "--allow-data-loss", "--yes").json()["policy_removed"] is True
    assert run.ok(["status", private, "--json"])["managed"] is False


def test_a_protector_whose_record_is_missing_is_taken_by_its_id(disk, private, run, add, take, mine, other):
    added = add(private, *new("other", mine, other)).json()["protector"]["id"]
    (disk / RECORDS / f"0/protectors/{added}.yaml").unlink()
    assert take(private, "mine", "--yes").rc == REFUSED
    assert take(private, added).rc == 0
    assert protectors(run, private) == ["mine"] and opens(run, private, mine)


# remove

def test_a_policy_with_a_directory_anywhere_stays(disk, private, key, run, mine):
    remove = ["policy", "remove", key, "--mount", disk, "--yes", "--json"]
    result = run(remove)
    assert result.rc == REFUSED and result.json()["error"]["candidates"] == [str(private)]
    (disk / "a").mkdir()
    os.rename(private, disk / "a/b")
    result = run(remove)
    assert result.rc == REFUSED and result.json()["error"]["candidates"] == [str(disk / "a/b")]
    assert opens(run, disk / "a/b", mine)
    shutil.rmtree(disk / "a")
    assert run(remove[:-2] + ["--json"]).rc == USAGE  # a question
    assert run.ok(remove)["changed"] is True
    assert [one["name"] for one in run.ok(["protector", "list", disk, "--json"])["protectors"]] == ["mine"]
    assert run(remove).rc == NOT_FOUND


def test_a_policy_goes_with_its_directory_only_if_that_is_said(disk, private, key, run):
    assert run(["policy", "remove", key, "--mount", disk, "--allow-data-loss", "--json"]).rc == USAGE
    run.ok(["policy", "remove", key, "--mount", disk, "--allow-data-loss", "--yes"])
    assert run.ok(["status", private, "--json"])["managed"] is False


def test_a_damaged_policy_goes_when_its_directory_is_gone(disk, private, key, run):
    (disk / RECORDS / f"0/policies/{key}.yaml").write_text("rubbish\n")
    remove = ["policy", "remove", key, "--mount", disk, "--yes"]
    assert run(remove).rc == REFUSED
    shutil.rmtree(private)
    run.ok(remove)
    assert not list((disk / RECORDS).rglob("policies/*"))


# two disks

@pytest.fixture
def both(disk, disk2, private, run, mine):
    run.ok(["encrypt", disk2 / "d", "--create", "--protector", f"{disk}:mine", "--passphrase-file", mine])
    return disk2 / "d"


def change(run, existing, file, *more):
    return run.ok(["change-passphrase", "--passphrase-file", existing, "--new-passphrase-file", file, "--json", *more])


def test_a_protector_of_another_disk_is_copied(disk, disk2, private, run, add, mine, other):
    run.ok(["encrypt", disk2 / "d", "--create", "--passphrase-file", other])
    answer = add(disk2 / "d", "--protector", f"{disk}:mine", "--passphrase-file", other,
                 "--new-passphrase-file", mine).json()
    assert answer["copied"] is True and answer["protector"]["mountpoint"] == str(disk2)
    disk.unmount()
    assert opens(run, disk2 / "d", mine) and opens(run, disk2 / "d", other)
    disk.mount()
    assert add(disk2 / "d", "--protector", "mine", "--mount", disk, "--passphrase-file", mine).json()["ok"]
    assert add(disk2 / "d", "--protector", f"{disk}:mine", "--passphrase-file", mine).json()["changed"] is False


def test_a_name_that_is_taken_on_the_other_disk(disk, disk2, private, run, add, mine, other):
    run.ok(["encrypt", disk2 / "d", "--create", "--passphrase-file", other, "--name", "mine"])
    add(disk2 / "d", "--protector", f"{disk}:mine", "--passphrase-file", other, "--new-passphrase-file", mine)
    assert protectors(run, disk2 / "d") == ["mine", "mine-2"]


def test_a_copy_left_behind_is_never_relied_on_and_heals(disk, disk2, private, both, run, add, mine, other):
    disk2.unmount()
    change(run, mine, other, private)
    disk2.mount()
    # It is not overwritten, and nothing new is tied to it behind the user's back.
    for words in (["encrypt", disk2 / "new", "--create", "--protector", f"{disk}:mine", "--passphrase-file", other],
                  ["policy", "add-protector", both, "--protector", f"{disk}:mine",
                   "--passphrase-file", mine, "--new-passphrase-file", other]):
        result = run([*words, "--json"])
        if words[0] == "policy":
            # The previous passphrase was given too, and opens the copy: nothing to add.
            assert result.rc in (0, WRONG_KEY) and not result.json()["changed"]
        else:
            error = result.json()["error"]
            assert result.rc == WRONG_KEY and error["reason"] == "stale_copy", result
            assert "change-passphrase --protector" in error["hint"] and str(disk2) in error["hint"]
    assert not (disk2 / "new").exists()
    assert opens(run, both, mine) and not opens(run, both, other)
    # What is written where only the newer one is known leaves it and says so.
    result = run(["change-passphrase", private, "--passphrase-file", other, "--new-passphrase-file", other])
    assert result.rc == 0 and f"the copy on {disk2} still opens with a previous passphrase" in result.err
    assert "change-passphrase --protector" in result.err and opens(run, both, mine)
    # The previous passphrase heals it, and both disks have the same wrapping again.
    answer = change(run, mine, other, "--protector", "mine", "--mount", disk2)
    assert {copy["state"] for copy in answer["copies"]} == {"written"}
    assert opens(run, both, other) and opens(run, private, other) and not opens(run, both, mine)
    texts = [next((mount / RECORDS / "0/protectors").iterdir()).read_text().split("---\n")[-1]
             for mount in (disk, disk2)]
    assert texts[0] == texts[1]
    run.ok(["encrypt", disk2 / "new", "--create", "--protector", f"{disk}:mine", "--passphrase-file", other])
    assert opens(run, disk2 / "new", other)


def test_healing_ends_above_every_generation(disk, disk2, private, both, run, mine, other, passphrase_file):
    disk2.unmount()
    change(run, mine, other, private)
    for _ in range(3):
        change(run, other, other, private)
    disk2.mount()
    change(run, mine, other, "--protector", "mine", "--mount", disk2)
    for mount in (disk, disk2):
        (record,) = (mount / RECORDS / "0/protectors").iterdir()
        assert "generation: 6" in record.read_text()


# moved directories

def test_unlock_notes_where_a_moved_directory_is(disk, private, run, mine):
    moved = disk / "a/b"
    moved.parent.mkdir()
    run.ok(["lock", private])
    os.rename(private, moved)
    states = [one["missing"] for one in run.ok(["list", "--json"])["directories"] if str(disk) in one["path"]]
    assert states == [True]
    run.ok(["unlock", moved, "--dry-run", "--passphrase-file", mine])
    assert run.ok(["policy", "list", disk, "--json"])["policies"][0]["paths"][0]["state"] == "missing"
    run.ok(["unlock", moved, "--passphrase-file", mine])
    assert run.ok(["policy", "list", disk, "--json"])["policies"][0]["paths"] == [{"path": str(moved), "state": "ok"}]


def test_of_a_path_below_it_the_directory_itself_is_noted(disk, private, run, mine):
    (private / "sub").mkdir()
    os.rename(private, disk / "moved")
    run.ok(["lock", disk / "moved"])
    (locked_name,) = [entry for entry in (disk / "moved").iterdir() if entry.is_dir()]
    run.ok(["unlock", locked_name, "--passphrase-file", mine])
    assert run.ok(["policy", "list", disk, "--json"])["policies"][0]["paths"] == [
        {"path": str(disk / "moved"), "state": "ok"}]


def test_noting_it_never_fails_or_delays_an_unlock(disk, private, run, mine, background):
    run.ok(["lock", private])
    os.rename(private, disk / "moved")
    holder = background(["flock", "-o", disk / RECORDS / "0", "sh", "-c", "echo held; sleep 30"])
    assert holder.stdout.readline() == "held\n"
    run.ok(["unlock", disk / "moved", "--passphrase-file", mine], timeout=5)
    run.ok(["lock", disk / "moved"])
    holder.kill()
    holder.wait()
    disk.unmount()
    disk.mount("ro")
    run.ok(["unlock", disk / "moved", "--passphrase-file", mine])
    assert (disk / "moved/letter").read_text() == "dear diary"
    run.ok(["lock", disk / "moved"])


def test_two_directories_of_one_policy_stay_both_noted(disk, private, run, mine):
    run.ok(["encrypt", disk / "second", "--create", "--policy", private, "--passphrase-file", mine])
    run.ok(["lock", private])
    record = next((disk / RECORDS / "0/policies").iterdir())
    before = record.read_bytes()
    run.ok(["unlock", private, "--passphrase-file", mine])
    assert record.read_bytes() == before
