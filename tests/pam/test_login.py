"""Logging in unlocks, the last logout locks, and a password changed elsewhere locks nobody out."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pexpect
import pytest
from conftest import ERROR, HAS_CHANGED, HIDDEN, INFO, NEW, OLD, command, set_password


def eventually(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.05)


def wrappings(user, disk):
    (file,) = (disk.records(user) / "protectors").iterdir()
    return file.read_text().count("generation:")


def test_a_login_unlocks_and_the_logout_locks(private, alice, host):
    session = host().log_in(OLD)
    assert session.questions() == ["Password: "]
    assert alice.unlocked(private) and (private / "letter").read_text() == "dear diary"
    session.log_out()
    assert not alice.unlocked(private)


def test_pamtester_sees_a_login_that_works(private, alice):
    done = command("pamtester", "-v", "login", "alice", "authenticate", "acct_mgmt", "open_session",
                   input=OLD + "\n")
    assert "successfully opened a session" in done.stdout
    assert alice.unlocked(private)


def test_a_wrong_password_is_refused_and_opens_nothing(private, alice, host, log):
    session = host()
    session("answers", "wrong password")
    assert session("authenticate") != 0
    assert not alice.unlocked(private)


def test_the_last_of_several_sessions_locks(private, alice, host):
    first, second = host().log_in(OLD), host("sshd").log_in(OLD)
    first.log_out()
    assert alice.unlocked(private)
    second.log_out()
    assert not alice.unlocked(private)


def test_a_killed_session_does_not_count(private, alice, host):
    killed, last = host().log_in(OLD), host().log_in(OLD)
    killed.kill()
    last.log_out()
    assert not alice.unlocked(private)


def test_a_program_that_closes_everything_still_counts(private, alice, host):
    first = host().log_in(OLD)
    first("close_all")
    open_before = first("descriptors")
    host().log_in(OLD).log_out()
    assert alice.unlocked(private)
    assert first("close_session") == 0
    # Nothing of the program's own was closed in the place of what was ours.
    assert first("descriptors") == open_before
    assert not alice.unlocked(private)


@pytest.mark.parametrize("phase", ["authenticate", "acct_mgmt", "open_session", "close_session"])
def test_kill_in_every_phase_leaves_the_next_login_as_it_should_be(private, alice, host, phase):
    set_password("alice", NEW)
    for delay in (0.0, 0.002, 0.005, 0.01, 0.03, 0.1):
        killed = host()
        killed("answers", NEW, OLD)
        for step in ("authenticate", "acct_mgmt", "open_session", "close_session"):
            if step == phase:
                killed.process.stdin.write(f'["{step}"]\n')
                killed.process.stdin.flush()
                time.sleep(delay)
                break
            killed(step)
        killed.kill()
    session = host().log_in(NEW, OLD)
    assert alice.unlocked(private)
    session.log_out()
    assert not alice.unlocked(private) and alice.opens(private, NEW)


def test_what_was_unlocked_by_hand_before_stays_unlocked(private, alice, host):
    alice.run("unlock", private, password=OLD)
    host().log_in(OLD).log_out()
    assert alice.unlocked(private)


def test_what_is_unlocked_by_hand_in_a_session_stays_unlocked(private, alice, host):
    session = host().log_in(OLD)
    alice.run("unlock", private, password=OLD)
    session.log_out()
    assert alice.unlocked(private)


def test_files_in_use_are_named_in_the_log_and_gone_when_they_are_closed(private, alice, host, log):
    session = host().log_in(OLD)
    reader = subprocess.Popen(["tail", "-f", private / "letter"], stdout=subprocess.DEVNULL)
    eventually(lambda: os.readlink(f"/proc/{reader.pid}/exe").endswith("tail"))
    time.sleep(0.1)
    session.log_out()
    assert "in use by" in log.text() and f"{reader.pid} (tail" in log.text()
    reader.kill()
    reader.wait()
    host().log_in(OLD).log_out()
    assert not alice.unlocked(private)


def test_files_closed_soon_after_the_logout_do_not_matter(private, alice, host):
    session = host().log_in(OLD)
    reader = subprocess.Popen(["timeout", "0.5", "tail", "-f", private / "letter"],
                              stdout=subprocess.DEVNULL)
    time.sleep(0.1)
    session.log_out()
    reader.wait()
    assert alice.state(private)["key_status"] == "absent"


def test_a_lingering_user_s_directories_stay_unlocked(private, alice, host):
    linger = Path("/var/lib/systemd/linger/alice")
    linger.parent.mkdir(parents=True, exist_ok=True)
    linger.touch()
    try:
        host().log_in(OLD).log_out()
        assert alice.unlocked(private)
    finally:
        linger.unlink()


def test_a_password_changed_by_root_is_healed_at_the_next_login(private, disk, alice, host):
    set_password("alice", NEW)
    session = host().log_in(NEW, OLD)
    assert session.questions() == ["Password: ", HAS_CHANGED]
    assert [INFO, "Your directories open with the new login password from now on."] in session.said
    assert alice.unlocked(private)
    session.log_out()
    # The previous password stays until a login has proven the new one.
    assert wrappings(alice, disk) == 2 and alice.opens(private, OLD) and alice.opens(private, NEW)
    session = host().log_in(NEW)
    assert session.questions() == ["Password: "] and alice.unlocked(private)
    assert wrappings(alice, disk) == 1
    session.log_out()
    assert not alice.opens(private, OLD)


def test_a_recovery_key_heals_as_well(disk, alice, host):
    (disk / "private").mkdir()
    os.chown(disk / "private", alice.uid, alice.uid)
    made = alice.run("encrypt", disk / "private", "--source", "login", "--recovery-key-output", "-",
                     "--no-unlock", password=OLD)
    key = next(line for line in made.stdout.splitlines() if line.count("-") >= 7)
    set_password("alice", NEW)
    mistyped = key[:-1] + ("0" if key[-1] != "0" else "1")
    session = host().log_in(NEW, mistyped, key.strip())
    assert session.questions().count(HAS_CHANGED) == 2
    assert alice.unlocked(disk / "private") and alice.opens(disk / "private", NEW)
    session.log_out()
    assert host().log_in(NEW).questions() == ["Password: "]
    assert alice.opens(disk / "private", key) and not alice.opens(disk / "private", OLD)


def test_after_an_installation_anew_passwd_makes_the_protector_this_machine_s(private, disk, alice,
                                                                             host, spawn):
    (record,) = (disk.records(alice) / "protectors").iterdir()
    machine_id = Path("/etc/machine-id").read_text().strip()
    record.write_text(record.read_text().replace(machine_id, "e" * 32))
    set_password("alice", NEW)
    assert host().log_in(NEW, OLD).questions() == ["Password: "]  # a stranger's: nobody is asked
    assert alice.opens(private, OLD)
    set_password("alice", OLD)
    host().log_in(OLD)
    assert alice.unlocked(private)
    change_password(spawn(*alice.as_user, "passwd"), ("Current password:", OLD),
                    ("New password:", NEW), ("Retype new password:", NEW))
    eventually(lambda: alice.opens(private, NEW))
    assert machine_id in record.read_text() and "e" * 32 not in record.read_text()


def test_all_copies_are_healed_together(private, second_disk, alice, host):
    alice.encrypt(second_disk / "more")
    alice.run("lock", second_disk / "more")
    set_password("alice", NEW)
    host().log_in(NEW, OLD)
    for directory in (private, second_disk / "more"):
        assert alice.unlocked(directory) and alice.opens(directory, NEW)


def test_a_copy_that_was_left_behind_is_healed_by_a_login(private, second_disk, alice, host):
    alice.encrypt(second_disk / "more")
    alice.run("lock", second_disk / "more")
    command("mount", "-o", "remount,ro", second_disk)
    set_password("alice", NEW)
    session = host().log_in(NEW, OLD)
    assert [ERROR, "Not everything could be changed: the next login asks again."] in session.said
    session.log_out()
    command("mount", "-o", "remount,rw", second_disk)
    assert not alice.opens(second_disk / "more", NEW)
    session = host().log_in(NEW)
    assert session.questions() == ["Password: "]
    assert alice.opens(second_disk / "more", NEW) and alice.unlocked(second_disk / "more")


def test_who_skips_the_question_gets_in_and_is_asked_again(private, alice, host):
    set_password("alice", NEW)
    session = host().log_in(NEW, "")
    assert session.questions() == ["Password: ", HAS_CHANGED] and not alice.unlocked(private)
    assert any(style == INFO and f"fscryptctl unlock {private}" in text
               for style, text in session.said)
    session.log_out()
    assert host().log_in(NEW, OLD).questions()[-1] == HAS_CHANGED
    assert alice.unlocked(private)


def test_three_wrong_answers_do_not_keep_anybody_out(private, alice, host):
    set_password("alice", NEW)
    session = host().log_in(NEW, "wrong one", "wrong two", "wrong three", "never asked")
    assert session.questions().count(HAS_CHANGED) == 3 and alice.opens(private, OLD)


def test_a_program_that_answers_everything_with_the_password_is_not_asked_twice(private, host):
    set_password("alice", NEW)
    assert host().log_in(NEW, NEW, NEW).questions().count(HAS_CHANGED) == 1


def test_a_conversation_that_fails_does_not_deny_the_login(private, host):
    set_password("alice", NEW)
    assert host().log_in(NEW).questions() == ["Password: ", HAS_CHANGED]


@pytest.mark.parametrize("service", ["gdm-smartcard", "gdm-fingerprint", "other-service"])
def test_nothing_is_asked_or_wrapped_where_no_password_is_typed(private, alice, host, service):
    Path(f"/etc/pam.d/{service}").write_text(Path("/etc/pam.d/login").read_text())
    set_password("alice", NEW)
    assert host(service).log_in(NEW, OLD).questions() == ["Password: "]
    assert not alice.opens(private, NEW)


def test_a_short_token_opens_nothing_new(private, alice, host, log):
    set_password("alice", "1234")
    session = host().log_in("1234", OLD)
    assert alice.unlocked(private) and "too short" in log.text()
    assert not alice.opens(private, "1234")
    session.log_out()


@pytest.mark.parametrize("pin", ["123456", "123456789012"])
def test_what_may_be_a_card_s_pin_opens_nothing_new(private, alice, host, pin):
    """A card's PIN arrives as a password, in any service."""
    set_password("alice", pin)
    session = host().log_in(pin, OLD)
    assert alice.unlocked(private) and not alice.opens(private, pin)
    assert any(style == ERROR and "may be a card's PIN" in text for style, text in session.said)
    session.log_out()


