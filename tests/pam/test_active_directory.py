"""Users of an Active Directory domain: a Samba domain controller in a network namespace of its own, and
this machine as a member of its domain, which logs in to it with winbind or with sssd."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import DOMAIN_PASSWORDS, HAS_CHANGED, HERE, User, command, use_pam_profiles

OLD, NEW, THIRD = DOMAIN_PASSWORDS
SERVER, MEMBER = "10.53.0.1", "10.53.0.2"
SMB = """[global]
 security = ads
 realm = LAB.TEST
 workgroup = LAB
 kerberos method = secrets and keytab
 winbind offline logon = yes
 template shell = /bin/bash
 idmap config * : backend = tdb
 idmap config * : range = 100000-199999
 idmap config LAB : backend = rid
 idmap config LAB : range = 20000-99999
"""
SSSD = """[sssd]
services = nss, pam
domains = lab.test
[domain/lab.test]
id_provider = ad
access_provider = permit
cache_credentials = true
dyndns_update = false
fallback_homedir = /home/%u
default_shell = /bin/bash
offline_timeout = 1
offline_timeout_random_offset = 0
"""


def eventually(condition, what, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Server:
    """Another machine: its processes run in namespaces that this one has made."""

    def __init__(self):
        self.machine = subprocess.Popen(
            ["unshare", "--mount", "--net", "--uts", HERE / "domain_controller", SERVER],
            stdout=subprocess.PIPE, stderr=open("/tmp/domain_controller.log", "w"), text=True)
        self.inside = ["nsenter", "--target", str(self.machine.pid), "--mount", "--net", "--uts",
                       "--root"]
        net = Path(f"/proc/{self.machine.pid}/ns/net")
        eventually(lambda: os.readlink(net) != os.readlink("/proc/self/ns/net"), "no namespace")
        command("ip", "link", "add", "client", "type", "veth", "peer", "name", "server", "netns",
                self.machine.pid)
        command("ip", "link", "set", "client", "up")
        command("ip", "address", "add", f"{MEMBER}/24", "dev", "client")
        assert self.machine.stdout.readline() == "ready\n", Path("/tmp/domain_controller.log").read_text()
        self.samba = None
        self.start()

    def start(self):
        self.samba = subprocess.Popen([*self.inside, "samba", "-F", "--no-process-group"],
                                      start_new_session=True, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
        eventually(lambda: self.answers(88) and self.answers(389) and self.answers(445),
                   "the domain controller does not answer")

    @staticmethod
    def answers(port):
        return command("bash", "-c", f"exec 2>/dev/null; echo > /dev/tcp/{SERVER}/{port}",
                       check=False).returncode == 0

    def stop(self):
        os.killpg(self.samba.pid, signal.SIGKILL)
        self.samba.wait(20)
        eventually(lambda: not self.answers(88) and not self.answers(389) and not self.answers(53),
                   "the domain controller still answers")

    def tool(self, *words):
        command(*self.inside, "samba-tool", *words)

    def set_password(self, name, password, *more):
        self.tool("user", "setpassword", name, f"--newpassword={password}", *more)

    def remove(self):
        self.stop()
        self.machine.kill()
        self.machine.wait(10)
        command("ip", "link", "delete", "client", check=False)


@pytest.fixture(scope="module")
def server(machine):
    resolver = Path("/etc/resolv.conf")
    resolver.unlink(missing_ok=True)  # it may lead to another place
    resolver.write_text(f"nameserver {SERVER}\nsearch lab.test\noptions timeout:1 attempts:1\n")
    made = Server()
    made.tool("user", "create", "dave", OLD)
    command("hostname", "member")
    with open("/etc/hosts", "a") as hosts:
        hosts.write(f"{MEMBER} member.lab.test member\n")
    Path("/etc/krb5.conf").write_text(
        "[libdefaults]\n default_realm = LAB.TEST\n dns_lookup_kdc = true\n")
    Path("/etc/samba/smb.conf").write_text(SMB)
    Path("/run/samba").mkdir(exist_ok=True)
    command("net", "ads", "join", "-U", "Administrator%Passw0rd-Adm", "--no-dns-updates")
    yield made
    made.remove()
    resolver.write_text("")
    command("hostname", "throw-away")


class Winbind:
    user = "LAB\\dave"
    must_change = 0  # it only says so
    tells_of_changes = True

    def __init__(self):
        use_pam_profiles("--remove", "sss")
        self.process = subprocess.Popen(["winbindd", "-F", "--no-process-group"],
                                        start_new_session=True, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

    def notice(self, state):
        command("smbcontrol", "winbindd", state)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(20)
        use_pam_profiles("--enable", "sss")


class Sssd:
    user = "dave@lab.test"
    must_change = 12  # PAM_NEW_AUTHTOK_REQD
    tells_of_changes = False  # Debian's line is "sufficient": nothing behind it hears of a change

    def __init__(self):
        use_pam_profiles("--remove", "winbind")
        for file in Path("/var/lib/sss/db").iterdir():
            file.unlink()
        configuration = Path("/etc/sssd/sssd.conf")
        configuration.write_text(SSSD)
        configuration.chmod(0o600)
        command("sssd", "-D", "--logger=files")

    def notice(self, state):
        number = {"offline": signal.SIGUSR1, "online": signal.SIGUSR2}[state]
        os.kill(int(Path("/run/sssd.pid").read_text()), number)

    def stop(self):
        pid = int(Path("/run/sssd.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not Path("/run/sssd.pid").exists(), "sssd stays")
        use_pam_profiles("--enable", "winbind")


@pytest.fixture(scope="module", params=[Winbind, Sssd], ids=["winbind", "sssd"])
def client(request, server):
    made = request.param()
    eventually(lambda: command("id", "-u", made.user, check=False).returncode == 0,
               "the domain's users are not known here")
    yield made
    made.stop()


class DomainUser(User):
    def __init__(self, name):
        self.name, self.uid = name, int(command("id", "-u", name).stdout)
        self.as_user = ["setpriv", f"--reuid={self.uid}", "--regid=100", "--clear-groups"]


def authenticated(host, user, *answers):
    """The client takes a while to see that the server is there again."""
    for _ in range(60):
        session = host(user=user)
        session("answers", *answers)
        if session("authenticate") == 0:
            return session
        time.sleep(0.5)
    raise AssertionError("nobody can log in")


@pytest.fixture
def dave(client, server, log, host):
    server.set_password("dave", OLD)
    shutil.rmtree("/run/fscryptctl", ignore_errors=True)
    authenticated(host, client.user, OLD).kill()
    return DomainUser(client.user)


@pytest.fixture
def his(disk, dave):
    dave.encrypt(disk / "his", password=OLD)
    dave.run("lock", disk / "his")
    return disk / "his"


@pytest.fixture
def down(server, client):
    """down() stops the server, up() starts it again, which it also is at the end."""
    stopped = []

    def stop():
        server.stop()
        stopped.append(True)
        client.notice("offline")

    def start():
        if stopped:
            stopped.pop()
            server.start()
            client.notice("online")

    yield stop, start
    start()


def log_in(host, client, *answers):
    """Logs in and says if the previous password was asked for."""
    session = host(user=client.user).log_in(*answers)
    return session, HAS_CHANGED in session.questions()


def test_the_domain_checks_the_password(disk, dave):
    done = dave.run("encrypt", disk / "x", "--create", "--source", "login", "--no-recovery-key",
                    password="another", check=False)
    assert done.returncode == 3, done


def test_a_password_changed_on_the_server_is_healed(his, server, client, dave, host):
    session, asked = log_in(host, client, OLD)
    assert dave.unlocked(his) and not asked
    session.log_out()
    assert not dave.unlocked(his)
    server.set_password("dave", NEW)
    session = authenticated(host, client.user, NEW, OLD)
    assert session("acct_mgmt") == 0 and session.questions() == [HAS_CHANGED]
    assert session("open_session") == 0 and dave.unlocked(his)
    session.log_out()
    session, asked = log_in(host, client, NEW)
    assert dave.unlocked(his) and not asked
    session.log_out()
    assert dave.opens(his, NEW) and not dave.opens(his, OLD)


def test_the_server_is_down(his, server, client, dave, host, down):
    """Then the last password that was used on this machine counts, here and for the protector."""
    stop, start = down
    stop()
    session, asked = log_in(host, client, OLD)
    assert dave.unlocked(his) and not asked
    session.log_out()
    assert not dave.unlocked(his)
    start()
    server.set_password("dave", NEW)
    stop()
    session, asked = log_in(host, client, OLD)  # nobody here knows better
    assert dave.unlocked(his) and not asked
    session.log_out()
    start()
    session = authenticated(host, client.user, NEW, OLD)
    assert session("acct_mgmt") == 0 and session.questions() == [HAS_CHANGED]
    assert session("open_session") == 0 and dave.unlocked(his)
    session.log_out()
    stop()
    session, asked = log_in(host, client, NEW)
    assert dave.unlocked(his) and not asked
    session.log_out()
    refused = host(user=client.user)
    refused("answers", OLD)
    assert refused("authenticate") != 0 and not dave.unlocked(his)


def test_who_skips_the_question_is_asked_again_without_the_server(his, server, client, dave, host, down):
    stop, start = down
    server.set_password("dave", NEW)
    session = authenticated(host, client.user, NEW, "")
    assert session("acct_mgmt") == 0 and session.questions() == [HAS_CHANGED]
    assert session("open_session") == 0 and not dave.unlocked(his)
    session.log_out()
    stop()
    session, asked = log_in(host, client, NEW, OLD)
    assert asked and dave.unlocked(his)
    session.log_out()


def test_a_password_that_has_to_be_changed_at_the_login(his, server, client, dave, host):
    server.set_password("dave", NEW, "--must-change-at-next-login")
    session = host(user=client.user)
    session("answers", NEW, OLD)
    assert session("authenticate") == 0
    assert session("acct_mgmt") == client.must_change and HAS_CHANGED in session.questions()
    session("answers", NEW, THIRD, THIRD)
    assert session("chauthtok", 0x20) == 0, session.said  # PAM_CHANGE_EXPIRED_AUTHTOK
    assert session("open_session") == 0 and dave.unlocked(his)
    assert dave.opens(his, THIRD) is client.tells_of_changes
    session.log_out()
    session, asked = log_in(host, client, THIRD, NEW)
    assert dave.unlocked(his) and asked is not client.tells_of_changes
    assert dave.opens(his, THIRD)


def test_passwd_by_the_user(his, client, dave, host, spawn):
    terminal = spawn(*dave.as_user, "passwd")
    for prompt, text in (("urrent", OLD), ("ew ", THIRD), ("(?i)re-?(type|enter)", THIRD)):
        terminal.expect(prompt)
        terminal.waitnoecho()
        terminal.sendline(text)
    terminal.expect("success")
    eventually(lambda: dave.opens(his, THIRD) is client.tells_of_changes, "passwd did not tell", 5)
    session, asked = log_in(host, client, THIRD, OLD)
    assert dave.unlocked(his) and asked is not client.tells_of_changes
    session.log_out()
    session, asked = log_in(host, client, THIRD)
    assert dave.unlocked(his) and not asked and not dave.opens(his, OLD)
