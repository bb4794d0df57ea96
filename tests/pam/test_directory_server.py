"""Users of a directory server: slapd and sssd, both real, on this machine's loopback."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import HAS_CHANGED, NEW, OLD, User, command

THIRD = "Third-passw0rd"
BASE = Path("/tmp/ldap")
SLAPD = f"""include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {BASE}/pid
TLSCertificateFile {BASE}/certificate
TLSCertificateKeyFile {BASE}/key
database mdb
suffix "dc=lab"
rootdn "cn=admin,dc=lab"
rootpw adminpw
directory {BASE}/database
access to attrs=userPassword by self write by anonymous auth by * none
access to * by * read
"""
ENTRIES = f"""dn: dc=lab
objectClass: domain
dc: lab

dn: uid=carol,dc=lab
objectClass: inetOrgPerson
objectClass: posixAccount
cn: Carol
sn: Carol
uid: carol
uidNumber: 20001
gidNumber: 20001
homeDirectory: /home/carol
loginShell: /bin/bash
userPassword: {OLD}
"""
SSSD = f"""[sssd]
services = nss, pam
domains = lab
[domain/lab]
id_provider = ldap
auth_provider = ldap
chpass_provider = ldap
ldap_uri = ldaps://127.0.0.1:6360
ldap_search_base = dc=lab
ldap_tls_cacert = {BASE}/certificate
cache_credentials = true
ldap_network_timeout = 2
offline_timeout = 1
"""


class Server:
    def __init__(self):
        self.process = None
        shutil.rmtree(BASE, ignore_errors=True)
        (BASE / "database").mkdir(parents=True)
        command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", BASE / "key",
                "-out", BASE / "certificate", "-days", "30", "-subj", "/CN=localhost", "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1")
        (BASE / "slapd.conf").write_text(SLAPD)
        (BASE / "entries.ldif").write_text(ENTRIES)
        command("slapadd", "-f", BASE / "slapd.conf", "-l", BASE / "entries.ldif")
        self.start()

    def start(self):
        self.process = subprocess.Popen(["slapd", "-d", "0", "-f", BASE / "slapd.conf", "-h",
                                         "ldap://127.0.0.1:3890 ldaps://127.0.0.1:6360"])
        for _ in range(50):
            if command("ldapsearch", "-x", "-H", "ldap://127.0.0.1:3890", "-b", "dc=lab", "uid=carol",
                       check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError("slapd does not start")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)

    def set_password(self, password):
        command("ldappasswd", "-x", "-H", "ldap://127.0.0.1:3890", "-D", "cn=admin,dc=lab", "-w",
                "adminpw", "-s", password, "uid=carol,dc=lab")


@pytest.fixture(scope="module")
def server(machine):
    made = Server()
    sssd = Path("/etc/sssd/sssd.conf")
    sssd.write_text(SSSD)
    sssd.chmod(0o600)
    subprocess.run(["sssd", "-D", "--logger=files"], check=True)
    for _ in range(100):
        if command("getent", "passwd", "carol", check=False).returncode == 0:
            break
        time.sleep(0.1)
    Path("/home/carol").mkdir(exist_ok=True)
    os.chown("/home/carol", 20001, 20001)
    yield made
    os.kill(int(Path("/run/sssd.pid").read_text()), signal.SIGTERM)
    made.stop()


class DirectoryUser(User):
    def __init__(self):
        self.name, self.uid = "carol", 20001
        self.as_user = ["setpriv", "--reuid=20001", "--regid=20001", "--clear-groups"]


def authenticated(host, *answers):
    """sssd takes a while to see that the server is there again."""
    for _ in range(80):
        session = host(user="carol")
        session("answers", *answers)
        if session("authenticate") == 0:
            return session
        time.sleep(0.5)
    raise AssertionError("carol cannot log in")


@pytest.fixture
def carol(server, log, host):
    server.set_password(OLD)
    authenticated(host, OLD).kill()
    shutil.rmtree("/run/fscryptctl", ignore_errors=True)
    return DirectoryUser()


@pytest.fixture
def hers(disk, carol):
    carol.encrypt(disk / "hers")
    carol.run("lock", disk / "hers")
    return disk / "hers"


def test_the_password_is_checked_by_the_server(disk, carol):
    done = carol.run("encrypt", disk / "hers", "--create", "--source", "login", "--no-recovery-key",
                     password="another", check=False)
    assert done.returncode == 3
    (disk / "hers").mkdir(exist_ok=True)
    carol.encrypt(disk / "hers")
    assert carol.opens(disk / "hers", OLD)


def test_a_login_unlocks_and_a_logout_locks(hers, carol, host):
    session = host(user="carol").log_in(OLD)
    assert carol.unlocked(hers)
    session.log_out()
    assert not carol.unlocked(hers)


def test_a_password_changed_on_the_server_is_healed(hers, server, carol, host):
    host(user="carol").log_in(OLD).log_out()
    server.set_password(NEW)
    session = host(user="carol").log_in(NEW, OLD)
    assert HAS_CHANGED in session.questions() and carol.unlocked(hers)
    session.log_out()
    session = host(user="carol").log_in(NEW)
    assert HAS_CHANGED not in session.questions() and carol.unlocked(hers)
    session.log_out()
    assert not carol.opens(hers, OLD)


def test_the_server_is_down(hers, server, carol, host):
    """Then the last password that was used on this machine counts, here and for the protector."""
    host(user="carol").log_in(OLD).log_out()
    server.set_password(NEW)
    server.stop()
    try:
        session = host(user="carol").log_in(OLD)
        assert carol.unlocked(hers)
        session.log_out()
    finally:
        server.start()
    session = authenticated(host, NEW, OLD)
    assert session("acct_mgmt") == 0 and HAS_CHANGED in session.questions()
    assert session("open_session") == 0 and carol.unlocked(hers)
    session.log_out()
    server.stop()
    try:
        session = host(user="carol").log_in(NEW)
        assert carol.unlocked(hers) and HAS_CHANGED not in session.questions()
    finally:
        server.start()


def test_passwd_by_the_user_is_taken_over_at_the_latest_by_the_next_login(hers, server, carol, host, spawn):
    terminal = spawn(*carol.as_user, "passwd")
    for prompt, text in (("urrent", OLD), ("ew ", THIRD), ("(?i)re-?(type|enter)", THIRD)):
        terminal.expect(prompt)
        terminal.waitnoecho()
        terminal.sendline(text)
    terminal.expect("success")
    # Debian's line for pam_sss is "sufficient": nothing behind it hears of the change.
    session = host(user="carol").log_in(THIRD, OLD)
    assert carol.unlocked(hers) and carol.opens(hers, THIRD)
