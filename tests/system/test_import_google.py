"""`import google-fscrypt`: what the real program made, read, opened and wrapped anew by ours."""

import json
import os
import shutil
import subprocess

import pytest

import google_fscrypt
import harness
import kernel

CHEAP = ["--kdf-time", "1", "--kdf-memory", "1", "--kdf-lanes", "1"]
ONE = "secret one of mine"
TWO = "secret two of mine"


@pytest.fixture
def clean_etc(sandbox):
    """The private /etc has none of the other program's configuration, before and after."""
    conf = "/etc/fscrypt.conf"
    if os.path.exists(conf):
        os.unlink(conf)
    yield
    if os.path.exists(conf):
        os.unlink(conf)


@pytest.fixture
def old(clean_etc):
    return google_fscrypt.OldTool()


@pytest.fixture
def disk(filesystem, old):
    old.set_up(filesystem)
    return filesystem


@pytest.fixture
def configured(run):
    """Our own configuration, with cheap hashing."""
    run.ok(["setup", *CHEAP])


@pytest.fixture
def make(disk, old, secrets):
    def make(name, passphrase=ONE, *, user=None, protector_name=None):
        directory = disk / name
        directory.mkdir()
        if user is not None:
            os.chown(directory, user.uid, user.gid)
        secrets.remember(passphrase.encode())
        old.encrypt(directory, passphrase, protector_name or name, user)
        return directory

    return make


def import_all(run, disk, *options, rc=0, **how):
    result = run(["import", "google-fscrypt", disk, "--json", *options], **how)
    assert result.rc == rc, result
    return result.json()


def protectors(disk):
    return sorted(name for name in os.listdir(disk / ".fscrypt/protectors"))


def policies(disk):
    return sorted(os.listdir(disk / ".fscrypt/policies"))


def tree(directory):
    """Every file with its bytes, owner, mode and times."""
    found = {}
    for parent, folders, names in os.walk(directory):
        for name in folders + names:
            path = os.path.join(parent, name)
            info = os.lstat(path)
            data = open(path, "rb").read() if name in names and not os.path.islink(path) else None
            found[path] = (data, info.st_mode, info.st_uid, info.st_mtime_ns, info.st_ino)
    return found


def states(answer):
    return [record["state"] for record in answer["imported"]]


def opens(run, directory, *how, user=None):
    return run(["unlock", directory, "--dry-run", "--no-prompt", *how], user=user).rc == 0


def test_one_command_and_no_passphrase(disk, make, old, run, configured, passphrase_file):
    directory = make("private")
    (directory / "file").write_text("data")
    before = tree(disk / ".fscrypt")
    answer = import_all(run, disk)
    assert answer["changed"] is True and answer["skipped"] == []
    assert tree(disk / ".fscrypt") == before
    protector, policy = answer["imported"]
    assert protector["kind"] == "protector" and protector["name"] == "private"
    assert protector["source"] == "passphrase" and protector["user"] == "root"
    assert protector["id"] == protectors(disk)[0]
    assert policy["kind"] == "policy" and policy["key_identifier"] == policies(disk)[0]
    assert policy["protectors"] == [protector["id"]]

    run.ok(["lock", directory])
    run.ok(["unlock", directory, "--passphrase-file", passphrase_file(ONE)])
    assert (directory / "file").read_text() == "data"
    status = run.ok(["status", directory, "--json"])
    assert status["managed"] is True
    assert [entry["wrapping"] for entry in status["protectors"]] == ["google-fscrypt-1"]
    run.ok(["lock", directory])
    assert not opens(run, directory, "--passphrase-file", passphrase_file(TWO, "two"))


def test_directories_are_found_and_listed(disk, make, run, alice):
    directory = make("private")
    (disk / "deep/er").mkdir(parents=True)
    directory.rename(disk / "deep/er/private")
    hers = make("hers", TWO, user=alice)
    run.ok(["lock", hers], user=alice)
    import_all(run, disk)
    listed = {entry["path"]: entry for entry in run.ok(["list", "--json"])["directories"]}
    assert set(listed) >= {str(disk / "deep/er/private"), str(hers)}
    assert run.ok(["check", disk, "--json"])["findings"] == []


def test_the_hint_leads_here(disk, make, run):
    directory = make("private")
    result = run(["unlock", directory, "--no-prompt"])
    assert result.rc == 4 and "google/fscrypt metadata found" in result.err
    hint = f"fscryptctl import google-fscrypt {disk} --dry-run"
    assert f"hint: {hint}\n" in result.err
    run.ok(hint.split()[1:])


def test_a_second_run_changes_nothing(disk, make, run):
    make("private")
    import_all(run, disk)
    before = tree(disk / ".fscryptctl")
    answer = import_all(run, disk)
    assert answer["changed"] is False and set(states(answer)) == {"unchanged"}
    answer = import_all(run, disk, "--update")
    assert answer["changed"] is False and set(states(answer)) == {"unchanged"}
    assert tree(disk / ".fscryptctl") == before