def test_what_is_fed_to_a_command_of_su_is_not_taken_for_an_answer(private, alice, bob):
    set_password("alice", NEW)
    done = command(*bob.as_user, "su", "alice", "-c", "cat", input=f"{NEW}\n{OLD}\nmore\n")
    assert done.stdout == f"{OLD}\nmore\n" and alice.opens(private, OLD)
    assert not alice.opens(private, NEW)


@pytest.mark.parametrize("steps", [
    ("authenticate", "acct_mgmt", "open_session"),
    ("authenticate", "open_session"),
    ("authenticate", "acct_mgmt", "chauthtok", "open_session")])
def test_no_secret_stays_in_the_program_while_the_session_lasts(private, alice, host, steps):
    session = host()
    assert session("memory") == 0
    set_password("alice", NEW)
    session("answers", NEW, OLD, NEW, OLD, OLD)
    for step in steps:
        session(step)
        if step == "authenticate":
            assert session("memory") > 0  # else this test sees nothing
    assert session("memory") == 0


def test_a_session_that_cannot_be_counted_unlocks_all_the_same(private, alice, host, log):
    """/run is full, for example."""
    Path("/run/fscryptctl").write_text("")
    try:
        session = host().log_in(OLD)
        assert alice.unlocked(private) and "does not count" in log.text()
        assert session("close_session") == 0
    finally:
        Path("/run/fscryptctl").unlink()
    alice.run("lock", private)


