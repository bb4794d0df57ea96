"""fscryptctl in a guest, and the secrets that it is given."""

PROGRAM = "/run/host/fscryptctl"
SECRETS = "/run/secrets"
# What hashing costs is tested elsewhere; a guest has one slow processor.
CHEAP_HASHING = ("--kdf-time", "1", "--kdf-memory", "1", "--kdf-lanes", "1")
CONFIGURATION = "/run/fscryptctl.yaml"


class Tool:
    """Every method runs the program once and returns what it said."""

    def __init__(self, guest):
        self.guest = guest
        guest.mkdir(SECRETS)

    def run(self, *arguments, user=None, timeout=30):
        result = self.guest.run(PROGRAM, "--json", "--config", CONFIGURATION, *arguments,
                                user=user, timeout=timeout)
        assert not result.timed_out, result
        answer = result.json
        assert answer["ok"] == (result.code == 0), result
        return result

    def start(self, *arguments, user=None):
        return self.guest.start(PROGRAM, "--json", "--config", CONFIGURATION, *arguments, user=user)

    def ok(self, *arguments, **how):
        """The answer of a command that has to succeed."""
        result = self.run(*arguments, **how)
        assert result.code == 0, result
        return result.json

    def refused(self, code, *arguments, **how):
        """The error of a command that has to end with this exit code."""
        result = self.run(*arguments, **how)
        assert result.code == code, result
        return result.json["error"]

    def secret(self, name, content, user=None):
        path = f"{SECRETS}/{name}"
        self.guest.write(path, content, user=user)
        return path

    def passphrase(self, text, user=None):
        """A file with this passphrase, named after it."""
        return self.secret(text.replace(" ", "-"), text.encode() + b"\n", user)

    def set_up(self, mountpoint, *options):
        return self.ok("setup", mountpoint, *CHEAP_HASHING, *options)

    def opens_with(self, directory, *secret, **how):
        """Whether this secret opens the directory; anything but yes or no is a failure."""
        result = self.run("unlock", "--dry-run", directory, *secret, **how)
        assert result.code in (0, 3), result
        return result.code == 0