def test_a_dry_run_writes_nothing(disk, make, run):
    make("private")
    answer = import_all(run, disk, "--dry-run")
    assert answer["changed"] is False and answer["dry_run"] is True
    assert states(answer) == ["imported", "imported"]
    assert not (disk / ".fscryptctl").exists() and not run.config.exists()
    import_all(run, disk)
    before = tree(disk / ".fscryptctl")
    assert set(states(import_all(run, disk, "--dry-run"))) == {"unchanged"}
    assert tree(disk / ".fscryptctl") == before


def test_a_changed_passphrase_moves_to_our_wrapping(disk, make, old, run, configured,
                                                    passphrase_file):
    directory = make("private")
    import_all(run, disk)
    one, two = passphrase_file(ONE), passphrase_file(TWO, "two")
    run.ok(["change-passphrase", directory, "--passphrase-file", one, "--new-passphrase-file", two])
    protector = run.ok(["status", directory, "--json"])["protectors"][0]
    assert protector["wrapping"] == "fscryptctl-wrap-1"
    assert protector["kdf"]["memory_kib"] == 1024, "the costs are this machine's now"
    record = (disk / f".fscryptctl/users/0/protectors/{protector['id']}.yaml").read_text()
    assert "google" not in record and "iv:" not in record
    run.ok(["lock", directory])
    assert opens(run, directory, "--passphrase-file", two)
    assert not opens(run, directory, "--passphrase-file", one)
    # The other program goes on with what it has.
    assert old.opens(directory, ONE)

    answer = import_all(run, disk, "--update")
    assert answer["changed"] is False and states(answer) == ["kept", "unchanged"]
    assert opens(run, directory, "--passphrase-file", two)


def change_with_old_tool(old, disk, before, after):
    old("metadata", "change-passphrase", f"--protector={disk}:{protectors(disk)[0]}",
        stdin=f"{before}\n{after}\n")


def test_what_the_other_program_changes_later_is_taken_over_when_told(disk, make, old, run,
                                                                      passphrase_file):
    directory = make("private")
    import_all(run, disk)
    run.ok(["lock", directory])
    change_with_old_tool(old, disk, ONE, TWO)
    one, two = passphrase_file(ONE), passphrase_file(TWO, "two")

    answer = import_all(run, disk)
    assert answer["changed"] is False and states(answer) == ["outdated", "unchanged"]
    told = run.ok(["import", "google-fscrypt", disk])
    assert "nothing new to import" in told.err and "1 record was changed" in told.err
    assert opens(run, directory, "--passphrase-file", one)
    assert import_all(run, disk, "--update", "--dry-run")["changed"] is False
    assert opens(run, directory, "--passphrase-file", one)

    answer = import_all(run, disk, "--update")
    assert answer["changed"] is True and states(answer) == ["updated", "unchanged"]
    assert opens(run, directory, "--passphrase-file", two)
    assert not opens(run, directory, "--passphrase-file", one)
    assert import_all(run, disk, "--update")["changed"] is False


def test_a_protector_that_is_added_or_taken_away_later(disk, make, old, run, passphrase_file):
    directory = make("private")
    first = protectors(disk)[0]
    import_all(run, disk)
    run.ok(["lock", directory])
    old("metadata", "create", "protector", disk, "--source=custom_passphrase", "--name=spare",
        stdin=f"{TWO}\n")
    spare = next(name for name in protectors(disk) if name != first)
    policy = f"--policy={disk}:{policies(disk)[0]}"
    old("metadata", "add-protector-to-policy", f"--protector={disk}:{spare}", policy,
        stdin=f"{TWO}\n{ONE}\n")
    one, two = passphrase_file(ONE), passphrase_file(TWO, "two")
    assert sorted(states(import_all(run, disk))) == ["imported", "outdated", "unchanged"]
    assert not opens(run, directory, "--passphrase-file", two)
    assert sorted(states(import_all(run, disk, "--update"))) == ["unchanged", "unchanged", "updated"]
    assert opens(run, directory, "--passphrase-file", two)
    assert opens(run, directory, "--passphrase-file", one)

    old("metadata", "remove-protector-from-policy", f"--protector={disk}:{first}", policy, "--force")
    assert import_all(run, disk)["changed"] is False
    assert opens(run, directory, "--passphrase-file", one)
    assert "updated" in states(import_all(run, disk, "--update"))
    assert not opens(run, directory, "--passphrase-file", one)
    assert opens(run, directory, "--passphrase-file", two)


def test_what_was_wrapped_here_is_never_overwritten(disk, make, old, run, configured,
                                                    passphrase_file):
    directory = make("private")
    import_all(run, disk)
    one, three = passphrase_file(ONE), passphrase_file("secret three of mine", "three")
    run.ok(["change-passphrase", directory, "--passphrase-file", one,
            "--new-passphrase-file", three])
    change_with_old_tool(old, disk, ONE, TWO)
    run.ok(["lock", directory])
    before = tree(disk / ".fscryptctl")
    answer = import_all(run, disk, "--update")
    assert answer["changed"] is False and states(answer) == ["kept", "unchanged"]
    assert tree(disk / ".fscryptctl") == before
    assert opens(run, directory, "--passphrase-file", three)
    assert old.opens(directory, TWO)