def test_a_session_of_an_earlier_boot_does_not_count(private, alice, host):
    """Where /run outlives the boot, and a process has the number and the start of another again."""
    first = host().log_in(OLD)
    (file,) = (path for path in Path(f"/run/fscryptctl/sessions-{alice.uid}").iterdir()
               if not path.name.startswith("."))
    text = file.read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in text
    (file.parent / "0000000000000000").write_text(text.replace(boot, "0" * 36))
    first.log_out()
    assert not alice.unlocked(private)


def test_what_the_program_was_told_of_a_user_stays_as_it_is(private, alice, host):
    """getpwuid(3) answers everybody in the same memory."""
    session = host()
    session("ask_name", 0)
    session("answers", OLD)
    for step in ("authenticate", "acct_mgmt"):
        assert session(step) == 0 and session("read_name") == "root", step


def kernel_keys():
    """What is on its way from one process to another; a killed login's goes after three minutes."""
    return [word for word in Path("/proc/keys").read_text().split() if word.startswith("fscryptctl:")]


def test_authentication_in_another_process(private, alice, host):
    """As sshd does it for keyboard-interactive logins."""
    before = set(kernel_keys())
    session = host("sshd")
    session("answers", OLD)
    assert session("authenticate") == 0 and session("acct_mgmt") == 0
    assert len(set(kernel_keys()) - before) == 1
    assert any(setting.startswith("FSCRYPTCTL_TICKET=") for setting in session("environment"))
    assert session("fork", "sshd", "alice") == 0
    assert session("open_session") == 0
    assert alice.unlocked(private)
    assert not any("FSCRYPTCTL" in setting for setting in session("environment"))
    session("close_session")
    assert not alice.unlocked(private)
    eventually(lambda: set(kernel_keys()) <= before)


