"""Users of an Active Directory domain: a Samba domain controller on this machine's loopback, which
its own winbind logs in to."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import HAS_CHANGED, User, command

OLD, NEW, THIRD = "First-passw0rd", "Second-passw0rd", "Third-passw0rd"
NAME = "LAB\\dave"


class Domain:
    def __init__(self):
        command("hostname", "dc1")
        with open("/etc/hosts", "a") as hosts:
            hosts.write("127.0.0.1 dc1.lab.test dc1\n")
        Path("/etc/samba/smb.conf").unlink(missing_ok=True)
        Path("/run/samba").mkdir(exist_ok=True)
        command("samba-tool", "domain", "provision", "--realm=LAB.TEST", "--domain=LAB",
                "--server-role=dc", "--dns-backend=NONE", "--adminpass=Passw0rd-Adm",
                "--option=interfaces=lo", "--option=bind interfaces only=yes",
                "--option=template shell=/bin/bash", "--host-ip=127.0.0.1")
        Path("/etc/krb5.conf").write_text(
            "[libdefaults]\n default_realm=LAB.TEST\n dns_lookup_kdc=false\n dns_lookup_realm=false\n"
            "[realms]\n LAB.TEST={\n kdc=127.0.0.1\n kpasswd_server=127.0.0.1\n"
            " admin_server=127.0.0.1\n}\n")
        self.process = subprocess.Popen(["samba", "-F", "--no-process-group"],
                                        start_new_session=True, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        command("samba-tool", "user", "create", "dave", OLD)
        for _ in range(150):
            done = command("id", "-u", NAME, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.2)
        raise AssertionError("the domain controller does not answer")

    @staticmethod
    def set_password(password):
        command("samba-tool", "user", "setpassword", "dave", f"--newpassword={password}")


@pytest.fixture(scope="module")
def domain(machine):
    made = Domain()
    yield made
    os.killpg(made.process.pid, signal.SIGTERM)
    made.process.wait(20)
    command("hostname", "throw-away")


class DomainUser(User):
    def __init__(self):
        self.name, self.uid = NAME, int(command("id", "-u", NAME).stdout)
        self.as_user = ["setpriv", f"--reuid={self.uid}", "--regid=100", "--clear-groups"]


@pytest.fixture
def dave(domain, log):
    shutil.rmtree("/run/fscryptctl", ignore_errors=True)
    return DomainUser()


def test_a_domain_user_s_password_is_changed_on_the_domain_controller(disk, domain, dave, host):
    done = dave.run("encrypt", disk / "x", "--create", "--source", "login", "--no-recovery-key",
                    password="another", check=False)
    assert done.returncode == 3, done
    dave.encrypt(disk / "his", password=OLD)
    dave.run("lock", disk / "his")
    session = host(user=NAME).log_in(OLD)
    assert dave.unlocked(disk / "his") and HAS_CHANGED not in session.questions()
    session.log_out()
    assert not dave.unlocked(disk / "his")
    domain.set_password(NEW)
    session = host(user=NAME).log_in(NEW, OLD)
    assert HAS_CHANGED in session.questions() and dave.unlocked(disk / "his")
    session.log_out()
    session = host(user=NAME).log_in(NEW)
    assert HAS_CHANGED not in session.questions() and dave.unlocked(disk / "his")
    session.log_out()
    assert dave.opens(disk / "his", NEW) and not dave.opens(disk / "his", OLD)