def test_other_costs_and_a_recovery_key_move_it_too(disk, make, run, configured, passphrase_file,
                                                    secrets):
    """A record never mixes algorithms: the proven secret is wrapped again in the same write."""
    first, second = make("first"), make("second", TWO)
    import_all(run, disk)
    one, two = passphrase_file(ONE), passphrase_file(TWO, "two")
    run.ok(["protector", "change-kdf", "first", "--mount", disk, "--passphrase-file", one])
    recovery = secrets._directory / "recovery"
    run.ok(["recovery", "create", second, "--output", recovery, "--passphrase-file", two])
    for directory, file in ((first, one), (second, two)):
        protector = run.ok(["status", directory, "--json"])["protectors"][0]
        assert protector["wrapping"] == "fscryptctl-wrap-1"
        record = (disk / f".fscryptctl/users/0/protectors/{protector['id']}.yaml").read_text()
        assert "google" not in record and "iv:" not in record
        run.ok(["lock", directory])
        assert opens(run, directory, "--passphrase-file", file)
    assert opens(run, second, "--recovery-key-file", recovery)
    assert states(import_all(run, disk, "--update")).count("kept") == 2


def test_a_policy_s_wrapping_moves_when_the_policy_is_written(disk, make, run, configured,
                                                              passphrase_file):
    directory = make("private")
    import_all(run, disk)
    one, two = passphrase_file(ONE), passphrase_file(TWO, "two")
    (record,) = (disk / ".fscryptctl/users/0/policies").iterdir()
    assert record.read_text().count("google-fscrypt-1") == 1
    run.ok(["policy", "add-protector", directory, "--source", "passphrase", "--name", "more",
            "--passphrase-file", one, "--new-passphrase-file", two])
    assert record.read_text().count("fscryptctl-wrap-1") == 2
    run.ok(["lock", directory])
    assert opens(run, directory, "--passphrase-file", one)
    assert opens(run, directory, "--passphrase-file", two)
    assert states(import_all(run, disk, "--update")) == ["unchanged", "kept"]


def test_a_backup_of_what_was_imported(disk, make, run, passphrase_file, scratch):
    directory = make("private")
    import_all(run, disk)
    run.ok(["lock", directory])
    run.ok(["backup", disk, "--output", scratch / "backup"])
    shutil.rmtree(disk / ".fscryptctl")
    run.ok(["restore", scratch / "backup", "--mount", disk])
    assert opens(run, directory, "--passphrase-file", passphrase_file(ONE))
    assert run.ok(["check", disk, "--json"])["findings"] == []


def test_a_new_key_for_an_imported_protector(disk, make, run, configured, passphrase_file):
    directory = make("private")
    import_all(run, disk)
    one = passphrase_file(ONE)
    run.ok(["protector", "rotate", "private", "--mount", disk, "--passphrase-file", one])
    run.ok(["lock", directory])
    assert opens(run, directory, "--passphrase-file", one)
    for record in (disk / ".fscryptctl/users/0").glob("*/*.yaml"):
        assert "google" not in record.read_text()


def test_a_raw_key(disk, old, run, configured, key_file):
    key, new = key_file(), key_file(name="new")
    (disk / "d").mkdir()
    old("encrypt", disk / "d", "--source=raw_key", "--name=backup", f"--key={key}")
    answer = import_all(run, disk)
    assert answer["imported"][0]["source"] == "raw-key"
    run.ok(["lock", disk / "d"])
    assert opens(run, disk / "d", "--key-file", key)
    run.ok(["change-passphrase", disk / "d", "--key-file", key, "--new-key-file", new])
    assert opens(run, disk / "d", "--key-file", new) and not opens(run, disk / "d", "--key-file", key)
    old("unlock", disk / "d", f"--key={key}")


def test_several_protectors_of_a_policy_and_a_protector_of_several(disk, make, old, run,
                                                                   configured, passphrase_file):
    first = make("first")
    one = protectors(disk)[0]
    (disk / "second").mkdir()
    old("encrypt", disk / "second", f"--protector={disk}:{one}", stdin=f"{ONE}\n")
    old("metadata", "create", "protector", disk, "--source=custom_passphrase", "--name=spare",
        stdin=f"{TWO}\n")
    spare = next(name for name in protectors(disk) if name != one)
    policy = run.ok(["status", first, "--json"])["policy"]["key_identifier"]
    old("metadata", "add-protector-to-policy", f"--protector={disk}:{spare}",
        f"--policy={disk}:{policy}", stdin=f"{TWO}\n{ONE}\n")

    answer = import_all(run, disk)
    assert len(answer["imported"]) == 4
    for directory in (first, disk / "second"):
        run.ok(["lock", directory])
    files = {ONE: passphrase_file(ONE), TWO: passphrase_file(TWO, "two")}
    assert all(opens(run, first, "--passphrase-file", file) for file in files.values())
    assert opens(run, disk / "second", "--passphrase-file", files[ONE])
    assert not opens(run, disk / "second", "--passphrase-file", files[TWO])
    # One of them moves, the other does not.
    run.ok(["change-passphrase", first, "--protector", "spare", "--passphrase-file", files[TWO],
            "--new-passphrase-file", passphrase_file("another secret", "three")])
    assert opens(run, first, "--passphrase-file", files[ONE])
    assert states(import_all(run, disk, "--update")).count("kept") == 1


