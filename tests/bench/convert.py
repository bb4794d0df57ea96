"""How long `convert` takes beside `cp -a` of the same tree into an encrypted directory.

Interleaved pairs on one loop filesystem, source in the page cache for both; the figure is the median
of the pairs' ratios. cp's side ends with a sync of the filesystem, as convert's does; convert also
scans, looks for changes and removes the original, which cp does not.

The last line of a tree is what verification cannot do without on this machine: reading the encrypted
copy back from the disk, which the kernel has to decrypt, by several readers and nothing else.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SMALL_FILES = 20_000
LARGE_FILES, LARGE_SIZE = 8, 128 << 20
DISK_SIZE = 6 << 30
READERS = 8


def command(*words, **how):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, **how)


def make_small(root):
    for number in range(SMALL_FILES):
        directory = root / f"{number % 200}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file{number}").write_bytes(os.urandom(200 + number % 8000))


def make_large(root):
    root.mkdir()
    for number in range(LARGE_FILES):
        with open(root / f"file{number}", "wb") as file:
            for _ in range(LARGE_SIZE >> 20):
                file.write(os.urandom(1 << 20))


class Bench:
    def __init__(self, program, disk, secret):
        self._program, self._disk, self._secret = program, disk, secret

    def _tool(self, *words):
        command(self._program, *words, stderr=subprocess.DEVNULL)

    @staticmethod
    def _read(tree):
        """Into the page cache."""
        for directory, _, files in os.walk(tree):
            for name in files:
                read_file(os.path.join(directory, name))

    def _encrypted(self):
        target = self._disk / "copied"
        self._tool("encrypt", target, "--create", "--new-passphrase-file", self._secret)
        return target

    def read_back(self, source):
        """Beside cp's time of the same pair."""
        target = self._encrypted()
        self._read(source)
        start = time.monotonic()
        command("cp", "-a", f"{source}/.", target)
        command("sync", "-f", target)
        copied = time.monotonic()
        paths = [path for path in target.rglob("*") if path.is_file()]
        Path("/proc/sys/vm/drop_caches").write_text("1")
        begun = time.monotonic()
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(read_file, paths))
        seconds = time.monotonic() - begun
        shutil.rmtree(target)
        return copied - start, seconds

    def cp(self, source):
        target = self._encrypted()
        self._read(source)
        start = time.monotonic()
        command("cp", "-a", f"{source}/.", target)
        command("sync", "-f", target)
        seconds = time.monotonic() - start
        shutil.rmtree(target)
        return seconds

    def convert(self, source, *options):
        """The same tree again: what is converted is a plain copy."""
        plain = self._disk / "plain"
        command("cp", "-a", source, plain)
        command("sync", "-f", plain)
        self._read(plain)
        start = time.monotonic()
        self._tool("convert", plain, "--new-passphrase-file", self._secret, *options)
        seconds = time.monotonic() - start
        shutil.rmtree(plain)
        return seconds


def read_file(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def report(name, theirs, ours):
    ratios = [our / their for our, their in zip(ours, theirs)]
    print(f"| {name} | {statistics.median(ours):.2f} s | {statistics.median(theirs):.2f} s | "
          f"{statistics.median(ratios):.2f} |", flush=True)


def main():
    program, pairs = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    directory = Path(tempfile.mkdtemp(prefix="fscryptctl-bench-"))
    image, disk, secret = directory / "image", directory / "disk", directory / "secret"
    os.environ["FSCRYPTCTL_CONFIG"] = str(directory / "config")
    try:
        secret.write_text("correct horse\n")
        with open(image, "wb") as file:
            file.truncate(DISK_SIZE)
        command("mkfs.ext4", "-q", "-F", "-O", "encrypt", image)
        disk.mkdir()
        command("mount", "-o", "loop", image, disk)
        command(program, "setup", disk, "--kdf-time", "1", "--kdf-memory", "1", "--kdf-lanes", "1",
                stderr=subprocess.DEVNULL)
        bench = Bench(program, disk, secret)
        print("| tree | convert | cp -a | ratio |\n|---|---|---|---|")
        for name, make in ((f"{SMALL_FILES:,} small files", make_small),
                           (f"{LARGE_FILES * LARGE_SIZE >> 20} MiB in {LARGE_FILES} files", make_large)):
            source = disk / "source"
            make(source)
            for options in (["--no-verify"], [], ["--low-space"]):
                theirs, ours = [], []
                for _ in range(pairs):
                    theirs.append(bench.cp(source))
                    ours.append(bench.convert(source, *options))
                report(f"{name}, {' '.join(options) or 'verified'}", theirs, ours)
            theirs, ours = zip(*(bench.read_back(source) for _ in range(pairs)))
            report(f"{name}, reading it back alone", theirs, ours)
            shutil.rmtree(source)
    finally:
        subprocess.run(["umount", disk], check=False)
        shutil.rmtree(directory)


main()
