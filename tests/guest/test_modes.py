"""Every pair of modes, data unit size and flag that the kernel has, in use on ext4 and f2fs."""

import pytest

CONTENTS = {"AES-256-XTS": 1, "AES-128-CBC": 5, "SM4-XTS": 7, "Adiantum": 9}
FILENAMES = {"AES-256-CTS": 4, "AES-128-CTS": 6, "SM4-CTS": 8, "Adiantum": 9, "AES-256-HCTR2": 10}
PAIRS = [("AES-256-XTS", "AES-256-CTS"), ("AES-128-CBC", "AES-128-CTS"), ("Adiantum", "Adiantum"),
         ("AES-256-XTS", "AES-256-HCTR2"), ("SM4-XTS", "SM4-CTS")]
FLAGS = {"--direct-key": ("DIRECT_KEY", 0x04), "--iv-ino-lblk-64": ("IV_INO_LBLK_64", 0x08),
         "--iv-ino-lblk-32": ("IV_INO_LBLK_32", 0x10)}
PADDING_32 = 0x03
# Several blocks and a part of one: longer than a request may be, so repeated in the guest.
PAGE = bytes(range(256))
PAGES = 41


@pytest.fixture
def passphrase(tool):
    return tool.passphrase("correct horse battery")


@pytest.fixture
def encrypted_with(tool, machine, passphrase, fresh):
    """encrypted_with(volume, options): what `status` and the kernel say about such a directory.

    On the way there the directory is written, locked, unlocked and read.
    """
    def make(volume, *options):
        path = volume / fresh
        tool.ok("encrypt", path, "--create", *options, "--new-passphrase-file", passphrase)
        machine.mkdir(f"{path}/folder")
        machine.write(f"{path}/folder/letter", PAGE, repeat=PAGES)
        tool.ok("lock", path)
        assert machine.names(path) != ["folder"]
        tool.ok("unlock", path, "--passphrase-file", passphrase)
        assert machine.read(f"{path}/folder/letter") == PAGE * PAGES
        return tool.ok("status", path)["policy"], machine.kernel_policy(path)

    return make


def options_for(pair):
    return "--contents", pair[0], "--filenames", pair[1]


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_each_pair_of_modes_keeps_data(volume, pair, encrypted_with):
    shown, kernel = encrypted_with(volume, *options_for(pair))
    assert (shown["contents"], shown["filenames"]) == pair
    assert (kernel["contents"], kernel["filenames"]) == (CONTENTS[pair[0]], FILENAMES[pair[1]])
    assert (shown["padding"], shown["flags"], kernel["flags"]) == (32, [], PADDING_32)
    assert shown["key_identifier"] == kernel["key_identifier"]


@pytest.mark.parametrize("size", [512, 1024, 2048, 4096])
def test_each_data_unit_size_keeps_data(ext4, size, encrypted_with):
    shown, kernel = encrypted_with(ext4, "--data-unit-size", size)
    assert shown["data_unit_size"] == size
    assert 1 << kernel["log2_data_unit_size"] == size


def test_a_small_data_unit_keeps_data_on_f2fs(volumes, encrypted_with):
    shown, kernel = encrypted_with(volumes["f2fs"], "--data-unit-size", 512)
    assert shown["data_unit_size"] == 512
    assert kernel["log2_data_unit_size"] == 9


@pytest.mark.parametrize("padding", [4, 8, 16])
def test_each_padding_of_names_is_what_was_asked_for(ext4, padding, encrypted_with):
    shown, kernel = encrypted_with(ext4, "--padding", padding)
    assert shown["padding"] == padding
    assert 4 << kernel["flags"] == padding


@pytest.mark.parametrize("option, pair", [("--direct-key", ("Adiantum", "Adiantum")),
                                          ("--iv-ino-lblk-64", PAIRS[0]),
                                          ("--iv-ino-lblk-32", PAIRS[0])])
def test_each_flag_keeps_data(ext4, option, pair, encrypted_with):
    shown, kernel = encrypted_with(ext4, option, *options_for(pair))
    name, bit = FLAGS[option]
    assert shown["flags"] == [name]
    assert kernel["flags"] == bit | PADDING_32
