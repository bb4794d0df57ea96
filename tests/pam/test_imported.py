"""Login protectors that google/fscrypt made and `import google-fscrypt` took over."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import HAS_CHANGED, NEW, OLD, PROGRAM, command, set_password
from test_login import change_password, eventually

CONFIGURATION = {
    "source": "pam_passphrase",
    "hash_costs": {"time": "1", "memory": "1024", "parallelism": "1"},
    "options": {"padding": "32", "contents": "AES_256_XTS", "filenames": "AES_256_CTS",
                "policy_version": "2"},
    "use_fs_keyring_for_v1_policies": False,
    "allow_cross_user_metadata": False,
}


@pytest.fixture
def old_metadata(machine):
    """Where that program keeps its configuration and login protectors."""
    Path("/etc/fscrypt.conf").write_text(json.dumps(CONFIGURATION))
    # What somebody keeps there is not for tests; empty directories do no harm.
    assert [path for path in Path("/.fscrypt").rglob("*") if not path.is_dir()] == []
    for part in ("", "policies", "protectors"):
        folder = Path("/.fscrypt") / part
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777 if part else 0o755)
    yield Path("/.fscrypt")
    Path("/etc/fscrypt.conf").unlink()
    shutil.rmtree("/.fscrypt")


@pytest.fixture
def private(old_metadata, disk, alice):
    """A directory of alice's that opens with her login password, imported and locked."""
    directory = disk / "private"
    directory.mkdir()
    shutil.chown(directory, alice.uid, alice.uid)
    command("fscrypt", "setup", disk, "--all-users", "--quiet")
    command(*alice.as_user, "fscrypt", "encrypt", directory, "--source=pam_passphrase", "--quiet",
            input=OLD + "\n")
    command(*alice.as_user, "tee", directory / "letter", input="dear diary")
    answer = json.loads(command(PROGRAM, "import", "google-fscrypt", disk, "--json").stdout)
    assert {record.get("source") for record in answer["imported"]} == {"login", "passphrase", None}
    alice.run("lock", directory)
    return directory


def login_record(alice, disk):
    (text,) = [file.read_text() for file in (disk.records(alice) / "protectors").iterdir()
               if 'name: "login"' in file.read_text()]
    return text


def old_program_opens(alice, directory, password, protector):
    done = command(*alice.as_user, "fscrypt", "unlock", directory, f"--unlock-with=/:{protector}",
                   "--quiet", input=password + "\n", check=False)
    if done.returncode == 0:
        alice.run("lock", directory)
    return done.returncode == 0


def test_a_login_opens_it_as_it_is(private, disk, alice, host):
    session = host().log_in(OLD)
    assert session.questions() == ["Password: "]
    assert (private / "letter").read_text() == "dear diary"
    session.log_out()
    assert not alice.unlocked(private)


def test_passwd_moves_it_to_our_wrapping(private, disk, alice, host, spawn, old_metadata):
    (protector,) = (file.name for file in (old_metadata / "protectors").iterdir())
    before = (old_metadata / "protectors" / protector).read_bytes()
    change_password(spawn(*alice.as_user, "passwd"), ("Current password:", OLD),
                    ("New password:", NEW), ("Retype new password:", NEW))
    eventually(lambda: alice.opens(private, NEW))
    record = login_record(alice, disk)
    assert "google" not in record
    assert (old_metadata / "protectors" / protector).read_bytes() == before
    session = host().log_in(NEW)
    assert session.questions() == ["Password: "] and alice.unlocked(private)
    session.log_out()
    assert login_record(alice, disk).count("generation:") == 1
    assert not alice.opens(private, OLD)
    # The other program was not told, and what it has is not taken for newer.
    assert old_program_opens(alice, private, OLD, protector)
    answer = json.loads(command(PROGRAM, "import", "google-fscrypt", disk, "--update",
                                "--json").stdout)
    assert answer["changed"] is False and alice.opens(private, NEW)


def test_a_password_changed_by_root_is_healed_at_the_next_login(private, disk, alice, host):
    set_password("alice", NEW)
    session = host().log_in(NEW, OLD)
    assert session.questions() == ["Password: ", HAS_CHANGED]
    assert alice.unlocked(private)
    session.log_out()
    record = login_record(alice, disk)
    assert "google" not in record and alice.opens(private, NEW)
    session = host().log_in(NEW)
    assert session.questions() == ["Password: "] and alice.unlocked(private)


def test_who_skips_the_question_loses_nothing(private, disk, alice, host):
    set_password("alice", NEW)
    before = login_record(alice, disk)
    host().log_in(NEW, "").log_out()
    assert login_record(alice, disk) == before and alice.opens(private, OLD)


def test_it_is_changed_by_hand(private, disk, alice):
    set_password("alice", NEW)
    words = ["change-passphrase", private, "--protector", "login", "--passphrase-file", "-",
             "--new-passphrase-file", "-"]
    done = alice.run(*words, password=f"{OLD}\nsomething else", check=False)
    assert done.returncode == 3 and alice.opens(private, OLD)
    alice.run(*words, password=f"{OLD}\n{NEW}")
    assert "google" not in login_record(alice, disk)
    assert alice.opens(private, NEW) and not alice.opens(private, OLD)


def test_the_next_directory_of_hers_uses_it(private, disk, alice):
    """There are not two login protectors for one login."""
    alice.encrypt(disk / "second")
    assert len(list((disk.records(alice) / "protectors").iterdir())) == 2  # with google's recovery
    alice.run("lock", disk / "second")
    assert alice.opens(disk / "second", OLD) and alice.opens(private, OLD)
