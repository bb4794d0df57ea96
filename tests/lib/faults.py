"""Lets a command die, stop or fail at one of its system calls, with strace."""

import re
from collections import Counter
from typing import NamedTuple

import harness

# The first thing that the program itself does: what comes before is the loader's.
FIRST_CALL = "prctl(PR_SET_DUMPABLE"
CALL = re.compile(r"^\d+ +((\w+)\(.*)")

# Calls that change something, on the disk or in the kernel; between two of them nothing happens.
CHANGING = ("write", "fsync", "ioctl", "mkdirat", "renameat", "renameat2", "unlinkat", "fchmod",
            "fchown", "flock")
READING = ("openat", "openat2", "read", "pread64", "getdents64", "getrandom", "statx")


class Call(NamedTuple):
    """The number-th call of this name that a process makes."""
    name: str
    number: int

    def __str__(self):
        return f"{self.name} number {self.number}"


class FaultInjector:
    """Runs the program under strace."""

    def __init__(self, program, scratch, secrets):
        self._program = str(program)
        self._strace = harness.Runner("/usr/bin/strace", scratch, secrets)
        self._trace = scratch / "trace"

    def calls(self, args, names):
        """The calls of these names that the command makes when all goes well, in their order."""
        result = self._strace(["-f", "-o", self._trace, "-e", f"trace=prctl,{','.join(names)}",
                               self._program, *args])
        assert result.rc == 0, result
        found, counts, begun = [], Counter(), False
        for line in self._trace.read_text(errors="replace").splitlines():
            call = CALL.match(line)
            begun = begun or FIRST_CALL in line
            if call:
                counts[call[2]] += 1
                if begun and call[2] in names:
                    found.append(Call(call[2], counts[call[2]]))
        assert found, f"none of {names} in {result!r}"
        return found

    def words(self, args, call, fault):
        """The strace command line for run()."""
        return ["-f", "-qq", "-o", "/dev/null", "-e", f"trace={call.name}",
                "-e", f"inject={call.name}:{fault}:when={call.number}", self._program, *args]

    def run(self, args, call, fault):
        """The command's result; `fault` is strace's word: signal=KILL, error=EIO."""
        return self._strace(self.words(args, call, fault))

    def start(self, args, call, fault, **streams):
        return self._strace.start([str(word) for word in self.words(args, call, fault)], **streams)


def sample(calls, most):
    """At most so many calls of each name, evenly spread."""
    chosen = []
    for name in dict.fromkeys(call.name for call in calls):
        same = [call for call in calls if call.name == name]
        count = min(most, len(same))
        chosen += [same[index * len(same) // count] for index in range(count)]
    return chosen


def check_each(items, check):
    """Checks all of them and reports all that failed."""
    failures = []
    for item in items:
        try:
            check(item)
        except AssertionError as failure:
            failures.append(f"{item}: {failure}")
    assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures)
