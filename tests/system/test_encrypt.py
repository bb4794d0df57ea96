"""`encrypt`: every option, the permissions, whose directory it becomes, and what repeating does."""

import os
import stat
import subprocess

import pytest

import kernel


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem, "--all-users")
    return filesystem


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def own_directory(disk, user, name="home"):
    home = disk / name
    home.mkdir()
    os.chown(home, user.uid, user.gid)
    return home


def records(disk, uid=0):
    base = disk / f".fscryptctl/users/{uid}"
    return sorted(str(path.relative_to(base)) for path in base.rglob("*.yaml")) if base.exists() else []


def test_what_is_made_is_private(disk, run, key_file):
    key = key_file()
    run.ok(["encrypt", disk / "made", "--create", "--key-file", key])
    assert mode(disk / "made") == 0o700
    (disk / "there").mkdir(mode=0o755)
    run.ok(["encrypt", disk / "there", "--key-file", key, "--name", "b"])
    assert mode(disk / "there") == 0o700


def test_permissions_that_others_rely_on_stay(disk, run, key_file):
    key = key_file()
    for name, wanted in (("setgid", 0o2755), ("shared", 0o775), ("open", 0o777)):
        (disk / name).mkdir()
        (disk / name).chmod(wanted)
        run.ok(["encrypt", disk / name, "--key-file", key, "--name", name])
        assert mode(disk / name) == wanted


def test_permissions_can_be_chosen(disk, run, key_file):
    key = key_file()
    (disk / "keep").mkdir(mode=0o755)
    run.ok(["encrypt", disk / "keep", "--mode", "keep", "--key-file", key, "--name", "a"])
    assert mode(disk / "keep") == 0o755
    run.ok(["encrypt", disk / "group", "--create", "--mode", "2770", "--key-file", key, "--name", "b"])
    assert mode(disk / "group") == 0o2770
    for wrong in ("99", "rwx", "77777", "0o7", "-1"):
        assert run(["encrypt", disk / "no", "--create", "--mode", wrong, "--key-file", key]).rc == 2
    assert not (disk / "no").exists()


def test_an_ordinary_user_encrypts_her_own(disk, run, alice, bob, secrets):
    key = secrets.file("key", os.urandom(32), alice)
    home = own_directory(disk, alice)
    made = run.ok(["encrypt", home / "private", "--create", "--key-file", key, "--json"], user=alice)
    assert made["unlocked_by_me"] is True and made["user_count"] == 1
    assert len(records(disk, alice.uid)) == 2
    assert made["protectors"][0]["user"] == "alice" and made["protectors"][0]["uid"] == 1000
    hers = secrets.file("bobs", os.urandom(32), bob)
    result = run(["encrypt", home / "other", "--create", "--key-file", hers, "--json"], user=bob)
    assert result.rc == 7 and result.json()["error"]["code"] == "permission"
    (home / "theirs").mkdir()
    assert run(["encrypt", home / "theirs", "--key-file", hers], user=bob).rc == 7
    assert records(disk, bob.uid) == []


def test_root_acts_for_the_owner(disk, run, alice, key_file):
    key = key_file()
    home = own_directory(disk, alice)
    os.mkdir(home / "hers")
    os.chown(home / "hers", alice.uid, alice.gid)
    run.ok(["encrypt", home / "hers", "--key-file", key])
    assert len(records(disk, alice.uid)) == 2 and records(disk) == []
    for record in records(disk, alice.uid):
        assert os.stat(disk / ".fscryptctl/users/1000" / record).st_uid == alice.uid
    seen = run.ok(["status", home / "hers", "--json"], user=alice)
    assert seen["unlocked_by_me"] is True and seen["managed"] is True


def test_root_makes_a_directory_for_a_user_even_without_a_name(disk, run, key_file):
    run.ok(["encrypt", disk / "d", "--create", "--user", "4711", "--key-file", key_file()])
    info = os.stat(disk / "d")
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (4711, 4711, 0o700)
    assert len(records(disk, 4711)) == 2


