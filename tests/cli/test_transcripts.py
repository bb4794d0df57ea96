"""What people read: each file in transcripts/ is a session at a shell, replayed and compared.

A line that starts with "$ " is typed; what follows is what it prints, standard error included, and
"[N]" after a failure with exit code N. "#" starts a comment. Ids, keys, days, devices, process ids and
the scratch directory differ from run to run and stand as <id>, <key>, <day>, <device>, <pid>, <disk>, <free>. To write the files
anew after a change that is meant: FSCRYPTCTL_WRITE_TRANSCRIPTS=1.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
CHEAP_HASHING = "kdf:\n  passes: 1\n  memory_kib: 64\n  lanes: 1\n"


def test_there_are_transcripts():
    assert TRANSCRIPTS


def normalised(text, disk):
    text = text.replace(str(disk), "<disk>")
    text = re.sub(r"/dev/loop\d+ *", "<device> ", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "<key>", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "<id>", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\d\b", "<day>", text)
    text = re.sub(r"^\d+(?= +root)", "<pid>", text, flags=re.MULTILINE)
    text = re.sub(r"[\d.]+ [MG]B free", "<free> free", text)
    # Root may be kept from looking at some processes of the machine that runs the tests.
    text = text.replace("note: some processes could not be looked at\n", "")
    # Columns are as wide as the scratch directory's name.
    return re.sub(r" {2,}", "  ", text)


def replay(transcript, shell):
    lines = []
    for line in transcript.read_text().splitlines():
        if line.startswith(("$ ", "#")):
            lines.append(line)
        if line.startswith("$ "):
            lines += shell(line[2:])
    return lines


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(transcript, sandbox, filesystem, run):
    program = sandbox.install_program()
    run.config.write_text(CHEAP_HASHING)
    environment = run.environment({"PATH": f"{program.parent}:{run.environment()['PATH']}"})

    def shell(line):
        done = subprocess.run(["bash", "-c", line], cwd=filesystem, env=environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, start_new_session=True)
        output = normalised(done.stdout, filesystem.mountpoint).splitlines()
        return output + ([f"[{done.returncode}]"] if done.returncode else [])

    replayed = replay(transcript, shell)
    if os.environ.get("FSCRYPTCTL_WRITE_TRANSCRIPTS"):
        transcript.write_text("\n".join(replayed) + "\n")
    assert replayed == transcript.read_text().splitlines()
