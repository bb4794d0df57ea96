"""Every write that a command makes is the last one before a power cut, one after the other: the
disk as it was then is put together from what the device recorded, and has to open."""

import contextlib
import time

import pytest

import disks
import trees
from write_log import writes_between

LETTER = b"dear diary"
DATA, LOG, REPLAY = "/dev/ubda", "/dev/ubdb", "/dev/ubdc"
# No durable command does with fewer; then it would not have been recorded.
FEWEST_WRITES = 4
LOG_TIMEOUT_S = 10
# A conversion makes some hundred writes, and going on takes a second.
CUTS_OF_A_CONVERSION = 10


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
            with self._mounted(before, writes[:count]):
                complete = count == len(writes)
                state = self._state()
                if complete or state not in seen:
                    seen.add(state)
                    yield complete

    def disks_after_some_writes(self, before, writes, most):
        """The same, but only so many of them, evenly spread, whatever they look like."""
        for number in range(most):
            count = len(writes) * number // (most - 1)
            with self._mounted(before, writes[:count]):
                yield count == len(writes)

    @contextlib.contextmanager
    def _mounted(self, before, writes):
        disks.copy(before, self.replay.disk.image)
        with self.replay.disk.image.open("r+b") as image:
            for write in writes:
                write.apply(image)
        self.replay.mount()
        yield
        self.replay.unmount()

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


def assert_same(before, after):
    assert after == before, trees.differences(before, after)


def whole(snapshot):
    """What has to be there at any time: a FIFO may have a second name in the copy already."""
    return {name: {key: value for key, value in entry.items() if key != "links"}
            if isinstance(entry, dict) else entry for name, entry in snapshot.items()}


def unlock(machine, tool, path, secrets):
    """One of the secrets opens whatever is encrypted."""
    if machine.kernel_policy(path):
        assert any(tool.run("unlock", path, "--passphrase-file", secret).code == 0
                   for secret in secrets)


def go_on(tool, command, path, options, secret):
    """Repeats the command with the secret that the directory had, and if it has another by now,
    without. If all was done there is nothing to do."""
    result = tool.run(command, path, *options, "--passphrase-file", secret)
    if result.code == 3:
        result = tool.run(command, path, *options)
    if result.code != 0:
        done = {"convert": "already_encrypted", "decrypt": "not_encrypted"}
        assert result.json["error"]["reason"] == done.get(command), result


@pytest.mark.parametrize("command", ["convert", "reencrypt", "decrypt"])
def test_a_conversion_loses_nothing_and_goes_on_after_any_write(
        recorder, command, strategy, old, new, fresh, machine, tool):
    path, then = recorder.volume / fresh, recorder.replay / fresh
    secrets = [new] if command == "convert" else [old, new]
    options = strategy if command == "decrypt" else ("--new-passphrase-file", new, *strategy)
    if command != "convert":
        tool.ok("encrypt", path, "--create", "--new-passphrase-file", old)
    machine.make_tree(path, "small")
    expected = machine.snapshot(path)
    opening = () if command == "convert" else ("--passphrase-file", old)
    before, writes = recorder.record(lambda: tool.ok(command, path, *options, *opening))
    assert len(writes) >= CUTS_OF_A_CONVERSION
    for complete in recorder.disks_after_some_writes(before, writes, CUTS_OF_A_CONVERSION):
        unlock(machine, tool, then, secrets)
        if complete or not strategy:
            assert_same(whole(expected), whole(machine.snapshot(then)))
        go_on(tool, command, then, options, secrets[0])
        assert_same(expected, machine.snapshot(then))
        assert (machine.kernel_policy(then) is None) == (command == "decrypt")
        assert not [name for name in machine.names(str(recorder.replay))
                    if name.startswith(".fscryptctl-")]
