"""Somebody who has the directory open when it is replaced: what she saves there afterwards stays."""

import json
import os
import subprocess
import sys

import pytest

import kernel
from faults import QUICK

NUMBER = 3000
# What she saves is older than the conversion, and is moved over what is there, as editors do. She
# begins when the first file of the original has gone.
INTRUDER = """
import json, os, pathlib, sys, time
disk, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])
was = os.stat(disk / "data").st_ino
print("ready", flush=True)
while os.stat(disk / "data").st_ino == was:
    time.sleep(0.001)
os.chdir(next(disk.glob(".fscryptctl-*/tree")))
full = os.stat(".").st_mtime_ns
while os.stat(".").st_mtime_ns == full:
    pass
saved = []
for index in range(number):
    try:
        os.rename(disk / f"saved/{index}", str(index))
        saved.append(index)
    except FileNotFoundError:
        pass
print(json.dumps(saved))
"""


@pytest.fixture
def disk(make_filesystem, set_up):
    made = make_filesystem(size_mib=256)
    set_up(made)
    return made


@pytest.fixture
def secret(passphrase_file):
    return passphrase_file("correct horse")


@pytest.fixture
def data(disk):
    for directory, text in (("data", "old"), ("saved", "new")):
        (disk / directory).mkdir()
        for index in range(NUMBER):
            (disk / directory / str(index)).write_text(text)
    return disk / "data"


def kept(disk):
    """What is left of the original: the texts by name."""
    found = {}
    for work in disk.mountpoint.glob(".fscryptctl-*"):
        for path in [*work.glob("tree/*"), *work.glob("removing-*")]:
            found[path.name] = path.read_text()
    return found


def test_what_is_saved_while_the_original_goes_is_kept(disk, data, run, secret, sandbox):
    convert = ["convert", data, "--new-passphrase-file", secret, "--no-verify"]
    # Enough time to get in after the exchange.
    words = ["strace", "-f", QUICK, "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e",
             "inject=renameat2:delay_exit=500000:when=1", sandbox.program, *convert]
    script = '"$1" -c "$2" "$3" "$4" & shift 4; sleep 0.5; "$@"; rc=$?; wait; exit $rc'
    result = subprocess.run(["sh", "-c", script, "sh", sys.executable, INTRUDER, str(disk),
                             str(NUMBER), *map(str, words)],
                            capture_output=True, text=True, timeout=60, check=False)
    ready, saved = result.stdout.splitlines()[0], json.loads(result.stdout.splitlines()[-1])
    assert ready == "ready" and len(saved) > NUMBER / 10, result
    assert result.returncode == 5 and "until you have moved them away" in result.stderr
    assert kept(disk) == {str(index): "new" for index in saved}
    for path in next(disk.mountpoint.glob(".fscryptctl-*/tree")).iterdir():
        path.unlink()
    run.ok(convert)
    assert kernel.get_policy(data) is not None
    assert sorted(os.listdir(data), key=int) == [str(index) for index in range(NUMBER)]
