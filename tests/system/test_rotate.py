"""`protector rotate`: a new key in everything that the protector opens, and nobody locked out,
wherever it is cut off."""

import signal

import pytest

import kernel
from faults import CHANGING, READING, FaultInjector, check_each, sample
from interruptible import DOCUMENTED, RECORDS, leftovers

USAGE, WRONG_KEY, NOT_FOUND, CORRUPT = 2, 3, 4, 8


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
def disk2(private, second_filesystem, set_up, run, disk, mine):
    set_up(second_filesystem)
    run.ok(["encrypt", second_filesystem / "d", "--create", "--protector", f"{disk}:mine",
            "--passphrase-file", mine])
    return second_filesystem


@pytest.fixture
def rotate(run, disk, mine):
    return lambda *more, **how: run(["protector", "rotate", "mine", "--mount", disk, "--passphrase-file", mine,
                                     "--json", *more], **how)


def opens(run, directory, file):
    result = run(["unlock", directory, "--dry-run", "--passphrase-file", file])
    assert result.rc in (0, WRONG_KEY), result
    return result.rc == 0


def protectors(run, disk):
    return {one["name"]: one["id"] for one in run.ok(["protector", "list", disk, "--json"])["protectors"]}


def test_all_policies_get_a_new_key_and_the_secret_stays(disk, private, run, rotate, mine, other):
    run.ok(["encrypt", disk / "d", "--create", "--protector", "mine", "--passphrase-file", mine])
    run.ok(["policy", "add-protector", private, "--name", "other", "--passphrase-file", mine,
            "--new-passphrase-file", other])
    before, policy = protectors(run, disk), kernel.get_policy(private)
    answer = rotate().json()
    after = protectors(run, disk)
    assert answer["ok"] and answer["changed"] and set(after) == set(before)
    assert answer["previous_id"] == before["mine"] and answer["protector"]["id"] == after["mine"]
    assert after["mine"] != before["mine"] and after["other"] == before["other"]
    assert sorted(answer["policies"]) == sorted(answer["protector"]["opens"]) and len(answer["policies"]) == 2
    assert answer["copies"] == [{"mountpoint": str(disk), "state": "written"}]
    assert answer["recovery_key_lost"] is False and answer["finished_earlier"] is False
    assert kernel.get_policy(private) == policy
    for directory in (private, disk / "d"):
        assert opens(run, directory, mine)
    assert opens(run, private, other)
    assert before["mine"] not in "".join(file.read_text() for file in (disk / RECORDS).rglob("*.yaml"))
    assert rotate().json()["previous_id"] == after["mine"]


def test_a_wrong_secret_rotates_nothing(disk, private, run, other):
    before = {file: file.read_bytes() for file in (disk / RECORDS).rglob("*.yaml")}
    assert run(["protector", "rotate", "mine", "--mount", disk, "--passphrase-file", other]).rc == WRONG_KEY
    assert {file: file.read_bytes() for file in (disk / RECORDS).rglob("*.yaml")} == before


def test_a_raw_key(disk, run, key_file):
    key = key_file()
    run.ok(["encrypt", disk / "d", "--create", "--key-file", key])
    before = protectors(run, disk)
    run.ok(["protector", "rotate", "d", "--mount", disk, "--key-file", key])
    assert protectors(run, disk)["d"] != before["d"]
    run.ok(["unlock", disk / "d", "--dry-run", "--key-file", key])


def test_every_disk_that_is_there(disk, private, disk2, run, rotate, mine):
    before = protectors(run, disk)
    answer = rotate().json()
    assert [copy["state"] for copy in answer["copies"]] == ["written", "written"]
    assert protectors(run, disk) == protectors(run, disk2) != before
    assert opens(run, private, mine) and opens(run, disk2 / "d", mine)


def test_a_disk_that_is_not_there_keeps_the_old_one(disk, private, disk2, run, rotate, mine):
    before = protectors(run, disk)
    disk2.unmount()
    result = run.ok(["protector", "rotate", "mine", "--mount", disk, "--passphrase-file", mine])
    assert "not mounted now" in result.err
    disk2.mount()
    assert protectors(run, disk2) == before and protectors(run, disk) != before
    assert opens(run, disk2 / "d", mine) and opens(run, private, mine)
    run.ok(["protector", "rotate", f"{disk2}:mine", "--passphrase-file", mine])
    assert opens(run, disk2 / "d", mine) and opens(run, private, mine)


def test_a_disk_that_cannot_be_written_is_stale_and_finished_later(disk, private, disk2, run, rotate, mine):
    disk2.unmount()
    disk2.mount("ro")
    answer = rotate().json()
    assert [copy["state"] for copy in answer["copies"]] == ["written", "stale"]
    assert opens(run, disk2 / "d", mine) and opens(run, private, mine)
    assert protectors(run, disk2)["mine"] == answer["previous_id"]


