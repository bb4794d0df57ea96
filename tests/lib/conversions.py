"""A conversion to be cut off at any point; what must then still be true, and that it goes on."""

import os
import random
import shutil

import kernel
import trees

RECORDS = ".fscryptctl/users"


class Conversion:
    """`convert`, `reencrypt` or `decrypt` of the same small tree, again and again."""

    def __init__(self, run, disk, command, secret, new_secret, low_space=False):
        self._run, self._disk, self._command = run, disk, command
        self._secret, self._new_secret = secret, new_secret
        self.directory = disk / "data"
        self.args = [command, self.directory]
        if command != "decrypt":
            self.args += ["--new-passphrase-file", new_secret]
        if low_space:
            self.args.append("--low-space")
        self._before = None

    def prepare(self):
        """As if nothing had been tried yet."""
        self._clear()
        if self._command != "convert":
            self._run.ok(["encrypt", self.directory, "--create", "--new-passphrase-file",
                          self._secret])
        make_small_tree(self.directory)
        trees.sync(self._disk)
        self._before = trees.snapshot(self.directory)

    def _clear(self):
        for name in os.listdir(self._disk):
            if name == "data" or name.startswith(".fscryptctl-"):
                shutil.rmtree(self._disk / name)
        for user in (self._disk / RECORDS).iterdir():
            shutil.rmtree(user)

    def _unlock(self):
        """After a power cut, whatever is encrypted is locked; one of its secrets opens it."""
        policy = kernel.get_policy(self.directory)
        if policy is None or kernel.key_status(self._disk, policy.key_identifier).state == "present":
            return
        results = [self._run(["unlock", self.directory, "--passphrase-file", secret])
                   for secret in (self._secret, self._new_secret)]
        assert any(result.rc == 0 for result in results), results

    def assert_nothing_lost(self, rc):
        if rc == 0:
            self._unlock()
            self._assert_done()

    def _assert_done(self):
        after = trees.snapshot(self.directory)
        assert after == self._before, trees.differences(self._before, after)
        assert (kernel.get_policy(self.directory) is None) == (self._command == "decrypt")

    def assert_kept(self):
        """Of a command that succeeded."""
        self.assert_nothing_lost(0)

    def finish(self):
        """Repeats the command, as people do; with the secret that the directory has by now."""
        policy = kernel.get_policy(self.directory)
        args = [*self.args, "--passphrase-file", self._secret]
        if self._command == "convert" and policy is not None and not self._unfinished():
            self._unlock()
            return self._assert_clean()
        result = self._run(args)
        if self._command == "reencrypt" and result.rc == 3:
            result = self._run(self.args)
        if self._command == "decrypt" and policy is None and not self._unfinished():
            # It was done, and this time there was nothing to do.
            assert result.rc in (0, 4), result
        else:
            assert result.rc == 0, result
        self._assert_clean()

    def _unfinished(self):
        return self._run.ok([self._command, self.directory, "--status", "--json"])["resumable"]

    def _assert_clean(self):
        self._assert_done()
        left = [name for name in os.listdir(self._disk) if name.startswith(".fscryptctl-")]
        assert left == [], left
        for user in (self._disk / RECORDS).iterdir():
            for path in user.rglob("*.yaml"):
                assert "operation" not in str(path) and "\noperation:" not in path.read_text(), path

    def check_way_back(self):
        """--cancel gives the original, or says that it is too late."""
        result = self._run([self._command, self.directory, "--cancel", "--passphrase-file",
                            self._secret if self._command == "decrypt" else self._new_secret])
        assert result.rc in (0, 4, 9), result
        if result.rc == 0:
            after = trees.snapshot(self.directory)
            assert after == self._before, trees.differences(self._before, after)
        return result.rc


def make_small_tree(root):
    """A few things of each kind, of which each step of a conversion takes some."""
    root.mkdir(exist_ok=True)
    rng = random.Random(7)
    (root / "file").write_bytes(rng.randbytes(10_000))
    (root / "empty").touch()
    (root / "sub/inner").mkdir(parents=True)
    (root / "sub/inner/deep").write_bytes(b"deep")
    os.link(root / "file", root / "sub/second")
    os.symlink("file", root / "link")
    os.mkfifo(root / "sub/fifo")
    os.setxattr(root / "sub", "user.note", b"note")
    (root / "sub").chmod(0o750)
    for directory, names, files in os.walk(root, topdown=False):
        for number, name in enumerate(names + files):
            os.utime(os.path.join(directory, name), ns=(10**18 + number, 10**18 + 5 + number),
                     follow_symlinks=False)
    os.utime(root, ns=(10**18, 10**18))
