"""A root filesystem of a test's own, with Debian's `fscrypt` program on it.

That program keeps its configuration in /etc and login protectors in /.fscrypt: here both are the
test's. `chroot` lets it see this filesystem as "/" and no other mount of the machine.
"""

import os
import subprocess

import harness

LOGIN_PASSWORD = "login secret"


class PrivateRoot:
    """An ext4 filesystem that programs can be run on as if it were the machine's root."""

    def __init__(self, filesystem, program):
        self.path = filesystem.mountpoint
        for name in ("usr", "proc", "dev", "sys", "tmp", "mnt", "run", "var", "root", "home"):
            (self.path / name).mkdir()
        for name in ("bin", "lib", "lib64", "sbin"):
            (self.path / name).symlink_to(f"usr/{name}")
        harness.command("cp", "-a", "/etc", self.path / "etc")
        for name in ("fscrypt.conf", "fscryptctl.yaml"):
            (self.path / "etc" / name).unlink(missing_ok=True)
        harness.command("mount", "--bind", "/usr", self.path / "usr")
        harness.command("mount", "-t", "proc", "proc", self.path / "proc")
        harness.command("mount", "--bind", "/dev", self.path / "dev")
        harness.command("mount", "--bind", "/sys", self.path / "sys")
        harness.command("cp", program, self.path / "fscryptctl")
        self.set_password(harness.ALICE, LOGIN_PASSWORD)
        self.set_password(harness.BOB, LOGIN_PASSWORD)

    def set_password(self, user, password):
        hashed = harness.command("openssl", "passwd", "-6", "-salt", "saltsalt", password).strip()
        shadow = self.path / "etc/shadow"
        lines = [line.split(":") for line in shadow.read_text().splitlines()]
        for fields in lines:
            if fields[0] == user.name:
                fields[1] = hashed
        shadow.write_text("".join(":".join(fields) + "\n" for fields in lines))

    def attach(self, filesystem, name="mnt"):
        """Shows a mounted filesystem below this root, and only there."""
        (self.path / name).mkdir(exist_ok=True)
        harness.command("mount", "--move", filesystem, self.path / name)
        return f"/{name}"

    def inside(self, path):
        """Where a path of this root is outside of it."""
        return self.path / str(path).lstrip("/")

    def words(self, words, user=None):
        who = [] if user is None else [f"--userspec={user.uid}:{user.gid}", "--groups="]
        return ["chroot", *who, str(self.path), *(os.fsdecode(word) for word in words)]


class OldTool:
    """Debian's `fscrypt`, on the machine's root or on a private one."""

    def __init__(self, root=None):
        self.root = root

    def __call__(self, *args, stdin="", user=None, check=True):
        words = ["fscrypt", *(os.fsdecode(arg) for arg in args), "--quiet"]
        identity = {}
        if self.root is not None:
            words = self.root.words(words, user)
        elif user is not None:
            identity = {"user": user.uid, "group": user.gid, "extra_groups": []}
        environment = {"PATH": harness.PATH, "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60,
                              env=environment, start_new_session=True, check=False, **identity)
        if check:
            assert done.returncode == 0, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def set_up(self, *mount_points):
        """Its configuration, with hashing that costs next to nothing, and its directories."""
        self("setup", "--time=1ms", "--all-users")
        for mount_point in mount_points:
            self("setup", mount_point, "--all-users")

    def encrypt(self, directory, passphrase, name="mine", user=None, **how):
        return self("encrypt", directory, "--source=custom_passphrase", f"--name={name}",
                    stdin=f"{passphrase}\n", user=user, **how)

    def opens(self, directory, passphrase, user=None, protector=None):
        choice = [f"--unlock-with={protector}"] if protector else []
        done = self("unlock", directory, *choice, stdin=f"{passphrase}\n", user=user, check=False)
        if done.returncode == 0:
            self("lock", directory, user=user)
        return done.returncode == 0


class RunnerInside(harness.Runner):
    """The program under test on a private root."""

    def __init__(self, root, secrets):
        super().__init__("/fscryptctl", root.path, secrets)
        self.root = root

    def start(self, args, user=None, env=None, cwd=None, **streams):
        environment = self.environment({"FSCRYPTCTL_CONFIG": None, **(env or {})})
        return subprocess.Popen(self.root.words([self._program, *args], user), env=environment,
                                cwd="/", start_new_session=True, **streams)
