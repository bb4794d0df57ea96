"""A conversion that dies, or whose power goes, at any of its steps: nothing is lost, and repeating
the command finishes it. Then everything is as it was, bit by bit."""

import signal

import pytest

import harness
import kernel
from conversions import Conversion
from faults import CHANGING, FaultInjector, check_each, sample

STEPS = (*CHANGING, "linkat", "symlinkat", "ftruncate", "syncfs", "sync_file_range")
MOST_OF_ONE_CALL = 5

COMMANDS = pytest.mark.parametrize("command", ["convert", "reencrypt", "decrypt"])
# One engine: what does not differ between the commands is tried with one of them.
CONVERT = pytest.mark.parametrize("command", ["convert"])
STRATEGIES = pytest.mark.parametrize("low_space", [False, True], ids=["copy", "low-space"])


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def conversion(disk, run, passphrase_file, command, low_space):
    return Conversion(run, disk, command, passphrase_file("correct horse", name="old"),
                      passphrase_file("battery staple", name="new"), low_space)


def check_every_end(conversion, injector, fault, ends):
    conversion.prepare()
    calls = injector.calls(conversion.args, STEPS)
    conversion.assert_nothing_lost(0)

    def check(call):
        conversion.prepare()
        result = injector.run(conversion.args, call, fault)
        assert result.rc in ends, result
        conversion.assert_nothing_lost(result.rc)
        conversion.finish()

    check_each(sample(calls, MOST_OF_ONE_CALL), check)


@COMMANDS
@STRATEGIES
def test_killed_at_any_step_it_goes_on(conversion, injector):
    # A worker's call of the same number may not come in every run.
    check_every_end(conversion, injector, "signal=KILL", {-signal.SIGKILL, 0})


@CONVERT
@STRATEGIES
def test_stopped_at_any_step_it_goes_on(conversion, injector):
    check_every_end(conversion, injector, "signal=INT", {0, 130})


@CONVERT
@STRATEGIES
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_after_an_error_of_any_step_it_goes_on(conversion, injector, error):
    check_every_end(conversion, injector, f"error={error}", set(range(11)))


@COMMANDS
@STRATEGIES
def test_cancelled_after_any_step_it_is_as_before(conversion, injector):
    conversion.prepare()
    calls = injector.calls(conversion.args, STEPS)
    ends = set()

    def check(call):
        conversion.prepare()
        injector.run(conversion.args, call, "signal=KILL")
        ends.add(conversion.check_way_back())
        conversion.finish()

    check_each(sample(calls, MOST_OF_ONE_CALL // 2), check)
    assert 0 in ends


@pytest.fixture
def fast_commit_disk(make_filesystem, set_up):
    """With fast commits an fsync carries only what it must: less is durable by chance."""
    made = make_filesystem()
    made.unmount()
    harness.command("mkfs.ext4", "-q", "-F", "-O", "encrypt,fast_commit", made.image)
    made.mount()
    set_up(made)
    return made


@COMMANDS
@STRATEGIES
def test_the_power_goes_at_any_step(fast_commit_disk, run, passphrase_file, injector, command,
                                    low_space):
    disk = fast_commit_disk
    conversion = Conversion(run, disk, command, passphrase_file("correct horse", name="old"),
                            passphrase_file("battery staple", name="new"), low_space)
    conversion.prepare()
    calls = injector.calls(conversion.args, STEPS)

    def check(call):
        conversion.prepare()
        result = injector.run(conversion.args, call, "signal=KILL")
        kernel.cut_power(disk)
        disk.remount()
        conversion.assert_nothing_lost(result.rc)
        conversion.finish()

    check_each(sample(calls, MOST_OF_ONE_CALL), check)


@COMMANDS
@STRATEGIES
def test_the_power_goes_after_success(conversion, disk, run):
    conversion.prepare()
    run.ok(conversion.args)
    kernel.cut_power(disk)
    disk.remount()
    conversion.assert_kept()