def test_a_ticket_is_another_user_s_or_made_up(private, alice, bob, host):
    for user, setting in (("bob", None), ("alice", "FSCRYPTCTL_TICKET=" + "0" * 32 + ":" + "0" * 64),
                          ("alice", "FSCRYPTCTL_TICKET=x")):
        session = host("sshd")
        session("answers", OLD)
        assert session("authenticate") == 0
        assert session("fork", "sshd", user) == 0
        if setting:
            session("putenv", setting)
        assert session("open_session") == 0
        assert alice.unlocked(private) is (user == "alice" and setting is None)


def test_no_password_says_why_it_stays_locked(private, alice, host):
    """As after a login with a public key."""
    session = host("sshd")
    assert session("open_session") == 0
    (line,) = [text for style, text in session.said if "stays locked" in text]
    assert "no password was given to this login" in line and f"fscryptctl unlock {private}" in line
    session("close_session")


@pytest.mark.parametrize("service", ["sudo", "cron", "systemd-user", "fscryptctl"])
def test_sudo_and_cron_are_left_alone(private, alice, host, service):
    Path(f"/etc/pam.d/{service}-kept").write_text("")
    text = Path("/etc/pam.d/login").read_text()
    before = Path(f"/etc/pam.d/{service}")
    saved = before.read_text() if before.exists() else None
    before.write_text(text)
    try:
        host(service).log_in(OLD)
        assert not alice.unlocked(private) and not Path("/run/fscryptctl").exists()
    finally:
        before.write_text(saved) if saved is not None else before.unlink()


def test_a_user_without_records_costs_nothing(private, bob, host):
    session = host(user="bob").log_in("bobs own password")
    assert session.questions() == ["Password: "]
    assert not list(Path("/run").glob("fscryptctl/*"))
    session.log_out()


# passwd


def change_password(terminal, *answers):
    for prompt, text in answers:
        terminal.expect(prompt)
        terminal.waitnoecho()
        terminal.sendline(text)


def test_passwd_by_the_user_rewraps(private, disk, alice, host, spawn):
    change_password(spawn(*alice.as_user, "passwd"), ("Current password:", OLD),
                    ("New password:", NEW), ("Retype new password:", NEW))
    eventually(lambda: alice.opens(private, NEW))
    assert wrappings(alice, disk) == 2
    session = host().log_in(NEW)
    assert session.questions() == ["Password: "] and alice.unlocked(private)
    assert wrappings(alice, disk) == 1


def test_passwd_that_is_killed_loses_nothing(private, disk, alice, host, spawn):
    """What opened before opens until a login has proven the new password."""
    for delay in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05):
        set_password("alice", OLD)
        terminal = spawn(*alice.as_user, "passwd")
        change_password(terminal, ("Current password:", OLD), ("New password:", NEW),
                        ("Retype new password:", NEW))
        time.sleep(delay)
        terminal.kill(signal.SIGKILL)
        terminal.wait()
        assert alice.opens(private, OLD)
    set_password("alice", NEW)
    session = host().log_in(NEW, OLD)
    assert alice.unlocked(private) and alice.opens(private, NEW)
    session.log_out()


def test_two_machines_with_the_same_user_do_not_mind_each_other(private, disk, alice, host):
    """A disk that is carried between them: the same uid and name, but different passwords."""
    (there,) = (disk.records(alice) / "protectors").iterdir()
    machine_id = Path("/etc/machine-id").read_text().strip()
    there.write_text(there.read_text().replace(machine_id, "e" * 32))
    before = there.read_text()
    set_password("alice", NEW)
    alice.encrypt(disk / "here", password=NEW)
    alice.run("lock", disk / "here")
    session = host().log_in(NEW)
    assert session.questions() == ["Password: "]
    assert alice.unlocked(disk / "here") and not alice.unlocked(private)
    session.log_out()
    set_password("alice", "a third password")
    session = host().log_in("a third password", NEW)
    assert session.questions() == ["Password: ", HAS_CHANGED]
    assert alice.unlocked(disk / "here") and not alice.unlocked(private)
    session.log_out()
    assert there.read_text() == before and alice.opens(private, OLD)