def test_only_root_acts_for_others(disk, run, alice, secrets):
    key = secrets.file("key", os.urandom(32), alice)
    result = run(["encrypt", disk / "d", "--create", "--user", "bob", "--key-file", key, "--json"],
                 user=alice)
    assert result.rc == 7
    assert run(["status", "--user", "nobody-here", "--json"]).json()["error"]["code"] == "not_found"


def test_ensure_is_for_provisioning(disk, run, key_file):
    key = key_file()
    how = ["encrypt", disk / "d", "--create", "--ensure", "--key-file", key, "--json"]
    first = run.ok(how)
    assert first["changed"] is True
    (disk / "d/file").write_text("data")
    second = run.ok(how)
    assert second["changed"] is False
    assert second["key_identifier"] == first["key_identifier"]
    before = records(disk)

    wrong = run(["encrypt", disk / "d", "--ensure", "--key-file", key_file(name="other"), "--json"])
    assert wrong.rc == 3
    (disk.mountpoint / "../scratch/words").write_text("correct horse\n")
    kind = run(["encrypt", disk / "d", "--ensure", "--passphrase-file",
                disk.mountpoint / "../scratch/words", "--json"])
    assert kind.rc == 3, kind
    modes = run([*how, "--padding", "4"])
    assert modes.rc == 9 and modes.json()["error"]["reason"] == "already_encrypted"
    plain = run(["encrypt", disk / "d", "--key-file", key, "--json"])
    assert plain.rc == 9 and plain.json()["error"]["reason"] == "already_encrypted"
    assert records(disk) == before and (disk / "d/file").read_text() == "data"

    run.ok(["lock", disk / "d"])
    assert run.ok(how)["key_status"] == "present"


def test_one_protector_for_many_directories(disk, run, key_file):
    key = key_file()
    first = run.ok(["encrypt", disk / "a", "--create", "--key-file", key, "--name", "main", "--json"])
    again = ["--create", "--key-file", key, "--json", "--protector"]
    identifier = first["protectors"][0]["id"]
    for name, protector in (("b", "main"), ("c", identifier), ("d", identifier[:4])):
        made = run.ok(["encrypt", disk / name, *again, protector])
        assert [one["id"] for one in made["protectors"]] == [identifier]
    assert made["key_identifier"] != first["key_identifier"]
    listing = run.ok(["status", disk, "--json"])
    assert len(listing["protectors"]) == 1 and len(listing["protectors"][0]["opens"]) == 4
    assert run(["encrypt", disk / "e", *again, "nobody"]).json()["error"]["code"] == "not_found"
    assert not (disk / "e").exists()


def test_two_protectors_for_one_directory(disk, run, key_file, passphrase_file):
    key, passphrase = key_file(), passphrase_file("correct horse")
    run.ok(["encrypt", disk / "a", "--create", "--key-file", key, "--name", "machine"])
    made = run.ok(["encrypt", disk / "b", "--create", "--protector", "machine", "--key-file", key,
                   "--source", "passphrase", "--name", "person", "--new-passphrase-file", passphrase,
                   "--json"])
    assert {one["name"] for one in made["protectors"]} == {"machine", "person"}
    for how in (["--key-file", key], ["--passphrase-file", passphrase]):
        run.ok(["lock", disk / "b"])
        run.ok(["unlock", disk / "b", *how])


def test_a_protector_of_another_filesystem_is_copied(disk, second_filesystem, set_up, run, key_file):
    key = key_file()
    set_up(second_filesystem)
    first = run.ok(["encrypt", disk / "a", "--create", "--key-file", key, "--name", "main", "--json"])
    made = run.ok(["encrypt", second_filesystem / "b", "--create", "--protector", f"{disk}:main",
                   "--key-file", key, "--json"])
    assert made["protectors"][0]["id"] == first["protectors"][0]["id"]
    disk.unmount()
    run.ok(["lock", second_filesystem / "b"])
    run.ok(["unlock", second_filesystem / "b", "--key-file", key])


