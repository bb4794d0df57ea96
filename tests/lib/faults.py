"""Lets a command die, stop or fail at one of its system calls, with strace."""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from typing import NamedTuple

import harness

# The first thing that the program itself does: what comes before is the loader's.
FIRST_CALL = "prctl(PR_SET_DUMPABLE"
STOPPED = re.compile(r"^(\d+) +--- stopped by SIGSTOP", re.MULTILINE)
CALL = re.compile(r"^\d+ +((\w+)\(.*)")

# Calls that change something, on the disk or in the kernel; between two of them nothing happens.
CHANGING = ("write", "fsync", "ioctl", "mkdirat", "renameat", "renameat2", "unlinkat", "fchmod",
            "fchown", "flock")
READING = ("openat", "openat2", "read", "pread64", "getdents64", "getrandom", "statx")

# The command stands still at the named calls only, not at each that it makes. A signal does not
# arrive then: strace gives it at a stop of another kind.
QUICK = "--seccomp-bpf"


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
        result = self._strace(["-f", QUICK, "-o", self._trace, "-e", f"trace=prctl,{','.join(names)}",
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

    def _words(self, args, call, fault, trace="/dev/null"):
        quick = [] if fault.startswith("signal=") else [QUICK]
        return ["-f", *quick, "-qq", "-o", trace, "-e", f"trace={call.name}", "-e",
                f"inject={call.name}:{fault}:when={call.number}", self._program, *args]

    def run(self, args, call, fault, **how):
        """The command's result; `fault` is strace's word: signal=KILL, error=EIO."""
        return self._strace(self._words(args, call, fault), **how)

    def start_to_stop(self, args, call):
        """The started process, and the file in which strace notes when the command stops."""
        self._trace.unlink(missing_ok=True)
        words = [os.fsdecode(word) for word in self._words(args, call, "signal=STOP", self._trace)]
        process = self._strace.start(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE)
        return process, self._trace


class Paused:
    """A command that stands still after one of its system calls, until it is told to go on."""

    PATIENCE_S = 20

    def __init__(self, injector, args, call):
        self._args = [os.fsdecode(word) for word in args]
        self._tracer, trace = injector.start_to_stop(self._args, call)
        self._pid = self._wait_until_stopped(trace)

    def _wait_until_stopped(self, trace):
        deadline = time.monotonic() + self.PATIENCE_S
        while time.monotonic() < deadline and self._tracer.poll() is None:
            stopped = trace.exists() and STOPPED.search(trace.read_text(errors="replace"))
            if stopped:
                return int(stopped[1])
            time.sleep(0.01)
        self.end()
        raise AssertionError(f"{self._args} does not stop: {trace.read_text(errors='replace')}")

    def end(self):
        """For good, if it is still there."""
        if self._tracer.poll() is None:
            os.killpg(self._tracer.pid, signal.SIGKILL)
            self._tracer.communicate()

    def finish(self):
        os.kill(self._pid, signal.SIGCONT)
        out, err = self._tracer.communicate(timeout=self.PATIENCE_S)
        return harness.Result(self._args, self._tracer.returncode, out, err)


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
