"""A disk that stops writing in the middle of a command, with errors or silently: when it works
again, whatever was encrypted opens with a passphrase that the user knows."""

import time

import pytest

import disks

LETTER = b"dear diary"
# When the disk fails, in parts of the time that the command takes on a healthy disk.
MOMENTS = (0, 0.3, 0.5, 0.65, 0.8)
SOME_MOMENTS = MOMENTS[1::2]
DEVICE = "/dev/dm-0"
DISK = "/dev/ubda"
NAME = "unreliable"
# Seconds up, seconds down, and what happens when down; long enough to outlast any test.
FAULTS = {"error_writes": "0 86400 1 error_writes", "drop_writes": "0 86400 1 drop_writes"}


class UnreliableDisk:
    """A device that passes everything on until it is told to fail."""

    def __init__(self, guest):
        self.guest = guest
        self.sectors = disks.SIZE_BYTES // 512
        guest.check("dmsetup", "create", "--noudevsync", NAME, "--table", self._healthy())

    def _healthy(self):
        return f"0 {self.sectors} linear {DISK} 0"

    def _load(self, table):
        self.guest.check("dmsetup", "load", NAME, "--table", table)

    def _switch(self, after_s):
        self.guest.call("switch_table", device=NAME, after_s=after_s)

    def prepare(self, fault):
        self._load(f"0 {self.sectors} flakey {DISK} 0 {FAULTS[fault]}")

    def fail(self, after_s):
        self._switch(after_s)

    def heal(self):
        self._load(self._healthy())
        self._switch(0)


@pytest.fixture(scope="module", params=["ext4", "f2fs"])
def machine_disks(request, folder):
    return {request.param: disks.MAKERS[request.param](folder / f"unreliable-{request.param}")}


@pytest.fixture(scope="module")
def unreliable(machine):
    return UnreliableDisk(machine)


@pytest.fixture(scope="module")
def volume(machine, unreliable, machine_disks, tool):
    disk, = machine_disks.values()
    mounted = disks.Volume(machine, DEVICE, disk)
    tool.set_up(mounted)
    return mounted


@pytest.fixture(params=FAULTS)
def fault(request):
    return request.param


@pytest.fixture
def old(tool):
    return tool.passphrase("old horse")


@pytest.fixture
def new(tool):
    return tool.passphrase("new horse")


@pytest.fixture
def interrupted(unreliable, volume, machine, tool, fault):
    """interrupted(after_s, command): its exit code on a disk that fails then and later recovers."""
    def run(after_s, *command):
        machine.check("sync")
        unreliable.prepare(fault)
        started = tool.start(*command)
        unreliable.fail(after_s)
        result = machine.finish(started)
        assert not result.timed_out, result
        volume.unmount()
        unreliable.heal()
        volume.mount()
        return result.code

    return run


def timed(function):
    begun = time.monotonic()
    function()
    return time.monotonic() - begun


def test_a_new_passphrase_or_the_old_one_opens(volume, old, new, fault, interrupted, fresh, machine,
                                               tool):
    path = volume / fresh
    tool.ok("encrypt", path, "--create", "--new-passphrase-file", old)
    machine.write(f"{path}/letter", LETTER)

    def change(from_, to):
        return ("change-passphrase", path, "--passphrase-file", from_, "--new-passphrase-file", to)

    tool.ok(*change(old, new))
    duration_s = timed(lambda: tool.ok(*change(new, old)))
    for moment in MOMENTS:
        code = interrupted(moment * duration_s, *change(old, new))
        opening = [file for file in (old, new) if tool.opens_with(path, "--passphrase-file", file)]
        assert opening, f"no passphrase opens any more; the command ended with {code}"
        if code == 0 and fault == "error_writes":
            assert new in opening
        tool.ok("unlock", path, "--passphrase-file", opening[0])
        assert machine.read(f"{path}/letter") == LETTER
        if opening == [new]:
            tool.ok(*change(new, old))


def test_what_is_encrypted_opens_and_the_rest_can_be_encrypted_again(
        volume, old, fault, interrupted, fresh, machine, tool):
    def encrypt(number):
        return "encrypt", volume / f"{fresh}-{number}", "--new-passphrase-file", old

    def make(number):
        machine.mkdir(volume / f"{fresh}-{number}")

    make("healthy")
    duration_s = timed(lambda: tool.ok(*encrypt("healthy")))
    for number, moment in enumerate(MOMENTS):
        make(number)
        path = volume / f"{fresh}-{number}"
        code = interrupted(moment * duration_s, *encrypt(number))
        if machine.kernel_policy(path) is None:
            assert code != 0 or fault == "drop_writes"
            tool.ok(*encrypt(number))
        else:
            tool.ok("unlock", path, "--passphrase-file", old)
        machine.write(f"{path}/letter", LETTER)


def test_a_conversion_goes_on(volume, strategy, old, fault, interrupted, fresh, machine, tool):
    def convert(path, *options):
        return "convert", path, "--new-passphrase-file", old, *strategy, *options

    machine.make_tree(volume / f"{fresh}-healthy", "small")
    duration_s = timed(lambda: tool.ok(*convert(volume / f"{fresh}-healthy")))
    for moment in SOME_MOMENTS:
        path = volume / f"{fresh}-{moment}"
        machine.make_tree(path, "small")
        before = machine.snapshot(path)
        code = interrupted(moment * duration_s, *convert(path))
        again = tool.run(*convert(path, "--passphrase-file", old))
        if again.code == 0:
            assert code != 0 or fault == "drop_writes"
        else:
            assert again.json["error"]["reason"] == "already_encrypted", again
            tool.ok("unlock", path, "--passphrase-file", old)
        assert machine.snapshot(path) == before
        assert machine.kernel_policy(path) is not None