def test_adiantum_means_direct_key(disk, old, run, passphrase_file):
    conf = json.loads(open("/etc/fscrypt.conf").read())
    conf["options"] |= {"contents": "Adiantum", "filenames": "Adiantum", "padding": "16"}
    open("/etc/fscrypt.conf", "w").write(json.dumps(conf))
    (disk / "d").mkdir()
    if old.encrypt(disk / "d", ONE, check=False).returncode != 0:
        pytest.fail("this kernel has no Adiantum")
    import_all(run, disk)
    kernel_says = run.ok(["status", disk / "d", "--json"])["policy"]
    record = (disk / f".fscryptctl/users/0/policies/{policies(disk)[0]}.yaml").read_text()
    assert kernel_says["flags"] == ["DIRECT_KEY"] and "  - DIRECT_KEY\n" in record
    run.ok(["lock", disk / "d"])
    assert opens(run, disk / "d", "--passphrase-file", passphrase_file(ONE))


def test_everybody_gets_what_is_theirs(disk, make, run, configured, alice, bob, passphrase_file):
    hers = make("hers", ONE, user=alice)
    his = make("his", TWO, user=bob)
    root_s = make("roots", "the secret of root")
    answer = import_all(run, disk)
    assert sorted(record["user"] for record in answer["imported"]) == [
        "alice", "alice", "bob", "bob", "root", "root"]
    for user in (0, alice.uid, bob.uid):
        folder = disk / f".fscryptctl/users/{user}"
        assert len(os.listdir(folder / "policies")) == 1
        assert len(os.listdir(folder / "protectors")) == 1
        assert {os.stat(folder / part).st_uid for part in ("policies", "protectors")} == {user}
    file = passphrase_file(ONE, "hers-file", alice)
    for directory, user in ((hers, alice), (his, bob), (root_s, None)):
        run.ok(["lock", directory], user=user)
    assert opens(run, hers, "--passphrase-file", file, user=alice)
    assert run(["unlock", his, "--passphrase-file", file], user=alice).rc != 0
    new = passphrase_file("a new secret of hers", "hers-new", alice)
    run.ok(["change-passphrase", hers, "--passphrase-file", file, "--new-passphrase-file", new],
           user=alice)
    assert opens(run, hers, "--passphrase-file", new, user=alice)


def test_an_ordinary_user_imports_her_own(disk, make, run, alice, bob, set_up, passphrase_file):
    hers = make("hers", ONE, user=alice)
    make("his", TWO, user=bob)
    make("roots", "the secret of root")
    result = run(["import", "google-fscrypt", disk, "--json"], user=alice)
    assert result.rc == 4 and result.json()["error"]["reason"] == "not_set_up"
    assert result.json()["error"]["hint"] == f"sudo fscryptctl import google-fscrypt {disk}"
    set_up(disk)
    result = run(["import", "google-fscrypt", disk], user=alice)
    assert result.rc == 4 and "nothing new" not in result.err and "hint: sudo" in result.err
    set_up(disk, "--all-users")
    answer = import_all(run, disk, user=alice)
    assert answer["changed"] is True and answer["skipped"] == []
    assert {record["user"] for record in answer["imported"]} == {"alice"}
    assert len(answer["imported"]) == 2
    run.ok(["lock", hers], user=alice)
    assert opens(run, hers, "--passphrase-file", passphrase_file(ONE, owner=alice), user=alice)
    assert os.listdir(disk / ".fscryptctl/users") == [str(alice.uid)]
    # And root, one of them.
    answer = import_all(run, disk, "--user", "bob")
    assert {record["user"] for record in answer["imported"]} == {"bob"}


def test_whoever_could_begin_there_still_can(disk, make, run, alice):
    make("private")
    import_all(run, disk)
    assert (disk / ".fscryptctl/users").stat().st_mode & 0o7777 == 0o1777
    assert (disk / ".fscryptctl").stat().st_mode & 0o7777 == 0o755


def test_a_closed_directory_stays_closed(filesystem, old, run):
    old.configure()
    old("setup", filesystem)
    (filesystem / "d").mkdir()
    old.encrypt(filesystem / "d", ONE)
    import_all(run, filesystem)
    assert (filesystem / ".fscryptctl/users").stat().st_mode & 0o7777 == 0o755


def test_nothing_there(filesystem, run):
    result = run(["import", "google-fscrypt", filesystem, "--json"])
    assert result.rc == 4 and result.json()["error"]["code"] == "not_found"
    result = run(["import", "google-fscrypt", filesystem])
    assert result.out == "" and result.err.count("\n") == 1
    assert run(["import", "google-fscrypt", "--json"]).rc == 2
    assert run(["import", "google-fscrypt", filesystem / "missing", "--json"]).rc == 4


