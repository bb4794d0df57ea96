"""File system images, made and examined on the host without mounting them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 64 << 20


@dataclass(frozen=True)
class Disk:
    image: Path
    kind: str
    mount_options: str

    def problems(self):
        """What the file system checker finds wrong; empty when the file system is clean."""
        checker = {"ext4": ["e2fsck", "-f", "-n"], "f2fs": ["fsck.f2fs", "--dry-run"]}[self.kind]
        done = subprocess.run([*checker, self.image], capture_output=True, check=False)
        return "" if done.returncode == 0 else (done.stdout + done.stderr).decode()


def blank(image):
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    return image


def copy(source, target):
    """In place: a guest that has the target open sees the new contents. Holes stay holes, so that
    only what was ever written is copied."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def make_ext4(image, features="encrypt,stable_inodes,quota"):
    options = ["-E", "quotatype=usrquota"] if "quota" in features else []
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-O", features, *options, blank(image)],
                   check=True)
    return Disk(image, "ext4", "usrquota" if "quota" in features else "")


def make_f2fs(image, features="encrypt,extra_attr,quota", options=()):
    subprocess.run(["mkfs.f2fs", "-q", "-f", "-O", features, *options, blank(image)], check=True,
                   stdout=subprocess.DEVNULL)
    return Disk(image, "f2fs", "usrquota" if "quota" in features else "")


MAKERS = {"ext4": make_ext4, "f2fs": make_f2fs}


class Volume:
    """A disk mounted in a guest; its text is the mount point."""

    def __init__(self, guest, device, disk):
        self.guest, self.device, self.disk = guest, device, disk
        self.mountpoint = f"/mnt/{device.rpartition('/')[2]}"
        self.mounted = False
        guest.mkdir(self.mountpoint)
        self.mount()

    def __str__(self):
        return self.mountpoint

    def __truediv__(self, name):
        return f"{self.mountpoint}/{name}"

    def mount(self):
        self.guest.mount(self.device, self.mountpoint, self.disk.kind, self.disk.mount_options)
        self.mounted = True

    def unmount(self):
        self.guest.check("umount", self.mountpoint)
        self.mounted = False

    def remount(self):
        """Unmounting takes all keys of the file system out of the kernel."""
        self.unmount()
        self.mount()
