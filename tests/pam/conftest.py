"""A machine to log in to: the stage runs inside tests/pam/enter, where everything may be changed."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pexpect
import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RELEASE = Path(os.environ.get("FSCRYPTCTL", REPOSITORY / "build/release/fscryptctl")).parent
PROGRAM = "/usr/local/bin/fscryptctl"
OLD, NEW = "correct horse", "battery staple"
DOMAIN_PASSWORDS = ("First-passw0rd", "Second-passw0rd", "Third-passw0rd")
CHEAP = ["--kdf-time", "1", "--kdf-memory", "1", "--kdf-lanes", "1"]
ERROR, INFO = 3, 4  # styles of PAM's messages
HIDDEN = 1
HAS_CHANGED = ("Your login password has changed. Previous password or recovery key "
               "(Enter to skip): ")


def command(*words, check=True, **how):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60,
                          **{"stdin": None if "input" in how else subprocess.DEVNULL, **how})
    assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def set_password(user, password):
    """By root, who does not know the previous one."""
    command("chpasswd", input=f"{user}:{password}\n")


def use_pam_profiles(*how):
    """Of Debian's profiles, with words for pam-auth-update."""
    command("pam-auth-update", "--package", "--force", *how,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    # A wrong password would keep every test waiting.
    for name in ("login", "common-auth"):
        file = Path("/etc/pam.d") / name
        file.write_text(re.sub(r"pam_unix.so nullok(?! nodelay)", "pam_unix.so nullok nodelay",
                               file.read_text()).replace("pam_faildelay.so", "pam_faildelay.so delay=0 #"))


class Log(threading.Thread):
    """What programs say to syslog."""

    def __init__(self):
        super().__init__(daemon=True)
        self.lines = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        Path("/dev/log").unlink(missing_ok=True)
        self.socket.bind("/dev/log")
        os.chmod("/dev/log", 0o666)

    def run(self):
        while True:
            self.lines.append(self.socket.recv(65536).decode(errors="replace"))

    def text(self):
        time.sleep(0.05)
        return "\n".join(line for line in self.lines if "pam_fscryptctl" in line)


class Disk:
    def __init__(self, number):
        self.image, self.mountpoint = Path(f"/tmp/disk{number}"), Path(f"/disk{number}")
        with open(self.image, "wb") as image:
            image.truncate(64 << 20)
        command("mkfs.ext4", "-q", "-F", "-O", "encrypt", self.image)
        self.mountpoint.mkdir(exist_ok=True)
        command("mount", "-o", "loop", self.image, self.mountpoint)

    def __truediv__(self, name):
        return self.mountpoint / name

    def __str__(self):
        return str(self.mountpoint)

    def records(self, user):
        return self.mountpoint / f".fscryptctl/users/{user.uid}"

    def remove(self):
        command("umount", "-l", self.mountpoint)
        self.image.unlink()


class User:
    def __init__(self, name):
        self.name = name
        self.uid = int(command("id", "-u", name).stdout)
        self.as_user = ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"]

    def run(self, *words, password=None, check=True, user=None):
        """fscryptctl as this user; a password is its standard input."""
        words = [*self.as_user, PROGRAM, *map(str, words)]
        return command(*words, check=check, cwd="/",
                       **({} if password is None else {"input": password + "\n"}))

    def state(self, directory):
        return json.loads(self.run("status", directory, "--json").stdout)

    def unlocked(self, directory):
        return self.state(directory)["key_status"] == "present"

    def encrypt(self, directory, *more, password=OLD):
        directory.mkdir(exist_ok=True)
        os.chown(directory, self.uid, self.uid)
        return self.run("encrypt", directory, "--source", "login", "--no-recovery-key",
                        "--passphrase-file", "-", *more, password=password)

    def opens(self, directory, password):
        done = self.run("unlock", directory, "--dry-run", password=password, check=False)
        assert done.returncode in (0, 3), done
        return done.returncode == 0


class Host:
    """A login program (host.py)."""

    def __init__(self, service, user):
        self.process = subprocess.Popen(["/usr/bin/python3", HERE / "host.py"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.service, self.user = service, user
        self.said = []
        self.seconds = 0.0
        self("start", service, user)

    def __call__(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.said, self.seconds = answer["said"], answer["seconds"]
        return answer["result"]

    def log_in(self, *answers):
        """Everything that `login` does up to the session; each step must succeed."""
        self("answers", *answers)
        said, seconds = [], 0.0
        for step in ("authenticate", "acct_mgmt", "open_session"):
            assert self(step) == 0, (step, said + self.said)
            said += self.said
            seconds += self.seconds
        self.said, self.seconds = said, seconds
        return self

    def log_out(self):
        assert self("close_session") == 0
        self("end")
        self.process.stdin.close()
        self.process.wait(10)

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def questions(self):
        return [text for style, text in self.said if style == HIDDEN]


@pytest.fixture(scope="session")
def machine():
    assert socket.gethostname() == "throw-away", "these tests change the machine: see tests/pam/enter"
    log = Log()
    log.start()
    # Where PAM looks for modules and services is for the installation to know.
    command("cmake", "--install", RELEASE)
    assert Path(PROGRAM).exists()
    # Another program's module of the same kind, if it is installed.
    Path("/usr/share/pam-configs/fscrypt").unlink(missing_ok=True)
    use_pam_profiles("--enable", "fscryptctl")
    for name in ("alice", "bob"):
        command("useradd", "--create-home", "--shell", "/bin/bash", name)
    command(PROGRAM, "setup", *CHEAP)
    return log


@pytest.fixture
def log(machine):
    machine.lines.clear()
    yield machine
    for secret in (OLD, NEW, *DOMAIN_PASSWORDS):
        assert not any(secret in line for line in machine.lines), "a password stands in the log"


@pytest.fixture
def disk(log):
    made = Disk(1)
    command(PROGRAM, "setup", made, "--all-users")
    yield made
    made.remove()


@pytest.fixture
def second_disk(disk):
    made = Disk(2)
    command(PROGRAM, "setup", made, "--all-users")
    yield made
    made.remove()


@pytest.fixture
def alice(log):
    shutil.rmtree("/run/fscryptctl", ignore_errors=True)
    set_password("alice", OLD)
    command("chage", "-d", "2025-01-01", "-M", "99999", "alice")
    return User("alice")


@pytest.fixture
def bob(log):
    set_password("bob", "bobs own password")
    return User("bob")


@pytest.fixture
def private(disk, alice):
    """A directory of alice's that opens with her login password, locked."""
    alice.encrypt(disk / "private")
    command(*alice.as_user, "tee", disk / "private/letter", input="dear diary")
    alice.run("lock", disk / "private")
    return disk / "private"


@pytest.fixture
def host():
    """host(SERVICE, USER): a login program."""
    started = []

    def start(service="login", user="alice"):
        started.append(Host(service, user))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def spawn():
    """spawn(WORDS...): a program on a terminal."""
    started = []

    def start(*words, **how):
        started.append(pexpect.spawn(str(words[0]), [str(word) for word in words[1:]], timeout=20,
                                     encoding="utf-8", **how))
        return started[-1]

    yield start
    for one in started:
        one.close(force=True)
