"""Whatever lies in the metadata, the login goes on, and within its time."""

import fcntl
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import HAS_CHANGED, HERE, NEW, OLD, command, set_password

BUDGET = 5
SERVICE = "plain"


@pytest.fixture(autouse=True)
def plain_service(machine):
    Path(f"/etc/pam.d/{SERVICE}").write_text(
        "@include common-auth\n@include common-account\n@include common-password\n"
        "@include common-session\n")


@pytest.fixture
def hurried():
    Path("/etc/pam.d/hurried").write_text(
        Path(f"/etc/pam.d/{SERVICE}").read_text().replace("@include common-session", "")
        + "session required pam_permit.so\nsession optional pam_fscryptctl.so budget=1\n")
    return "hurried"


def record(user, disk):
    return next((disk.records(user) / "protectors").iterdir())


def give(path, user, mode=0o600):
    os.chown(path, user.uid, user.uid, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(mode)


def login_protectors(user, disk, number, passes, memory_kib):
    """Records that look like this user's, but that no password opens."""
    base = record(user, disk)
    text = base.read_text()
    for i in range(number):
        identifier = f"{i:016x}"
        changed = text.replace(base.stem, identifier).replace('name: "login"', f'name: "login-{i + 2}"')
        changed = re.sub(r"passes: \d+", f"passes: {passes}", changed)
        changed = re.sub(r"memory_kib: \d+", f"memory_kib: {memory_kib}", changed)
        changed = re.sub(r"kdf_salt: \w+", f"kdf_salt: {i:032x}", changed)
        path = base.with_name(f"{identifier}.yaml")
        path.write_text(changed)
        give(path, user)


def logged_in(host, seconds=BUDGET + 2.0, *answers):
    session = host(SERVICE).log_in(*(answers or (OLD,)))
    assert session.seconds < seconds
    return session


@pytest.mark.parametrize("number, passes, memory_kib", [
    (300, 1, 1024),
    (300, 40, 65536),
    (3, 16, 1 << 20),
    (1, 4294967295, 8)])
def test_many_and_costly_records_do_not_keep_a_login_waiting(private, disk, alice, host, log,
                                                             number, passes, memory_kib):
    """And they do not fill the log."""
    login_protectors(alice, disk, number, passes, memory_kib)
    session = logged_in(host)
    session.log_out()
    assert len(log.text().splitlines()) < 10


def fifo(path, user):
    os.mkfifo(path)


def symlink(path, user):
    path.symlink_to("/dev/zero")


def garbage(path, user):
    path.write_bytes(os.urandom(10000))


def large(path, user):
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def directory(path, user):
    path.mkdir()


@pytest.mark.parametrize("make", [fifo, symlink, garbage, large, directory])
def test_hostile_files_beside_the_records_do_not_matter(private, disk, alice, host, make):
    for folder in ("protectors", "policies"):
        for name in ("00000000000000aa", "00000000000000aa" * 2):
            path = disk.records(alice) / folder / f"{name}.yaml"
            make(path, alice)
            give(path, alice)
    logged_in(host, 2.0)
    assert alice.unlocked(private)


def test_many_damaged_policies_do_not_matter_and_are_told_once(private, disk, alice, host, log):
    for number in range(100):
        path = disk.records(alice) / f"policies/{number:032x}.yaml"
        garbage(path, alice)
        give(path, alice)
    logged_in(host, 2.0)
    assert alice.unlocked(private)
    assert log.text().count("was passed over") == 1


@pytest.mark.parametrize("where", ["", "protectors", "policies"])
def test_a_mount_that_never_answers_is_never_asked(private, disk, alice, host, where):
    target = disk.records(alice) / where
    server = subprocess.Popen([*alice.as_user, "/usr/bin/python3", HERE / "hang.py", target],
                              stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "mounted\n"
        session = logged_in(host, 2.0)
        session.log_out()
    finally:
        server.kill()
        command("umount", "-l", target)


def test_a_mount_over_the_marks_is_never_asked(private, disk, alice, host):
    logged_in(host).log_out()
    marks = Path(f"/run/fscryptctl/marks/{alice.uid}")
    server = subprocess.Popen([*alice.as_user, "/usr/bin/python3", HERE / "hang.py", marks],
                              stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "mounted\n"
        logged_in(host, 2.0).log_out()
    finally:
        server.kill()
        command("umount", "-l", marks)


def test_a_home_that_never_answers_does_not_keep_this_module_waiting(private, alice, host):
    server = subprocess.Popen([*alice.as_user, "/usr/bin/python3", HERE / "hang.py", "/home/alice"],
                              stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "mounted\n"
        logged_in(host, 2.0).log_out()
    finally:
        server.kill()
        command("umount", "-l", "/home/alice")


def test_a_slow_disk_keeps_a_login_waiting_for_its_budget_only(private, disk, alice, host, hurried):
    """Each of many directories takes its time: what there is no time for stays locked."""
    directories = [private]
    for number in range(40):
        directories.append(disk / f"more{number}")
        alice.encrypt(directories[-1], "--no-unlock")
    session = host(hurried)
    session("answers", OLD)
    assert session("authenticate") == 0 and session("acct_mgmt") == 0
    slow = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=openat2", "-e",
                             "inject=openat2:delay_exit=20000", "-p", str(session.process.pid)])
    try:
        status = Path(f"/proc/{session.process.pid}/status")
        while "TracerPid:\t0" in status.read_text():
            pass
        assert session("open_session") == 0
    finally:
        slow.terminate()
        slow.wait()
    unlocked = sum(alice.unlocked(directory) for directory in directories)
    assert session.seconds < 2.5 and 0 < unlocked < len(directories)
    assert any("no time to unlock everything" in text for _, text in session.said)
    session("close_session")


def test_another_user_s_records_do_not_matter(private, disk, alice, bob, host):
    bob.encrypt(disk / "bobs", password="bobs own password")
    login_protectors(bob, disk, 300, 16, 1 << 20)
    fifo(disk.records(bob) / "protectors/ffffffffffffffbb.yaml", bob)
    logged_in(host, 2.0)
    assert alice.unlocked(private)


def test_a_forged_copy_is_neither_believed_nor_given_the_new_password(private, disk, second_disk, alice,
                                                                      host):
    """It has the protector's id, but nothing beside it proves that it is one."""
    alice.encrypt(second_disk / "other", password=OLD)
    own = record(alice, disk)
    (mine,) = (second_disk.records(alice) / "protectors").iterdir()
    assert mine.name == own.name
    for policy in (second_disk.records(alice) / "policies").iterdir():
        policy.unlink()
    forged = re.sub(r"(ciphertext: )\w{8}", r"\g<1>00000000", mine.read_text())
    assert forged != mine.read_text()
    mine.write_text(forged)
    give(mine, alice)
    set_password("alice", NEW)
    session = host().log_in(NEW, OLD)
    assert alice.unlocked(private) and alice.opens(private, NEW)
    session.log_out()
    host().log_in(NEW).log_out()
    assert mine.read_text() == forged


def test_records_that_another_user_has_copied_open_nothing_for_her(private, disk, alice, bob, host):
    """Under her own name they are hers: only her own password is tried, silently, and changes nothing."""
    bob.encrypt(disk / "bobs", password="bobs own password")
    stolen = disk.records(bob) / "protectors" / record(alice, disk).name
    stolen.write_text(record(alice, disk).read_text())
    give(stolen, bob)
    before = stolen.read_text()
    session = host("login", "bob").log_in("bobs own password")
    assert session.questions() == ["Password: "] and bob.unlocked(disk / "bobs")
    assert not alice.unlocked(private) and stolen.read_text() == before


def test_a_place_that_another_user_has_taken_is_not_looked_at(private, disk, alice, bob, host):
    place = disk.records(alice)
    place.rename(place.with_name("aside"))
    place.mkdir()
    for folder in ("protectors", "policies"):
        (place / folder).mkdir()
        for file in (place.with_name("aside") / folder).iterdir():
            (place / folder / file.name).write_text(file.read_text())
    for path in (place, *place.rglob("*")):
        os.chown(path, bob.uid, bob.uid)
        path.chmod(0o700 if path.is_dir() else 0o600)
    session = logged_in(host, 2.0)
    done = alice.run("status", private, "--json", check=False)
    assert '"key_status":"absent"' in done.stdout and not Path("/run/fscryptctl").exists()
    session.log_out()


def test_a_lease_and_a_lock_only_cost_their_patience(private, disk, alice, host):
    set_password("alice", NEW)
    (lock,) = [os.open(disk.records(alice), os.O_RDONLY)]
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        session = host().log_in(NEW, OLD)
        assert session.questions()[-1] == HAS_CHANGED and session.seconds < 4
        assert alice.unlocked(private) and not alice.opens(private, NEW)
        session.log_out()
    finally:
        os.close(lock)
    leased = record(alice, disk)
    holder = subprocess.Popen([*alice.as_user, "/usr/bin/python3", "-c",
                               "import fcntl, os, signal, sys\n"
                               "signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
                               f"f = os.open({str(leased)!r}, os.O_RDWR)\n"
                               "fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
                               "print('leased', flush=True)\nsignal.pause()"],
                              stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "leased\n"
        assert host().log_in(NEW, OLD).seconds < 3
    finally:
        holder.kill()


def test_a_metadata_directory_that_is_not_root_s_is_not_looked_at(private, disk, alice, host):
    os.chown(disk / ".fscryptctl", alice.uid, alice.uid)
    logged_in(host, 2.0)
    assert not Path("/run/fscryptctl").exists()


def test_a_user_s_own_marks_take_away_only_her_own_keys(private, disk, alice, bob, host):
    bob.encrypt(disk / "bobs", password="bobs own password")
    bobs_key = bob.state(disk / "bobs")["key_identifier"] if "key_identifier" in bob.state(
        disk / "bobs") else bob.state(disk / "bobs")["policy"]["key_identifier"]
    session = logged_in(host)
    device = os.stat(disk.mountpoint).st_dev
    mark = Path(f"/run/fscryptctl/marks/{alice.uid}/{bobs_key}-{device}")
    command(*alice.as_user, "touch", mark)
    command(*alice.as_user, "ln", "-s", "/etc/passwd", mark.with_name("x-1"))
    session.log_out()
    assert bob.unlocked(disk / "bobs") and not alice.unlocked(private)


def test_a_thread_that_is_told_to_end_does_not_take_the_program_with_it(private, alice, hurried, tmp_path):
    program = tmp_path / "cancelled"
    command("gcc", "-o", program, HERE / "cancelled.c", "-lpam", "-pthread")
    assert command(program, "alice").stdout == "the thread has ended\n"
    assert list(Path(f"/run/fscryptctl/sessions-{alice.uid}").glob("[0-9a-f]*"))


def test_no_descriptor_or_thread_stays_in_the_program(private, alice, host):
    session = host(SERVICE)
    session("answers", OLD)
    process = Path(f"/proc/{session.process.pid}")

    def open_files():
        return sorted(os.readlink(link) for link in (process / "fd").iterdir())

    def ours():
        return [name for name in open_files() if "fscryptctl" in name or "disk1" in name]

    for step in ("authenticate", "acct_mgmt"):
        assert session(step) == 0
        assert ours() == [] and len(list((process / "task").iterdir())) == 1
    session("open_session")
    (kept,) = ours()
    assert kept.startswith(f"/run/fscryptctl/sessions-{alice.uid}/")
    session("close_session")
    assert ours() == []
