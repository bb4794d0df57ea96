"""The machine loses power in the middle of a command: what was reported as done is done, and what
was not leaves a way in. Each cut hits a command on ext4 and one on f2fs at once."""

import time

import pytest

import disks
from tool import Tool

# When the power goes, in parts of the time that the commands take when it does not.
MOMENTS = (0.25, 0.4, 0.55, 0.75)
LETTER = b"dear diary"
DEVICES = {"ext4": "/dev/ubda", "f2fs": "/dev/ubdb"}


class Machine:
    """One life of the machine, from switching it on to the end of its power."""

    def __init__(self, guest, images):
        self.guest = guest
        self.tool = Tool(guest)
        self.volumes = {kind: disks.Volume(guest, DEVICES[kind], disk)
                        for kind, disk in images.items()}
        for volume in self.volumes.values():
            self.tool.set_up(volume)

    def opens_with(self, path, text):
        return self.tool.opens_with(path, "--passphrase-file", self.tool.passphrase(text))

    def assert_letter_is_there(self, path, text):
        self.tool.ok("unlock", path, "--passphrase-file", self.tool.passphrase(text))
        assert self.guest.read(f"{path}/letter") == LETTER

    def run_at_once(self, commands):
        """Returns how long all of them took."""
        begun = time.monotonic()
        for started in [self.tool.start(*command) for command in commands]:
            result = self.guest.finish(started)
            assert result.code == 0, result
        return time.monotonic() - begun

    def cut_power_during(self, commands, after_s):
        begun = time.monotonic()
        for command in commands:
            self.tool.start(*command)
        time.sleep(max(0, begun + after_s - time.monotonic()))
        self.guest.cut_power()

    def switch_off(self):
        for volume in self.volumes.values():
            volume.unmount()
        self.guest.power_off()


@pytest.fixture
def images(folder):
    return {kind: disks.MAKERS[kind](folder / f"power-{kind}") for kind in DEVICES}


@pytest.fixture
def switch_on(boot, images):
    """switch_on(): the machine with the disks as they are now."""
    guests = []

    def make():
        guests.append(boot(images.values()))
        return Machine(guests[-1], images)

    yield make
    for guest in guests:
        guest.cut_power()


def other(text):
    return {"heads": "tails", "tails": "heads"}[text]


def test_a_passphrase_being_changed_is_the_old_one_or_the_new_one(switch_on, images):
    current = {}
    machine = switch_on()
    for kind, volume in machine.volumes.items():
        machine.tool.ok("encrypt", volume / "d", "--create", "--new-passphrase-file",
                        machine.tool.passphrase("heads"))
        machine.guest.write(volume / "d/letter", LETTER)
        current[kind] = "heads"

    def changes():
        """To the other passphrase on every file system."""
        return [("change-passphrase", volume / "d",
                 "--passphrase-file", machine.tool.passphrase(current[kind]),
                 "--new-passphrase-file", machine.tool.passphrase(other(current[kind])))
                for kind, volume in machine.volumes.items()]

    for moment in MOMENTS:
        duration_s = machine.run_at_once(changes())
        current = {kind: other(text) for kind, text in current.items()}
        machine.cut_power_during(changes(), moment * duration_s)
        machine = switch_on()
        for kind, volume in machine.volumes.items():
            if not machine.opens_with(volume / "d", current[kind]):
                current[kind] = other(current[kind])
            machine.assert_letter_is_there(volume / "d", current[kind])
    machine.switch_off()
    assert {kind: disk.problems() for kind, disk in images.items()} == {"ext4": "", "f2fs": ""}


def test_every_directory_reported_as_encrypted_opens(switch_on, images):
    machine = switch_on()

    def encryptions(name):
        return [("encrypt", volume / name, "--create", "--new-passphrase-file",
                 machine.tool.passphrase(name)) for volume in machine.volumes.values()]

    for number, moment in enumerate(MOMENTS):
        done, interrupted = f"done {number}", f"interrupted {number}"
        duration_s = machine.run_at_once(encryptions(done))
        for volume in machine.volumes.values():
            machine.guest.write(volume / f"{done}/letter", LETTER)
        machine.cut_power_during(encryptions(interrupted), moment * duration_s)
        machine = switch_on()
        for volume in machine.volumes.values():
            machine.assert_letter_is_there(volume / done, done)
            assert_plain_or_opens(machine, volume, interrupted)
    for volume in machine.volumes.values():
        for number in range(len(MOMENTS)):
            machine.assert_letter_is_there(volume / f"done {number}", f"done {number}")
    machine.switch_off()
    assert {kind: disk.problems() for kind, disk in images.items()} == {"ext4": "", "f2fs": ""}


def assert_plain_or_opens(machine, volume, name):
    """Of a directory whose encryption nobody reported as done."""
    if name not in machine.guest.names(str(volume)):
        return
    path = volume / name
    if machine.guest.kernel_policy(path) is None:
        assert machine.guest.names(path) == []
    else:
        assert machine.opens_with(path, name)
