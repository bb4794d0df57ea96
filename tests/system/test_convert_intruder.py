"""Somebody who has the directory open when it is replaced: what she saves there afterwards stays."""

import json
import os
import subprocess
import sys

import pytest

import harness
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

# She moves her only one over a file just before that leaves the tree (it was looked at 1.2 s after the
# exchange, and its rename takes as long), and then hinders it from going
# back to its place.
HINDERER = """
import pathlib, subprocess, sys, time, os
disk = pathlib.Path(sys.argv[1])
was = os.stat(disk / "data").st_ino
while os.stat(disk / "data").st_ino == was:
    time.sleep(0.001)
os.chdir(next(disk.glob(".fscryptctl-*/tree")))
time.sleep(1.8)
os.rename(disk / "saved/0", "0")
while not list(pathlib.Path("..").glob("removing-*")):
    time.sleep(0.001)
if sys.argv[2] == "taken":
    pathlib.Path("0").write_text("second")
else:
    subprocess.run(["chattr", "+i", "."], check=True)
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
    return make_data(disk, NUMBER)


def make_data(disk, number):
    for directory, text in (("data", "old"), ("saved", "new")):
        (disk / directory).mkdir()
        for index in range(number):
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
    # However often it is tried.
    again = run(convert)
    assert again.rc == 5 and "until you have moved them away" in again.err
    assert kept(disk) == {str(index): "new" for index in saved}
    for path in next(disk.mountpoint.glob(".fscryptctl-*/tree")).iterdir():
        path.unlink()
    run.ok(convert)
    assert kernel.get_policy(data) is not None
    assert sorted(os.listdir(data), key=int) == [str(index) for index in range(NUMBER)]


@pytest.mark.parametrize("way", ["taken", "refused"])
def test_what_cannot_go_back_to_its_place_stays_however_often_it_is_tried(
        disk, run, secret, secrets, scratch, sandbox, background, way):
    data = make_data(disk, 1)
    convert = ["convert", data, "--new-passphrase-file", secret]
    hinderer = background([sys.executable, "-c", HINDERER, disk, way])
    # Each rename takes its time: the exchange, and that of the only file.
    slowly = ["-f", QUICK, "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e",
              "inject=renameat2:delay_enter=1200000:delay_exit=1200000", sandbox.install_program()]
    strace = harness.Runner("/usr/bin/strace", scratch, secrets)
    results = [strace([*slowly, *convert]), run(convert), run(convert)]
    assert hinderer.wait(10) == 0
    for result in results:
        assert result.rc == 5 and "removing-" in result.err, results
    assert "new" in kept(disk).values()
    assert way == "refused" or kept(disk)["0"] == "second"
    work = next(disk.mountpoint.glob(".fscryptctl-*"))
    subprocess.run(["chattr", "-R", "-i", work], check=True)
    for path in [*work.glob("removing-*"), *work.glob("tree/*")]:
        path.unlink()
    run.ok(convert)
    assert (data / "0").read_text() == "old" and list(disk.mountpoint.glob(".fscryptctl-*")) == []
