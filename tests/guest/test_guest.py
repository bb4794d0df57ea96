"""The guest itself: what the other files here rely on."""

import time

import pytest

from guest import Guest, GuestError, processes_of_group


@pytest.fixture(scope="module")
def guest(uml_kernel):
    with Guest(uml_kernel) as booted:
        yield booted


def test_output_and_exit_code_come_back_apart(guest):
    result = guest.run("sh", "-c", "cat; echo wrong >&2; exit 7", stdin=b"right \xff")
    assert (result.code, result.stdout, result.stderr) == (7, b"right \xff", b"wrong\n")


def test_more_output_than_a_serial_line_buffers_arrives_whole(guest):
    result = guest.run("seq", "100000")
    assert result.stdout == b"".join(b"%d\n" % number for number in range(1, 100001))


def test_a_program_runs_as_the_user_it_is_told_to(guest):
    assert guest.check("sh", "-c", "id -u; id -G", user=4242) == "4242\n4242\n"


def test_the_host_cannot_be_written(guest):
    assert guest.run("touch", "/usr/written-by-a-guest").code == 1


def test_a_program_that_hangs_is_killed_with_its_children(guest):
    result = guest.run("sh", "-c", "sleep 300 & sleep 300", timeout=0.5)
    assert result.timed_out and result.code == -9
    assert guest.run("pgrep", "-x", "sleep").code == 1


def test_a_guest_that_does_not_answer_is_killed(uml_kernel):
    guest = Guest(uml_kernel)
    begun = time.monotonic()
    with pytest.raises(GuestError, match="does not answer"):
        guest.call("finish", 0.5, pid=guest.start("sleep", "300")[0], timeout=300)
    assert time.monotonic() - begun < 5
    assert processes_of_group(guest.process.pid) == []


def test_a_power_cut_leaves_no_process_and_no_file(uml_kernel):
    guest = Guest(uml_kernel)
    guest.start("sleep", "300")
    assert processes_of_group(guest.process.pid)
    guest.cut_power()
    assert processes_of_group(guest.process.pid) == []
    assert not guest.folder.exists()


def test_a_guest_whose_host_went_away_powers_off(uml_kernel):
    with Guest(uml_kernel) as guest:
        guest.process.stdin.close()
        assert guest.process.wait(10) == 0
