"""Every write that a command makes is the last one before a power cut, one after the other: the
disk as it was then is put together from what the device recorded, and has to open."""

import time

import pytest

import disks
from write_log import writes_between

LETTER = b"dear diary"
DATA, LOG, REPLAY = "/dev/ubda", "/dev/ubdb", "/dev/ubdc"
# No durable command does with fewer; then it would not have been recorded.
FEWEST_WRITES = 4
LOG_TIMEOUT_S = 10


class Recorder:
    """A file system on a device that records its writes, and a second disk to replay them on."""

    def __init__(self, guest, data, log, replayed):
        self.guest, self.disk, self.log, self.marks = guest, data, log.image, 0
        sectors = disks.SIZE_BYTES // 512
        guest.check("dmsetup", "create", "--noudevsync", "recorded", "--table",
                    f"0 {sectors} log-writes {DATA} {LOG}")
        self.volume = disks.Volume(guest, "/dev/dm-0", data)
        self.replay = disks.Volume(guest, REPLAY, replayed)
        self.replay.unmount()

    def _mark(self):
        self.marks += 1
        self.guest.check("dmsetup", "message", "recorded", "0", "mark", f"mark-{self.marks}")
        return f"mark-{self.marks}"

    def _writes_between(self, begin, end):
        """The device writes its log on its own time."""
        deadline = time.monotonic() + LOG_TIMEOUT_S
        while True:
            with self.log.open("rb") as log:
                writes = writes_between(log, begin, end)
            if writes is not None:
                return writes
            assert time.monotonic() < deadline, "the device does not write its log"
            time.sleep(0.05)

    def record(self, command):
        """The disk before the command, and the writes that were durable when it succeeded."""
        self.volume.remount()
        self.guest.check("sync")
        before = self.disk.image.with_suffix(".before")
        disks.copy(self.disk.image, before)
        begin = self._mark()
        command()
        return before, self._writes_between(begin, self._mark())

    def disks_after_each_write(self, before, writes):
        """Mounts the disk as it was after no write, the first one, the first two and so on; says
        whether that was the last one. What looks like an earlier one is passed over: the blocks of
        a journal change nothing until the last of them is there."""
        seen = set()
        for count in range(len(writes) + 1):
            self._put_together(before, writes[:count])
            self.replay.mount()
            complete = count == len(writes)
            state = self._state()
            if complete or state not in seen:
                seen.add(state)
                yield complete
            self.replay.unmount()

    def _put_together(self, before, writes):
        disks.copy(before, self.replay.disk.image)
        with self.replay.disk.image.open("r+b") as image:
            for write in writes:
                write.apply(image)

    def _state(self):
        """All that can matter to a command: the records, and which directories are there and
        encrypted."""
        records = self.guest.check("find", self.replay / ".fscryptctl", "-printf", "%P %m %U\n",
                                   "-type", "f", "-exec", "sha256sum", "{}", "+")
        names = self.guest.names(str(self.replay))
        policies = [self.guest.kernel_policy(self.replay / name) for name in names]
        return records, tuple(names), str(policies)

    def tidy_up(self):
        """After a test that failed on a replayed disk."""
        if self.replay.mounted:
            self.replay.unmount()


@pytest.fixture(scope="module", params=["ext4", "f2fs"])
def machine_disks(request, folder):
    make = disks.MAKERS[request.param]
    return {name: make(folder / f"{name}-{request.param}") for name in ("data", "log", "replay")}


@pytest.fixture(scope="module")
def recording_machine(machine, machine_disks, tool):
    made = Recorder(machine, *machine_disks.values())
    tool.set_up(made.volume)
    return made


@pytest.fixture
def recorder(recording_machine):
    yield recording_machine
    recording_machine.tidy_up()


@pytest.fixture
def old(tool):
    return tool.passphrase("old horse")


@pytest.fixture
def new(tool):
    return tool.passphrase("new horse")


def test_one_of_both_passphrases_opens_after_every_write(recorder, old, new, fresh, machine, tool):
    path, then = recorder.volume / fresh, recorder.replay / fresh
    tool.ok("encrypt", path, "--create", "--new-passphrase-file", old)
    machine.write(f"{path}/letter", LETTER)
    before, writes = recorder.record(lambda: tool.ok(
        "change-passphrase", path, "--passphrase-file", old, "--new-passphrase-file", new))
    assert len(writes) >= FEWEST_WRITES
    for complete in recorder.disks_after_each_write(before, writes):
        if not tool.opens_with(then, "--passphrase-file", new):
            assert not complete
            assert tool.opens_with(then, "--passphrase-file", old)
    tool.ok("unlock", path, "--passphrase-file", new)
    assert machine.read(f"{path}/letter") == LETTER


def test_a_directory_is_plain_or_opens_after_every_write(recorder, new, fresh, machine, tool):
    path, then = recorder.volume / fresh, recorder.replay / fresh
    before, writes = recorder.record(lambda: tool.ok(
        "encrypt", path, "--create", "--new-passphrase-file", new))
    assert len(writes) >= FEWEST_WRITES
    for complete in recorder.disks_after_each_write(before, writes):
        exists = fresh in machine.names(str(recorder.replay))
        encrypted = exists and machine.kernel_policy(then) is not None
        assert encrypted or not complete
        if encrypted:
            assert tool.opens_with(then, "--passphrase-file", new)
        elif exists:
            assert machine.names(then) == []