def test_directories_with_one_key_exchange_files(disk, run, key_file):
    key = key_file()
    made = run.ok(["encrypt", disk / "a", "--create", "--key-file", key, "--json"])
    same = run.ok(["encrypt", disk / "b", "--create", "--policy", disk / "a", "--json"])
    assert same["key_identifier"] == made["key_identifier"] and len(records(disk)) == 2
    (disk / "a/file").write_text("data")
    os.rename(disk / "a/file", disk / "b/file")
    run.ok(["lock", disk / "b"])
    third = run.ok(["encrypt", disk / "c", "--create", "--policy", made["key_identifier"],
                    "--key-file", key, "--json"])
    assert third["key_identifier"] == made["key_identifier"]
    paths = [path["path"] for path in run.ok(["status", disk, "--json"])["policies"][0]["paths"]]
    assert sorted(paths) == [str(disk / name) for name in "abc"]
    assert run(["encrypt", disk / "d", "--create", "--policy", disk / "a", "--name", "x"]).rc == 2
    assert run(["encrypt", disk / "d", "--create", "--policy", "0" * 32, "--json"]).rc == 4


def test_it_can_be_left_locked(disk, run, key_file):
    key = key_file()
    made = run.ok(["encrypt", disk / "d", "--create", "--no-unlock", "--key-file", key, "--json"])
    assert made["key_status"] == "absent"
    assert kernel.key_status(disk, made["key_identifier"]).state == "absent"
    with pytest.raises(OSError):
        (disk / "d/file").write_text("data")
    run.ok(["unlock", disk / "d", "--key-file", key])
    (disk / "d/file").write_text("data")


@pytest.mark.parametrize("options", [
    ["--contents", "AES-256-XTS", "--filenames", "Adiantum"],
    ["--contents", "aes-256-xts"], ["--padding", "5"], ["--padding", "0x20"],
    ["--data-unit-size", "3"], ["--data-unit-size", "131072"], ["--direct-key"],
    ["--iv-ino-lblk-64", "--iv-ino-lblk-32"], ["--source", "magic"], ["--name", "a:b"],
    ["--name", "login"], ["--name", "beef"], ["--name", ""], ["--key-format", "utf-8"],
    ["--passphrase-file", "/dev/null"], ["--new-key-file", "/dev/zero"], ["extra"]])
def test_bad_options_are_usage_errors_and_change_nothing(disk, run, key_file, options):
    result = run(["encrypt", disk / "d", "--create", "--key-file", key_file(), "--json", *options])
    assert result.rc == 2 and result.json()["error"]["code"] == "usage", result
    assert not (disk / "d").exists() and records(disk) == []


def test_ciphers_that_this_kernel_lacks_are_noticed_before_anything_is_written(disk, run, key_file):
    before = kernel.key_status(disk, "0" * 32)
    for contents in ("AES-128-CBC", "SM4-XTS"):
        result = run(["encrypt", disk / "d", "--create", "--contents", contents, "--key-file",
                      key_file(), "--json"])
        if result.rc == 0:
            pytest.fail(f"{contents} works here: this test needs a kernel without it")
        assert result.rc == 6 and result.json()["error"]["reason"] == "mode", result
        assert result.json()["changed"] is False
        assert not (disk / "d").exists() and records(disk) == []
    assert kernel.key_status(disk, "0" * 32) == before


@pytest.mark.parametrize("name", ["[x]", "[a,b]", "++", "a b", "-rf", "--", "{}", "%%", "ünïcode",
                                  "new\nline", b"\xff\xfe", "'\"$(touch pwned)`;"])
def test_directories_may_have_any_name(disk, run, key_file, name):
    path = os.fsencode(str(disk)) + b"/" + os.fsencode(name)
    key = key_file()
    run.ok(["encrypt", path, "--create", "--key-file", key])
    assert os.path.isdir(path)
    # Relative, as somebody in that directory types it.
    words = [b"--", os.fsencode(name)]
    run.ok(["lock", *words], cwd=disk)
    run.ok(["unlock", "--key-file", key, *words], cwd=disk)
    answer = run.ok(["status", "--json", *words], cwd=disk)
    assert answer["encrypted"] is True and answer["managed"] is True
    assert ("path_base64" in answer) == isinstance(name, bytes)
    text = run.ok(["list"]).out
    assert len(text.splitlines()) == 2, text