def test_a_version_1_policy_is_no_failure(disk, make, old, run):
    make("private")
    conf = json.loads(open("/etc/fscrypt.conf").read())
    conf["options"]["policy_version"] = "1"
    conf["use_fs_keyring_for_v1_policies"] = True
    open("/etc/fscrypt.conf", "w").write(json.dumps(conf))
    (disk / "old").mkdir()
    old.encrypt(disk / "old", TWO, "old")
    answer = import_all(run, disk)
    assert len(answer["imported"]) == 3
    (skipped,) = answer["skipped"]
    assert skipped["code"] == "policy_version" and "version 1" in skipped["reason"]
    assert len(os.path.basename(skipped["file"])) == 16
    assert "version 1" in run.ok(["import", "google-fscrypt", disk]).err


DAMAGE = {
    "cut": lambda data: data[:-1],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "text": lambda data: b"this is no message at all\n",
    "huge": lambda data: data + b"\x7a" * 20000,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("kind", ["policies", "protectors"])
def test_a_damaged_file_stops_nothing_else(disk, make, run, passphrase_file, how, kind):
    make("bad")
    (victim,) = (disk / ".fscrypt" / kind).iterdir()
    good = make("good", TWO)
    victim.write_bytes(DAMAGE[how](victim.read_bytes()))
    answer = import_all(run, disk, rc=8)
    assert answer["error"]["code"] == "corrupt_metadata"
    assert str(victim) in [entry["file"] for entry in answer["skipped"]]
    assert len(answer["imported"]) == (3 if kind == "policies" else 2)
    run.ok(["lock", good])
    assert opens(run, good, "--passphrase-file", passphrase_file(TWO))


@pytest.mark.parametrize("kind", ["policies", "protectors"])
def test_a_sample_of_changed_bytes(disk, make, run, kind, passphrase_file):
    """Nothing that is read so ever opens with the right passphrase to a wrong key, or crashes."""
    directory = make("bad")
    run.ok(["lock", directory])
    (victim,) = (disk / ".fscrypt" / kind).iterdir()
    whole, file = victim.read_bytes(), passphrase_file(ONE)
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x11
        victim.write_bytes(damaged)
        result = run(["import", "google-fscrypt", disk, "--json"])
        assert result.rc in (0, 8), result
        unlocked = run(["unlock", directory, "--passphrase-file", file, "--json"])
        assert unlocked.rc in (0, 3, 4, 8, 9), unlocked
        if unlocked.rc == 0:  # a byte of the name, say
            run.ok(["lock", directory])
        shutil.rmtree(disk / ".fscryptctl", ignore_errors=True)
    victim.write_bytes(whole)
    import_all(run, disk)
    assert opens(run, directory, "--passphrase-file", file)


def test_foreign_files(disk, make, run, alice, bob, scratch):
    make("private")
    ours = disk / ".fscrypt/protectors" / protectors(disk)[0]
    data = ours.read_bytes()

    def refused(path):
        answer = import_all(run, disk, "--dry-run", rc=8)
        assert str(path) in [entry["file"] for entry in answer["skipped"]]

    other = scratch / "elsewhere"
    other.write_bytes(data)
    ours.unlink()
    ours.symlink_to(other)
    refused(ours)
    ours.unlink()
    os.mkfifo(ours)
    refused(ours)
    ours.unlink()
    ours.mkdir()
    refused(ours)
    ours.rmdir()
    ours.write_bytes(data)
    ours.chmod(0o622)
    refused(ours)
    ours.chmod(0o600)
    os.link(ours, disk / "second name")
    refused(ours)
    (disk / "second name").unlink()
    # What has another name is nobody's business.
    (disk / ".fscrypt/protectors/.tmp123").write_bytes(b"x")
    (disk / ".fscrypt/policies/README").write_bytes(b"x")
    (disk / ".fscrypt/policies" / policies(disk)[0].upper()).write_bytes(b"x")
    assert import_all(run, disk)["skipped"] == []


@pytest.mark.parametrize("part", ["", "policies", "protectors"])
def test_directories_that_others_could_have_made(disk, make, run, part, alice):
    make("private")
    directory = disk / ".fscrypt" / part
    mode = directory.stat().st_mode & 0o7777
    directory.chmod(0o777)
    assert import_all(run, disk, rc=8)["error"]["reason"] == "untrusted"
    directory.chmod(mode)
    os.chown(directory, alice.uid, alice.gid)
    assert import_all(run, disk, rc=8)["error"]["reason"] == "untrusted"
    os.chown(directory, 0, 0)
    if part:
        moved = disk / "moved"
        directory.rename(moved)
        directory.symlink_to(moved)
        assert import_all(run, disk, rc=8)["error"]["reason"] == "untrusted"
    assert not (disk / ".fscryptctl").exists()


def test_the_directory_may_be_a_symbolic_link(disk, make, run, passphrase_file, alice, scratch):
    directory = make("private")
    run.ok(["lock", directory])
    (disk / "below").mkdir()
    (disk / ".fscrypt").rename(disk / "below/real")
    (disk / ".fscrypt").symlink_to("below/real")
    assert len(import_all(run, disk)["imported"]) == 2
    assert opens(run, directory, "--passphrase-file", passphrase_file(ONE))
    # Not through other links, and not one of somebody else's.
    (disk / "link").symlink_to("below")
    (disk / ".fscrypt").unlink()
    (disk / ".fscrypt").symlink_to("link/real")
    assert import_all(run, disk, rc=8)["error"]["reason"] == "untrusted"
    (disk / ".fscrypt").unlink()
    (disk / ".fscrypt").symlink_to("below/real")
    os.lchown(disk / ".fscrypt", alice.uid, alice.gid)
    assert import_all(run, disk, rc=8)["error"]["reason"] == "untrusted"
    (disk / ".fscrypt").unlink()
    (disk / ".fscrypt").symlink_to("nowhere")
    assert import_all(run, disk, rc=8)["error"]["reason"] == "untrusted"


def linked(disk, second, old, make):
    """A directory on `disk` that opens with a protector of `second`."""
    old("setup", second, "--all-users")
    old("metadata", "create", "protector", second, "--source=custom_passphrase", "--name=far",
        stdin=f"{ONE}\n")
    far = protectors(second)[0]
    (disk / "d").mkdir()
    old("encrypt", disk / "d", f"--protector={second}:{far}", "--no-recovery",
        stdin=f"{ONE}\n")
    assert protectors(disk) == [far + ".link"]
    return disk / "d", far


def test_links_to_another_filesystem(disk, second_filesystem, old, make, run, passphrase_file):
    directory, far = linked(disk, second_filesystem, old, make)
    link = disk / f".fscrypt/protectors/{far}.link"
    uuid = harness.command("blkid", "-s", "UUID", "-o", "value", second_filesystem.image).strip()
    run.ok(["lock", directory])
    for text in (f"UUID={uuid}\n", f"UUID={uuid}", f"UUID={uuid}\nPATH=/nowhere\n",
                 f"PATH={second_filesystem}\n", f"MORE=1\nPATH={second_filesystem}\nUUID={uuid}\n"):
        link.write_text(text)
        answer = import_all(run, disk)
        assert [record["kind"] for record in answer["imported"]] == ["protector", "policy"], text
        assert answer["imported"][0]["file"].startswith(str(second_filesystem))
        assert opens(run, directory, "--passphrase-file", passphrase_file(ONE))
        shutil.rmtree(disk / ".fscryptctl")
    assert not (second_filesystem / ".fscryptctl").exists()


def test_links_that_lead_nowhere(disk, second_filesystem, old, make, run, passphrase_file):
    directory, far = linked(disk, second_filesystem, old, make)
    good = make("good", TWO)
    run.ok(["lock", directory])
    second_filesystem.unmount()
    answer = import_all(run, disk, rc=8)
    reasons = {os.path.basename(entry["file"]): entry["reason"] for entry in answer["skipped"]}
    assert "no filesystem that is mounted here" in reasons[far + ".link"]
    assert len(answer["imported"]) == 2, "the other directory does not suffer from it"
    assert opens(run, good, "--passphrase-file", passphrase_file(TWO, "two"))
    # The disk is back.
    second_filesystem.mount()
    answer = import_all(run, disk)
    assert sorted(states(answer)) == ["imported", "imported", "unchanged", "unchanged"]
    assert opens(run, directory, "--passphrase-file", passphrase_file(ONE))


def test_a_link_to_the_wrong_places(disk, second_filesystem, old, make, run, scratch):
    _, far = linked(disk, second_filesystem, old, make)
    link = disk / f".fscrypt/protectors/{far}.link"
    for text in ("UUID=../../../etc\n", f"PATH={scratch}\n", "PATH=/nowhere\n", "PATH=../..\n",
                 f"PATH={second_filesystem}/\n", "nonsense\n"):
        link.write_text(text)
        answer = import_all(run, disk, "--dry-run", rc=8)
        assert str(link) in [entry["file"] for entry in answer["skipped"]], text


def test_another_user_s_link_takes_nothing_away(disk, second_filesystem, make, old, run, alice, bob,
                                                passphrase_file):
    """Anybody may make links here: for somebody else's protector they count for nothing."""
    directory = make("his", TWO, user=bob)
    run.ok(["lock", directory], user=bob)
    (his,) = (disk / ".fscrypt/protectors").iterdir()
    link = disk / ".fscrypt/protectors" / (his.name + ".link")
    old("setup", second_filesystem, "--all-users")
    prepared = second_filesystem / ".fscrypt/protectors" / his.name
    prepared.write_bytes(his.read_bytes()[:-1] + b"!")
    os.chown(prepared, bob.uid, bob.gid)
    for target in ("/nowhere", second_filesystem):
        link.write_text(f"PATH={target}\n")
        os.chown(link, alice.uid, alice.gid)
        answer = import_all(run, disk, rc=8)
        assert str(link) in [entry["file"] for entry in answer["skipped"]]
        assert len(answer["imported"]) == 2
        assert opens(run, directory, "--passphrase-file", passphrase_file(TWO, "two"))
        shutil.rmtree(disk / ".fscryptctl")


def test_a_users_file_puts_nothing_among_others_records(disk, make, run, alice, bob):
    """Her policy may name his protector: he has no part in it."""
    make("hers", ONE, user=alice)
    make("his", TWO, user=bob)
    folder = disk / ".fscrypt"
    his_protector = next(p for p in (folder / "protectors").iterdir() if p.stat().st_uid == bob.uid)
    hers = next(p for p in (folder / "policies").iterdir() if p.stat().st_uid == alice.uid)
    her_protector = next(p for p in (folder / "protectors").iterdir()
                         if p.stat().st_uid == alice.uid)
    hers.write_bytes(hers.read_bytes().replace(her_protector.name.encode(),
                                               his_protector.name.encode()))
    answer = import_all(run, disk, rc=8)
    assert str(hers) in [entry["file"] for entry in answer["skipped"]]
    users = disk / ".fscryptctl/users"
    his = os.listdir(users / str(bob.uid) / "policies")
    assert len(his) == 1 and his != [f"{hers.name}.yaml"]


def test_a_damaged_record_of_ours_is_left_alone(disk, make, run):
    make("private")
    import_all(run, disk)
    folder = disk / ".fscryptctl/users/0/protectors"
    (record,) = folder.iterdir()
    record.write_text(record.read_text().replace("iv:", "vi:"))
    before = record.read_bytes()
    answer = import_all(run, disk, "--update", rc=8)
    assert answer["changed"] is False and len(answer["skipped"]) == 1
    assert record.read_bytes() == before


def test_a_crash_is_finished_by_the_next_run(disk, make, run, tmp_path):
    for number in range(4):
        make(f"d{number}", ONE)
    for _ in range(8):
        process = run.start(["import", "google-fscrypt", str(disk)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=0.004 * (_ + 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    answer = import_all(run, disk)
    assert len(answer["imported"]) == 8 and answer["skipped"] == []
    assert run(["status", disk, "--json"]).rc == 0


def test_the_defaults_are_offered_and_never_taken_in_silence(disk, make, run, tty):
    make("private")
    result = run(["import", "google-fscrypt", disk])
    assert result.rc == 0 and "/etc/fscrypt.conf" in result.err and not run.config.exists()
    terminal = tty(["import", "google-fscrypt", disk])
    terminal.expect("take over the defaults of /etc/fscrypt.conf.*y/N")
    terminal.sendline("n")
    assert terminal.finish() == 0 and not run.config.exists()
    answer = import_all(run, disk, "--yes")
    assert answer["changed"] is True and answer["defaults"]["written"] is True
    text = run.config.read_text()
    assert "source: passphrase" in text and "contents: AES-256-XTS" in text
    costs = json.loads(open("/etc/fscrypt.conf").read())["hash_costs"]
    assert f"memory_kib: {costs['memory']}\n" in text
    run.config.write_text("source: raw-key\n")
    answer = import_all(run, disk, "--yes")
    assert answer["changed"] is False and "defaults" not in answer
    assert run.config.read_text() == "source: raw-key\n"


def test_bad_defaults_stop_nothing(disk, make, run):
    make("private")
    open("/etc/fscrypt.conf", "w").write('{"source": "unheard_of"}')
    result = run(["import", "google-fscrypt", disk, "--yes"])
    assert result.rc == 0 and "is not taken over" in result.err and not run.config.exists()


# With login passwords: on a root filesystem of the test's own.


@pytest.fixture
def root(make_filesystem, run, sandbox):
    made = google_fscrypt.PrivateRoot(make_filesystem(size_mib=128), sandbox.install_program())
    return made


@pytest.fixture
def inside(root, secrets):
    return google_fscrypt.RunnerInside(root, secrets)


@pytest.fixture
def old_inside(root):
    return google_fscrypt.OldTool(root)


def login_directory(root, old, mount_point, user, name="d"):
    directory = root.inside(mount_point) / name
    directory.mkdir()
    os.chown(directory, user.uid, user.gid)
    done = old("encrypt", f"{mount_point}/{name}", "--source=pam_passphrase",
               stdin=google_fscrypt.LOGIN_PASSWORD + "\n", user=user)
    return f"{mount_point}/{name}", done


def test_login_protectors(root, inside, old_inside, make_filesystem, alice, secrets):
    mount_point = root.attach(make_filesystem())
    old_inside.set_up(mount_point)
    directory, _ = login_directory(root, old_inside, mount_point, alice)
    readme = (root.inside(directory) / "fscrypt_recovery_readme.txt").read_text()
    recovery = next(line.strip() for line in readme.splitlines()
                    if len(line.strip()) == 20 and line.strip().isalpha())
    answer = import_all(inside, mount_point)
    by_kind = {record.get("source", "policy"): record for record in answer["imported"]}
    assert set(by_kind) == {"login", "passphrase", "policy"}
    assert {record["user"] for record in answer["imported"]} == {"alice"}
    assert by_kind["login"]["name"] == "login"
    assert by_kind["login"]["file"].startswith("/.fscrypt/")
    assert by_kind["passphrase"]["name"] == "Recovery passphrase for d"
    record = root.inside(f"{mount_point}/.fscryptctl/users/{alice.uid}/protectors/"
                         f"{by_kind['login']['id']}.yaml").read_text()
    assert 'user: "alice"' in record and "machine_id: " in record

    inside.ok(["lock", directory], user=alice)
    for secret in (google_fscrypt.LOGIN_PASSWORD, recovery):
        secrets.remember(secret.encode())
        inside.ok(["unlock", directory], user=alice, stdin=secret.encode() + b"\n")
        inside.ok(["lock", directory], user=alice)
        assert old_inside.opens(directory, secret, alice, "/:" + by_kind["login"]["id"] if
                                secret == google_fscrypt.LOGIN_PASSWORD else
                                f"{mount_point}:{by_kind['passphrase']['id']}")
    assert inside(["unlock", directory], user=alice, stdin=b"nonsense\n").rc == 3
    assert import_all(inside, mount_point)["changed"] is False


def test_login_protectors_without_a_link(root, inside, old_inside, make_filesystem, alice, bob):
    mount_point = root.attach(make_filesystem())
    old_inside.set_up(mount_point)
    directory, _ = login_directory(root, old_inside, mount_point, alice)
    for link in root.inside(f"{mount_point}/.fscrypt/protectors").glob("*.link"):
        link.unlink()
    assert len(import_all(inside, mount_point)["imported"]) == 3
    inside.ok(["lock", directory], user=alice)
    inside.ok(["unlock", directory], user=alice, stdin=b"login secret\n")
    # A login protector that somebody else owns is nobody's.
    shutil.rmtree(root.inside(f"{mount_point}/.fscryptctl"))
    (protector,) = root.inside("/.fscrypt/protectors").iterdir()
    os.chown(protector, bob.uid, bob.gid)
    answer = import_all(inside, mount_point, rc=8)
    assert any(entry["code"] == "untrusted" for entry in answer["skipped"])
    assert {record["user"] for record in answer["imported"]} == {"alice"}
    assert not any(record.get("source") == "login" for record in answer["imported"])


def test_what_root_wrote_for_users(root, inside, old_inside, make_filesystem, alice, passphrase_file):
    """Root's policy goes to the user whose login opens it; root keeps what opens with root's own."""
    mount_point = root.attach(make_filesystem())
    old_inside.set_up(mount_point)
    directory, _ = login_directory(root, old_inside, mount_point, alice)
    folder = root.inside(f"{mount_point}/.fscrypt")
    for part in ("policies", "protectors"):
        for file in (folder / part).iterdir():
            os.chown(file, 0, 0)
    for file in root.inside("/.fscrypt/protectors").iterdir():
        os.chown(file, 0, 0)
    answer = import_all(inside, mount_point)
    whose = {(record["user"], record.get("source", "policy")) for record in answer["imported"]}
    assert whose == {("alice", "login"), ("root", "passphrase"), ("alice", "policy"),
                     ("root", "policy")}
    of_policies = {record["user"]: record["protectors"] for record in answer["imported"]
                   if record["kind"] == "policy"}
    assert len(of_policies["alice"]) == len(of_policies["root"]) == 1
    assert of_policies["alice"] != of_policies["root"]
    inside.ok(["lock", directory], user=alice)
    inside.ok(["unlock", directory], user=alice, stdin=b"login secret\n")


def test_the_root_filesystem_itself(root, inside, old_inside, alice):
    old_inside.set_up()
    directory, _ = login_directory(root, old_inside, "/home", alice)
    answer = import_all(inside, "/")
    assert [record["user"] for record in answer["imported"]] == ["alice", "alice"]
    inside.ok(["lock", directory], user=alice)
    inside.ok(["unlock", directory], user=alice, stdin=b"login secret\n")


def test_two_imports_at_once(disk, make, run):
    for number in range(4):
        make(f"d{number}", ONE)
    both = [run.start(["import", "google-fscrypt", str(disk)], stdout=subprocess.DEVNULL,
                      stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert len(list(disk.mountpoint.glob(".fscryptctl/users/0/*/*.yaml"))) == 8
    assert import_all(run, disk)["changed"] is False
    assert run.ok(["check", disk, "--json"])["findings"] == []


def test_text_for_people(disk, make, run, alice):
    make("private")
    make("hers", TWO, user=alice)
    (disk / ".fscrypt/policies" / ("0" * 32)).write_bytes(b"nonsense")
    result = run(["import", "google-fscrypt", disk])
    assert result.rc == 8
    lines = result.out.splitlines()
    assert lines[0].split() == ["KIND", "ID", "NAME", "USER", "STATE"] and len(lines) == 5
    assert any("private" in line and "root" in line and "imported" in line for line in lines)
    assert "note: not imported: " in result.err and "0" * 32 in result.err
    assert "error: 1 file of google/fscrypt on" in result.err and "hint" not in result.err
    assert f"imported 2 protectors and 2 policies on {disk}\n" in result.err
    assert run(["import", "google-fscrypt", disk, "--quiet"]).rc == 8
