"""A user's quota runs out in the middle of a command: nothing is left half done, and more space is
all that it takes to go on."""

import csv

import pytest

USER = 4242
LETTER = b"dearest "
# The unit of each kind of limit: what the smallest thing on disk costs.
UNITS = {"blocks": 4, "inodes": 1}
MOST_NEEDED = 24
# How many files, and how many letters in each; what the quota leaves is too little for a copy of
# them, and enough for --low-space.
FILES = {"blocks": (1, 1 << 20), "inodes": (40, 1)}
SPARE = {"blocks": 6 << 10, "inodes": 20}


class Quota:
    """The user's quota on one file system; blocks are counted in KiB."""

    def __init__(self, machine, volume):
        self.machine, self.volume = machine, volume

    def used(self, kind):
        report = self.machine.check("repquota", "-u", "-n", "-p", "-O", "csv", self.volume)
        columns = {"blocks": "BlockUsed", "inodes": "FileUsed"}
        return next(int(row[columns[kind]]) for row in csv.DictReader(report.split("\n"))
                    if row["User"] == f"#{USER}")

    def allow(self, kind, limit):
        """0 would mean no limit."""
        blocks, inodes = {"blocks": (max(limit, 1), 0), "inodes": (0, max(limit, 1))}[kind]
        self._set(blocks, inodes)

    def allow_everything(self):
        self._set(0, 0)

    def _set(self, blocks, inodes):
        self.machine.check("setquota", "-u", USER, 0, blocks, 0, inodes, self.volume)


@pytest.fixture(scope="module")
def homes(volumes, tool, machine):
    """Per file system a directory of the user, who has already encrypted something there."""
    made = {}
    for kind, volume in volumes.items():
        tool.set_up(volume, "--user", USER)
        made[kind] = volume / "home"
        machine.mkdir(made[kind], user=USER)
        tool.ok("encrypt", f"{made[kind]}/first", "--create", "--new-passphrase-file",
                tool.passphrase("the first", USER), user=USER)
    return made


@pytest.fixture
def quota(volume, homes, machine):
    limited = Quota(machine, volume)
    yield limited
    limited.allow_everything()


@pytest.fixture
def passphrase(tool):
    return tool.passphrase("correct horse battery", USER)


def claims(machine):
    """How many keys the kernel holds for the user."""
    for line in machine.read("/proc/key-users").decode().splitlines():
        uid, numbers = line.split(":")
        if int(uid) == USER:
            return int(numbers.split()[2].partition("/")[0])
    return 0


def sweep(quota, kind, attempt):
    """Allows one unit more at a time until the attempt succeeds; returns how often it did not."""
    used = quota.used(kind)
    for spare in range(MOST_NEEDED):
        quota.allow(kind, used + spare * UNITS[kind])
        if attempt():
            return spare
    return pytest.fail(f"{MOST_NEEDED} {kind} are not enough")


def assert_no_space(result):
    assert result.code == 1, result
    error = result.json["error"]
    assert (error["code"], error["reason"]) == ("failure", "no_space"), result


# f2fs keeps a small file inside its inode and so needs no block for a record.
@pytest.mark.parametrize("volume, kind", [("ext4", "blocks"), ("ext4", "inodes"),
                                          ("f2fs", "inodes")], indirect=["volume"])
def test_encrypt_is_all_or_nothing_at_every_limit(volume, kind, quota, passphrase, fresh, machine,
                                                  tool):
    path = volume / f"home/{fresh}"
    machine.mkdir(path, user=USER)

    def state():
        return (machine.kernel_policy(path), machine.names(path), claims(machine),
                machine.tree(volume / ".fscryptctl"), machine.names(volume / "home"))

    untouched = state()

    def attempt():
        result = tool.run("encrypt", path, "--new-passphrase-file", passphrase, user=USER)
        if result.code == 0:
            return True
        assert_no_space(result)
        assert state() == untouched
        return False

    assert sweep(quota, kind, attempt) >= 2, "the limit never bit"
    assert machine.kernel_policy(path)["version"] == 2
    quota.allow_everything()
    tool.ok("lock", path, user=USER)
    tool.ok("unlock", path, "--passphrase-file", passphrase, user=USER)


@pytest.mark.parametrize("volume, kind", [("ext4", "blocks"), ("f2fs", "inodes")],
                         indirect=["volume"])
def test_a_passphrase_is_changed_or_kept_at_every_limit(volume, kind, quota, passphrase, fresh,
                                                        machine, tool):
    path = volume / f"home/{fresh}"
    tool.ok("encrypt", path, "--create", "--new-passphrase-file", passphrase, user=USER)
    new = tool.passphrase("new horse", USER)
    records = machine.tree(volume / ".fscryptctl")

    def attempt():
        result = tool.run("change-passphrase", path, "--passphrase-file", passphrase,
                          "--new-passphrase-file", new, user=USER)
        if result.code == 0:
            return True
        assert_no_space(result)
        assert tool.opens_with(path, "--passphrase-file", passphrase, user=USER)
        assert machine.tree(volume / ".fscryptctl") == records
        return False

    assert sweep(quota, kind, attempt) >= 1, "the limit never bit"
    assert tool.opens_with(path, "--passphrase-file", new, user=USER)
    assert not tool.opens_with(path, "--passphrase-file", passphrase, user=USER)


@pytest.mark.parametrize("kind", UNITS)
def test_what_the_quota_has_no_room_for_is_not_begun_and_is_moved(volume, kind, quota, passphrase,
                                                                  fresh, machine, tool):
    path = volume / f"home/{fresh}"
    machine.mkdir(path, user=USER)
    files, letters = FILES[kind]
    for number in range(files):
        machine.write(f"{path}/{number}", LETTER, repeat=letters, user=USER)
    before = machine.snapshot(path)
    everything = machine.tree(str(volume))
    quota.allow(kind, quota.used(kind) + SPARE[kind])
    convert = ("convert", path, "--new-passphrase-file", passphrase)
    refused = tool.run(*convert, user=USER)
    assert_no_space(refused)
    assert kind == "inodes" or refused.json["bytes_free"] <= SPARE[kind] << 10
    assert machine.kernel_policy(path) is None
    assert machine.tree(str(volume)) == everything
    tool.ok(*convert, "--low-space", user=USER)
    assert machine.kernel_policy(path) is not None
    assert machine.snapshot(path) == before