def test_what_cannot_be_encrypted(disk, run, key_file, make_filesystem, room):
    key = key_file()
    (disk / "full").mkdir()
    (disk / "full/file").touch()
    (disk / "file").touch()
    os.mkfifo(disk / "fifo")
    for path, code, reason in ((disk / "full", 9, "not_empty"), (disk / "file", 2, "not_a_directory"),
                               (disk / "fifo", 2, "not_a_directory"), (disk, 2, "filesystem_root"),
                               (disk / "missing", 4, "path"), (room, 6, "filesystem")):
        result = run(["encrypt", path, "--key-file", key, "--json"])
        assert (result.rc, result.json()["error"]["reason"]) == (code, reason), result
    other = make_filesystem()
    assert run(["encrypt", other / "d", "--create", "--key-file", key, "--json"]).rc == 4
    no = make_filesystem(encrypt=False)
    result = run(["encrypt", no / "d", "--create", "--key-file", key, "--json"])
    assert (result.rc, result.json()["error"]["reason"]) == (6, "not_enabled")
    assert records(disk) == []


def test_a_bind_mounted_directory_keeps_its_metadata_at_the_root(disk, room, run, key_file):
    key = key_file()
    (disk / "sub").mkdir()
    elsewhere = room / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", disk / "sub", elsewhere], check=True)
    run.ok(["encrypt", elsewhere / "d", "--create", "--key-file", key])
    assert not (disk / "sub/.fscryptctl").exists() and len(records(disk)) == 2
    run.ok(["lock", disk / "sub/d"])
    assert run.ok(["status", elsewhere / "d", "--json"])["key_status"] == "absent"
    paths = run.ok(["status", disk, "--json"])["policies"][0]["paths"]
    assert paths == [{"path": str(disk / "sub/d"), "state": "ok"}]


def test_what_lies_in_an_encrypted_directory_is_not_encrypted_again(disk, run, key_file):
    key = key_file()
    run.ok(["encrypt", disk / "d", "--create", "--key-file", key])
    (disk / "d/sub").mkdir()
    for path, more in ((disk / "d/sub", []), (disk / "d/new", ["--create"])):
        result = run(["encrypt", path, "--key-file", key, "--json", *more])
        assert result.rc == 9 and result.json()["error"]["reason"] == "already_encrypted"
    assert os.listdir(disk / "d") == ["sub"]
    assert len(run.ok(["list", "--json"])["directories"]) == 1


def test_a_failure_gives_nothing_away(disk, run, key_file):
    (disk / "d").mkdir(mode=0o700)
    how = ["encrypt", disk / "d", "--create", "--user", "1000", "--json", "--key-file"]
    assert run([*how, disk / "missing"]).rc == 4
    assert os.stat(disk / "d").st_uid == 0
    run.ok([*how, key_file()])
    assert os.stat(disk / "d").st_uid == 1000


def test_the_same_protector_twice_is_one(disk, run, key_file):
    key = key_file()
    run.ok(["encrypt", disk / "a", "--create", "--key-file", key, "--name", "p"])
    made = run.ok(["encrypt", disk / "b", "--create", "--key-file", key, "--protector", "p",
                   "--protector", "p", "--json"])
    assert len(made["protectors"]) == 1
    many = [word for _ in range(60) for word in ("--protector", "p")]
    assert run(["encrypt", disk / "c", "--create", "--key-file", key, *many]).rc == 2


def test_a_long_name_is_cut_between_characters(disk, run, key_file):
    name = "鍵" * 80
    made = run.ok(["encrypt", disk / name, "--create", "--key-file", key_file(), "--json"])
    assert made["protectors"][0]["name"] == "鍵" * 66


def test_ensuring_two_directories_of_one_policy_changes_nothing(disk, run, passphrase_file):
    secret = passphrase_file("correct horse")
    run.ok(["encrypt", disk / "a", "--create", "--passphrase-file", secret])
    run.ok(["encrypt", disk / "b", "--create", "--policy", disk / "a", "--passphrase-file", secret])
    for name in ("a", "b", "a", "b"):
        answer = run.ok(["encrypt", disk / name, "--ensure", "--passphrase-file", secret, "--json"])
        assert answer["changed"] is False
