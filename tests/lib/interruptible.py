"""Commands that must never lose a way in, however they end; tests decide how they end."""

import os
import shutil

import harness
import kernel

DOCUMENTED = {*range(11), 130, 143}
RECORDS = ".fscryptctl/users"


def leftovers(disk):
    """Temporary files that a finished command must not leave behind."""
    return sorted((disk / RECORDS).rglob(".tmp-*"))


def records(disk):
    return sorted((disk / RECORDS).rglob("*.yaml"))


class Encryption:
    """The first `encrypt` on a filesystem, to be tried again and again."""

    def __init__(self, run, disk, key, create, owner=harness.ROOT):
        self._run, self._disk, self._key, self._owner = run, disk, key, owner
        self._create = create
        # Nobody but its owner closes an existing directory to others.
        self._mode = "0o40700" if create or owner == harness.ROOT else "0o40755"
        self.directory = disk / "private"
        self.args = ["encrypt", self.directory, "--source", "raw-key", "--new-key-file", key]
        if create:
            self.args += ["--create", "--user", owner.name]

    def prepare(self):
        """As if nothing had been tried yet."""
        shutil.rmtree(self.directory, ignore_errors=True)
        for user in (self._disk / RECORDS).iterdir():
            shutil.rmtree(user)
        if not self._create:
            self.directory.mkdir()
            self.directory.chmod(0o755)
            os.chown(self.directory, self._owner.uid, self._owner.gid)

    def encrypted(self):
        return self.directory.exists() and kernel.get_policy(self.directory) is not None

    def assert_nothing_lost(self, rc):
        if not self.encrypted():
            assert rc != 0, "it reported success, and the directory is plain"
            assert not self.directory.exists() or os.listdir(self.directory) == []
            return
        result = self._run(["unlock", "--dry-run", self.directory, "--key-file", self._key])
        assert result.rc == 0, f"encrypted, but its key does not open it: {result!r}"

    def assert_kept(self):
        """Of a command that succeeded."""
        self.assert_nothing_lost(0)

    def finish(self):
        """Repeats the command, as people do."""
        self._run.ok(self.args)
        identifier = kernel.get_policy(self.directory).key_identifier
        status = kernel.as_user(self._owner.uid, kernel.key_status, self._disk, identifier)
        assert status.added_by_self, status
        attributes = os.stat(self.directory)
        assert (attributes.st_uid, oct(attributes.st_mode)) == (self._owner.uid, self._mode)
        names = [protector["name"] for protector in
                 self._run.ok(["status", self.directory, "--json"])["protectors"]]
        assert names == ["private"]
        assert len(records(self._disk)) == 2, records(self._disk)
        if leftovers(self._disk):
            # What a command could not remove, the next one that writes removes.
            self._run.ok(["change-passphrase", self.directory, "--key-file", self._key,
                          "--new-key-file", self._key])
        assert leftovers(self._disk) == []


class PassphraseChange:
    """`change-passphrase` between two passphrases, to be tried again and again."""

    def __init__(self, run, disk, files):
        self._run, self._disk = run, disk
        self.current, self.other = files
        self.directory = disk / "private"
        run.ok(["encrypt", self.directory, "--create", "--new-passphrase-file", self.current])
        self._policy = kernel.get_policy(self.directory)

    @property
    def args(self):
        return ["change-passphrase", self.directory, "--passphrase-file", self.current,
                "--new-passphrase-file", self.other]

    def prepare(self):
        pass

    def _opens(self, file):
        result = self._run(["unlock", "--dry-run", self.directory, "--passphrase-file", file])
        assert result.rc in (0, 3), result
        return result.rc == 0

    def _swap(self):
        self.current, self.other = self.other, self.current

    def assert_nothing_lost(self, rc):
        opens = {name: self._opens(file) for name, file in
                 (("old", self.current), ("new", self.other))}
        assert list(opens.values()).count(True) == 1, opens
        assert opens["new"] or rc != 0, "it reported success, and the old passphrase opens"
        if opens["new"]:
            self._swap()

    def assert_kept(self):
        """Of a command that succeeded."""
        assert self._opens(self.current) and not self._opens(self.other)

    def finish(self):
        self._run.ok(self.args)
        self._swap()
        self.assert_kept()
        assert kernel.get_policy(self.directory) == self._policy
        assert len(records(self._disk)) == 2, records(self._disk)
        assert leftovers(self._disk) == []
