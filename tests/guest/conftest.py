"""Guests for the tests in this folder.

FSCRYPTCTL_UML_KERNEL names a User-Mode Linux kernel (plain or packed with zstd; ./build-kernel
makes one), FSCRYPTCTL the program under test. Without a kernel nothing here can run: that is a
failure where CI=true, and a skip that is announced at the end everywhere else.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

import disks
from guest import MEMORY_BACKED_FOLDER, Guest, unpacked_kernel
from tool import Tool

KERNEL_VARIABLE = "FSCRYPTCTL_UML_KERNEL"
REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = ("kernel.py", "trees.py", "conversions.py")
MACHINE = ("ext4", "f2fs")


def pytest_terminal_summary(terminalreporter):
    if not os.environ.get(KERNEL_VARIABLE):
        terminalreporter.section("NO TEST IN A GUEST KERNEL WAS RUN", red=True)
        terminalreporter.line(f"{KERNEL_VARIABLE} names no kernel: see tests/guest/build-kernel")


@pytest.fixture(scope="session")
def kernel_source():
    name = os.environ.get(KERNEL_VARIABLE)
    if name:
        return Path(name).resolve(strict=True)
    message = f"{KERNEL_VARIABLE} does not name a guest kernel"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def folder(kernel_source):
    """A folder in memory for images and programs, readable by the guest's ordinary users."""
    path = Path(tempfile.mkdtemp(prefix="fscryptctl-tests-", dir=MEMORY_BACKED_FOLDER))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def uml_kernel(kernel_source, folder):
    return unpacked_kernel(kernel_source, folder)


@pytest.fixture(scope="session")
def programs(folder):
    """The folder that guests see at /run/host: the program under test, and the modules that speak
    ioctls and make trees."""
    program = Path(os.environ.get("FSCRYPTCTL", REPOSITORY / "build/release/fscryptctl"))
    assert program.is_file(), f"{program} is not there: build it or set FSCRYPTCTL"
    shared = folder / "programs"
    shared.mkdir(mode=0o755)
    shutil.copy(program, shared / "fscryptctl")
    for module in MODULES:
        shutil.copy(REPOSITORY / "tests/lib" / module, shared)
    return shared


@pytest.fixture(scope="session")
def boot(uml_kernel, programs):
    """boot(disks): a guest with these disks as /dev/ubda and so on, and the program."""
    return lambda attached=(): Guest(uml_kernel, [disk.image for disk in attached], programs)


@pytest.fixture(scope="module")
def machine_disks(folder):
    return {kind: disks.MAKERS[kind](folder / f"machine-{kind}") for kind in MACHINE}


@pytest.fixture(scope="module")
def machine(boot, machine_disks):
    """One guest for all tests of a file, with an ext4 and an f2fs that can encrypt."""
    with boot(machine_disks.values()) as guest:
        yield guest


@pytest.fixture(scope="module")
def tool(machine):
    return Tool(machine)


@pytest.fixture(scope="module")
def volumes(machine, machine_disks, tool):
    """The machine's file systems, mounted and set up."""
    mounted = {}
    for device, (kind, disk) in zip(("/dev/ubda", "/dev/ubdb"), machine_disks.items()):
        mounted[kind] = disks.Volume(machine, device, disk)
        tool.set_up(mounted[kind])
    return mounted


@pytest.fixture
def ext4(volumes):
    return volumes["ext4"]


@pytest.fixture(params=MACHINE)
def volume(request, volumes):
    """Each of the machine's file systems in turn."""
    return volumes[request.param]


@pytest.fixture
def fresh(request):
    """A name that no other test uses."""
    return re.sub(r"\W+", "-", request.node.name).strip("-")


@pytest.fixture(params=[(), ("--low-space",)], ids=["copy", "low-space"])
def strategy(request):
    """How a conversion goes about it, as its options."""
    return request.param
