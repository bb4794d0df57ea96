"""What the module is as a file: one that a login program can carry."""

import re
import subprocess

from conftest import RELEASE

MODULE = RELEASE / "pam_fscryptctl.so"


def output(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def test_nothing_but_pam_s_entry_points_is_seen_from_outside():
    names = re.findall(r" T (\w+)", output("nm", "--dynamic", "--defined-only", MODULE))
    everything = output("nm", "--dynamic", "--defined-only", MODULE).splitlines()
    assert sorted(names) == ["pam_sm_acct_mgmt", "pam_sm_authenticate", "pam_sm_chauthtok",
                             "pam_sm_close_session", "pam_sm_open_session", "pam_sm_setcred"]
    assert len(everything) == len(names)


def test_it_needs_nothing_but_libpam_and_glibc():
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "--dynamic", MODULE))
    allowed = re.compile(r"libpam\.so\.0|libc\.so\.6|libm\.so\.6|ld-linux.*")
    assert all(allowed.fullmatch(name) for name in needed)
    assert "libpam.so.0" in needed and "libc.so.6" in needed


def test_it_is_never_unmapped_and_changes_no_code_at_loading():
    flags = output("readelf", "--dynamic", MODULE)
    assert "NODELETE" in flags and "BIND_NOW" in flags and "TEXTREL" not in flags


def test_it_is_small():
    """Whatever calls OpenSSL's providers brings all of its algorithms along: three megabytes."""
    assert MODULE.stat().st_size < 2_000_000
