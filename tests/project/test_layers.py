"""The shape of the source tree: includes point only downward, and nothing is left out of the build."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

BELOW = {
    "base": set(),
    "crypto": {"base"},
    "metadata": {"base", "crypto"},
    "kernel": {"base", "crypto"},
    "tree": {"base", "crypto"},
    "core": {"base", "crypto", "metadata", "kernel", "tree"},
    "cmd/fscryptctl": {"base", "crypto", "metadata", "kernel", "tree", "core"},
    "cmd/pam_fscryptctl": {"base", "crypto", "metadata", "kernel", "tree", "core"},
}
HOMES = {
    "openssl/": {"crypto"},
    "argon2.h": {"crypto"},
    "yaml-cpp/": {"metadata"},
    "CLI/": {"cmd/fscryptctl"},
    "nlohmann/": {"cmd/fscryptctl"},
    "security/": {"cmd/pam_fscryptctl", "cmd/fscryptctl"},
    "sys/ioctl.h": {"kernel", "base", "tree"},
    "iostream": {"cmd/fscryptctl"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def sources(root, *folders):
    found = [path for folder in folders for path in (root / folder).rglob("*")
             if path.suffix in (".h", ".cpp")]
    return sorted(found)


def layer_of(path, root):
    parts = path.relative_to(root).parts
    return {"include": lambda: parts[2], "lib": lambda: parts[1],
            "cmd": lambda: "/".join(parts[:2])}[parts[0]]()


def violations(root):
    """One line for each include that the layers forbid."""
    found = []
    for path in sources(root, "include", "lib", "cmd"):
        layer = layer_of(path, root)
        where = path.relative_to(root)
        if layer not in BELOW:
            found.append(f"{where}: no such layer: {layer}")
            continue
        for bracket, name in INCLUDE.findall(path.read_text()):
            if name.startswith("fscryptctl/"):
                target = name.split("/")[1]
                if target != layer and target not in BELOW[layer]:
                    found.append(f"{where}: {layer} may not include {name}")
            elif bracket == '"' and ("/" in name or not (path.parent / name).exists()):
                found.append(f"{where}: {name} is not a header of this folder")
            for prefix, homes in HOMES.items():
                if name.startswith(prefix) and layer not in homes:
                    found.append(f"{where}: {name} belongs in {', '.join(sorted(homes))}")
    return found


def test_includes_point_only_downward():
    assert len(sources(REPOSITORY, "include", "lib", "cmd")) > 20
    assert violations(REPOSITORY) == []


@pytest.mark.parametrize("file, line", [
    ("lib/base/a.cpp", '#include "fscryptctl/crypto/secret.h"'),
    ("lib/metadata/a.cpp", "#include <fscryptctl/kernel/kernel.h>"),
    ("lib/kernel/a.cpp", '#include "fscryptctl/metadata/store.h"'),
    ("include/fscryptctl/crypto/a.h", '#include "fscryptctl/core/policy.h"'),
    ("lib/core/a.cpp", '#include "../kernel/private.h"'),
    ("lib/core/a.cpp", '#include "missing.h"'),
    ("lib/core/a.cpp", "#include <yaml-cpp/parser.h>"),
    ("lib/metadata/a.cpp", "#  include <openssl/evp.h>"),
    ("lib/core/a.cpp", "#include <CLI/CLI.hpp>"),
    ("lib/core/a.cpp", "#include <sys/ioctl.h>"),
    ("lib/core/a.cpp", "#include <iostream>"),
    ("lib/helpers/a.cpp", "#include <vector>")])
def test_an_include_that_points_up_or_sideways_is_noticed(tmp_path, file, line):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert len(violations(tmp_path)) == 1


def test_every_source_file_is_built():
    listed = (REPOSITORY / "CMakeLists.txt").read_text()
    built = [path.relative_to(REPOSITORY) for path in sources(REPOSITORY, "lib", "cmd", "tests")
             if path.suffix == ".cpp"]
    assert [str(path) for path in built if not re.search(rf"\s{re.escape(str(path))}[\s)]", listed)] == []
