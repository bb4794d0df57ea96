"""The text of the metadata format, its independent reader and its vectors agree with each other."""

import base64
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FORMAT = Path(__file__).resolve().parents[2] / "metadata-format"
VECTORS = sorted((FORMAT / "vectors").glob("*.txt"))


def load_reader():
    sys.dont_write_bytecode = True
    specification = importlib.util.spec_from_file_location("reader", FORMAT / "reader.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


reader = load_reader()
PARSERS = {"policy": reader.read_policy, "protector": reader.read_protector}


def read_vector(path):
    """The headers, and each record by its kind."""
    head, *parts = re.split(r"(?m)^=== (policy|protector)\n", path.read_text())
    headers = dict(line.split(": ", 1) for line in head.splitlines())
    bodies = [part.encode() for part in parts[1::2]]
    if headers.get("encoding") == "base64":
        bodies = [base64.b64decode(body) for body in bodies]
    return headers, dict(zip(parts[::2], bodies))


def secret_of(headers):
    if "key" in headers:
        return reader.Secret(key=bytes.fromhex(headers["key"]))
    if "recovery-key" in headers:
        return reader.Secret(key=reader.read_recovery_key(headers["recovery-key"])[0])
    if "passphrase-hex" in headers:
        return reader.Secret(passphrase=bytes.fromhex(headers["passphrase-hex"]))
    if "passphrase" in headers:
        return reader.Secret(passphrase=headers["passphrase"].encode())
    return None


def outcome(headers, records):
    """What the reader says of a vector, in the words of its header `expect`."""
    try:
        parsed = {kind: PARSERS[kind](data) for kind, data in records.items()}
        secret = secret_of(headers)
        if secret is None:
            return "ok"
        key = reader.open_protector(parsed["protector"], secret)
        if key is not None and "policy" in parsed:
            key = reader.open_policy(parsed["policy"], parsed["protector"].id, key)
        return "wrong_key" if key is None else "ok"
    except reader.Refused as refused:
        return refused.reason


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_reader_agrees_with_the_vector(path):
    headers, records = read_vector(path)
    assert list(records) == headers["kind"].split("+")
    assert outcome(headers, records) == headers["expect"], headers["comment"]


def test_there_are_vectors_for_every_outcome():
    expected = {read_vector(path)[0]["expect"] for path in VECTORS}
    assert expected == {"ok", "corrupt_metadata", "newer_format", "wrong_key"}


def test_the_generator_writes_exactly_these_vectors(tmp_path):
    subprocess.run([sys.executable, FORMAT / "generate-vectors", tmp_path], check=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in VECTORS}


@pytest.fixture
def worked_example(tmp_path):
    """The records of the worked example in the text: policy, protector."""
    text = (FORMAT / "README.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text[text.index("## Worked example"):], re.DOTALL)
    paths = {}
    for block in blocks:
        kind = re.search(r"fscryptctl-(\w+)-1", block)[1]
        paths[kind] = tmp_path / f"{kind}.yaml"
        paths[kind].write_text(block)
    return paths["policy"], paths["protector"]


def run_reader(*arguments, secret):
    return subprocess.run([sys.executable, FORMAT / "reader.py", *arguments], input=secret,
                          capture_output=True)


def test_the_worked_example_opens(worked_example):
    done = run_reader(*worked_example, secret=b"correct horse\nrest")
    assert done.stdout.decode() == "key identifier 8699c2c53707405da5aba5ae4d8583c0\n"
    assert done.returncode == 0


def test_the_key_is_printed_only_when_asked_for(worked_example):
    key = bytes(range(64)).hex().encode()
    assert key not in run_reader(*worked_example, secret=b"correct horse\n").stdout
    assert key in run_reader("--show-key", *worked_example, secret=b"correct horse\n").stdout


def test_a_wrong_passphrase_does_not_open_the_worked_example(worked_example):
    done = run_reader(*worked_example, secret=b"correct horse \n")
    assert (done.returncode, done.stdout) == (3, b"")


def test_a_one_time_code_has_one_spelling_and_many_that_are_read():
    code = bytes(0x11 * i for i in range(16))
    text = "008J-4CT4-ANK7-F24S-NAXW-SQFE-ZZ5N-JCRF"  # as in tests/crypto/share_code_test.cpp
    assert reader.write_share_code(code) == text
    for spelling in (text, text.lower().replace("-", " "), text.replace("0", "o").replace("1", "l")):
        assert reader.read_share_code(spelling) == code
    for mistyped in (text[:-1], text + "0", text.replace("8", "9"), "", text[:-1] + "U"):
        assert reader.read_share_code(mistyped) is None


def test_a_file_under_another_identifier_is_refused(worked_example, tmp_path):
    policy, protector = worked_example
    right, wrong = (tmp_path / f"{name}.yaml" for name in ("572b248e70045051", "572b248e70045052"))
    for path in (right, wrong):
        path.write_bytes(protector.read_bytes())
    assert run_reader(policy, right, secret=b"correct horse\n").returncode == 0
    assert run_reader(policy, wrong, secret=b"correct horse\n").returncode == 8