def test_a_copy_with_a_previous_passphrase_gets_the_proven_one(disk, private, disk2, run, rotate, mine, other):
    """The policies there open with the protector key in hand: that proves it is the same protector."""
    disk2.unmount()
    run.ok(["change-passphrase", private, "--passphrase-file", mine, "--new-passphrase-file", other])
    disk2.mount()
    answer = run.ok(["protector", "rotate", "mine", "--mount", disk, "--passphrase-file", other, "--json"])
    assert [copy["state"] for copy in answer["copies"]] == ["written", "written"]
    assert opens(run, disk2 / "d", other) and not opens(run, disk2 / "d", mine)


def test_a_policy_that_cannot_be_read_stops_it_before_anything_changes(disk, private, run, rotate, mine):
    run.ok(["encrypt", disk / "d", "--create", "--protector", "mine", "--passphrase-file", mine])
    key = kernel.get_policy(disk / "d").key_identifier
    record = disk / RECORDS / f"0/policies/{key}.yaml"
    mac = next(line for line in record.read_text().splitlines() if "mac: " in line)
    changed = record.read_text().replace(mac, mac[:-64] + "0" * 64)
    for bad in ("rubbish\n", record.read_text().replace("mac: ", "mac: 0"), changed):
        good = record.read_text()
        before = protectors(run, disk)
        record.write_text(bad)
        assert rotate().rc == CORRUPT
        assert opens(run, private, mine)
        record.write_text(good)
        assert protectors(run, disk) == before
    assert opens(run, disk / "d", mine)


def test_a_copy_of_another_protector_that_bears_the_mark_is_not_taken_up(disk, private, disk2, run, rotate, mine):
    """Names are not authenticated: a hostile disk could call any record the half-done rotation."""
    other = run.ok(["protector", "create", disk2, "--name", "planted", "--passphrase-file", mine, "--json"])["protector"]
    old = protectors(run, disk)["mine"]
    run.ok(["protector", "rename", "planted", f"mine (rotated from {old})", "--mount", disk2])
    answer = rotate().json()
    assert answer["protector"]["id"] != other["id"]
    assert opens(run, private, mine) and opens(run, disk2 / "d", mine)


def test_a_mark_on_a_hostile_disk_removes_nothing_and_stops_nothing(disk, private, disk2, run, rotate, mine, other):
    for name, file in (("same secret", mine), ("other secret", other)):
        spare = run.ok(["protector", "create", disk, "--name", name, "--passphrase-file", file,
                        "--json"])["protector"]["id"]
        before = protectors(run, disk)
        run.ok(["protector", "rename", before["mine"], f"mine (rotated from {spare})", "--mount", disk2])
        answer = rotate().json()
        assert answer["previous_id"] == before["mine"] and answer["finished_earlier"] is False
        after = protectors(run, disk)
        assert after == {**before, "mine": answer["protector"]["id"]}
        assert opens(run, private, mine) and opens(run, disk2 / "d", mine)


# cut off

class Rotation:
    """To be tried again and again: two directories here, one on another disk."""

    def __init__(self, run, disks, directories, file):
        self._run, self._disks, self._directories, self._file = run, disks, directories, file
        self.args = ["protector", "rotate", "mine", "--mount", disks[0], "--passphrase-file", file]

    def assert_nothing_lost(self):
        for directory in self._directories:
            assert opens(self._run, directory, self._file), directory

    def finish(self, together):
        """`together`: no disk was left behind as one that cannot be written."""
        result = self._run(self.args)
        assert result.rc == 0, result
        self.assert_nothing_lost()
        found = [protectors(self._run, disk) for disk in self._disks]
        assert all(set(names) == {"mine"} for names in found), found
        assert len({names["mine"] for names in found}) == 1 or not together, found
        for disk in self._disks:
            assert leftovers(disk) == []


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


@pytest.fixture
def rotation(disk, private, disk2, run, mine):
    run.ok(["encrypt", disk / "more", "--create", "--protector", "mine", "--passphrase-file", mine])
    return Rotation(run, [disk, disk2], [private, disk / "more", disk2 / "d"], mine)


def check_every_end(injector, command, names, fault, ends, most=40):
    calls = sample(injector.calls(command.args, names), most)

    def check(call):
        result = injector.run(command.args, call, fault)
        assert result.rc in ends, result
        command.assert_nothing_lost()
        command.finish(together="error" not in fault)

    check_each(calls, check)


def test_it_can_be_killed_at_any_moment(injector, rotation):
    check_every_end(injector, rotation, CHANGING, "signal=KILL", {-signal.SIGKILL})


def test_it_can_be_stopped_at_any_moment(injector, rotation):
    check_every_end(injector, rotation, CHANGING, "signal=TERM", {0, 143}, most=6)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_it_survives_an_error_of_any_call(injector, rotation, error):
    names = CHANGING + READING if error == "EIO" else ("write", "fsync", "renameat", "openat")
    check_every_end(injector, rotation, names, f"error={error}", DOCUMENTED, most=6)