def test_passwd_by_root_warns_and_changes_nothing(private, alice, spawn):
    terminal = spawn("passwd", "alice")
    change_password(terminal, ("New password:", NEW), ("Retype new password:", NEW))
    terminal.expect("still open with the previous password. The next login asks for it once.")
    assert alice.opens(private, OLD)


def test_an_expired_password_is_changed_during_the_login(private, alice, host):
    command("chage", "-d", "0", "alice")
    session = host()
    session("answers", OLD)
    assert session("authenticate") == 0
    assert session("acct_mgmt") == 12  # PAM_NEW_AUTHTOK_REQD
    session("answers", OLD, NEW, NEW)
    assert session("chauthtok", 0x20) == 0, session.said
    assert session("open_session") == 0
    assert alice.unlocked(private) and alice.opens(private, NEW)


# real programs


def finish(terminal):
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    terminal.close()


def test_su_from_another_user(private, alice, bob, spawn):
    terminal = spawn(*bob.as_user, "su", "-", "alice")
    terminal.expect("Password:")
    terminal.waitnoecho()
    terminal.sendline(OLD)
    terminal.expect(r"\$ ")
    terminal.sendline(f"cat {private}/letter")
    terminal.expect("dear diary")
    finish(terminal)
    assert not alice.unlocked(private)


def test_su_by_root_prints_nothing_into_what_a_script_reads(private):
    done = command("su", "-", "alice", "-c", "echo one line")
    assert done.stdout == "one line\n"


def test_login_at_a_terminal(private, alice, spawn):
    terminal = spawn("login")
    terminal.expect("login:")
    terminal.sendline("alice")
    terminal.expect("Password:")
    terminal.waitnoecho()
    terminal.sendline(OLD)
    terminal.expect(r"\$ ")
    terminal.sendline(f"cat {private}/letter")
    terminal.expect("dear diary")
    finish(terminal)
    eventually(lambda: not alice.unlocked(private))


@pytest.fixture(scope="module")
def sshd(machine):
    command("ssh-keygen", "-q", "-A")
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-p", "2222", "-o", "UsePAM=yes",
                               "-o", "ListenAddress=127.0.0.1", "-o", "PasswordAuthentication=yes",
                               "-o", "KbdInteractiveAuthentication=yes"],
                              stderr=open("/tmp/sshd.log", "w"))
    time.sleep(1)
    yield server
    server.terminate()


def ssh(spawn, method, *more):
    return spawn("ssh", "-tt", "-p", "2222", "-o", "StrictHostKeyChecking=no", "-o",
                 "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o",
                 f"PreferredAuthentications={method}", *more, "alice@127.0.0.1")


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_ssh_with_a_password(private, alice, sshd, spawn, method):
    terminal = ssh(spawn, method)
    terminal.expect("(?i)password:")
    terminal.waitnoecho()
    terminal.sendline(OLD)
    terminal.expect(r"\$ ")
    terminal.sendline(f"cat {private}/letter; env | grep -c FSCRYPTCTL")
    terminal.expect("dear diary0\r")
    finish(terminal)
    eventually(lambda: not alice.unlocked(private))


def test_ssh_asks_for_the_previous_password_where_it_can(private, alice, sshd, spawn):
    set_password("alice", NEW)
    terminal = ssh(spawn, "keyboard-interactive")
    terminal.expect("(?i)password:")
    terminal.waitnoecho()
    terminal.sendline(NEW)
    terminal.expect("Your login password has changed")
    terminal.waitnoecho()
    terminal.sendline(OLD)
    terminal.expect(r"\$ ")
    terminal.sendline(f"cat {private}/letter")
    terminal.expect("dear diary")
    finish(terminal)
    assert alice.opens(private, NEW)


def test_ssh_with_a_key_says_why_it_stays_locked(private, alice, sshd, spawn, tmp_path):
    command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    home = Path("/home/alice/.ssh")
    home.mkdir(exist_ok=True)
    (home / "authorized_keys").write_text((tmp_path / "key.pub").read_text())
    terminal = ssh(spawn, "publickey", "-i", tmp_path / "key")
    terminal.expect("stays locked: no password was given to this login")
    terminal.expect(r"\$ ")
    finish(terminal)
    assert not alice.unlocked(private)
