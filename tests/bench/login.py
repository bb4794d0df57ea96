"""What a login costs with pam_fscryptctl beside Debian's pam_fscrypt; run by tests/bench/run-login in
a throw-away copy of the machine. Time added to authentication, account and session together."""

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse"
OURS = "/usr/local/bin/fscryptctl"
SERVICES = {"bench-none": "", "bench-ours": "pam_fscryptctl.so", "bench-theirs": "pam_fscrypt.so"}


def run(*words, **how):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **how)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def write_services():
    for service, module in SERVICES.items():
        lines = ["auth required pam_unix.so", "account required pam_unix.so",
                 "session required pam_permit.so"]
        if module:
            lines += [f"{group} optional {module}" for group in ("auth", "account", "session")
                      if (group, module) != ("account", "pam_fscrypt.so")]
        Path(f"/etc/pam.d/{service}").write_text("\n".join(lines) + "\n")


def make_user(name, directories):
    run("useradd", "-m", name)
    run("chpasswd", "-c", "SHA256", "-s", "1000", input=f"{name}:{PASSWORD}\n")
    identity = ["setpriv", "--reuid", name, "--regid", name, "--init-groups"]
    protector = None
    for i in range(directories):
        ours, theirs = Path(f"/ours/{name}{i}"), Path(f"/theirs/{name}{i}")
        for path in (ours, theirs):
            path.mkdir()
            run("chown", name, path)
        run(*identity, OURS, "-q", "encrypt", ours, "--source", "login", "--no-recovery-key",
            input=PASSWORD + "\n")
        how = [f"--protector={protector}"] if protector else ["--source=pam_passphrase"]
        run("fscrypt", "encrypt", theirs, f"--user={name}", "--quiet", *how, input=PASSWORD + "\n")
        if not protector:
            status = run("fscrypt", "status", theirs)
            identifier, mount = re.search(r"^([0-9a-f]{16})\s+(?:Yes \((.*)\)|No)", status, re.M).groups()
            protector = f"{mount or '/theirs'}:{identifier}"
        run(OURS, "-q", "lock", ours, "--user", name)
        run("fscrypt", "lock", theirs, f"--user={name}")


class Host:
    def __init__(self, service, user):
        self.process = subprocess.Popen(["/usr/bin/python3", REPOSITORY / "tests/pam/host.py"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self("start", service, user)

    def __call__(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["result"] == 0, (words, answer)
        return answer["seconds"] * 1000


def login(service, user):
    host = Host(service, user)
    host("answers", PASSWORD)
    spent = sum(host(step) for step in ("authenticate", "acct_mgmt", "open_session"))
    out = host("close_session")
    host.process.stdin.close()
    host.process.wait()
    return spent, out


def main(rounds):
    os.environ["PATH"] += ":/usr/local/bin:/usr/sbin:/sbin"
    run("cp", REPOSITORY / "build/release/fscryptctl", OURS)
    run("cp", REPOSITORY / "build/release/pam_fscryptctl.so", "/lib/x86_64-linux-gnu/security/")
    run("cp", REPOSITORY / "cmd/pam_fscryptctl/pam.d/fscryptctl.debian", "/etc/pam.d/fscryptctl")
    write_services()
    for name in ("ours", "theirs"):
        run("truncate", "-s", "64M", f"/tmp/{name}")
        run("mkfs.ext4", "-q", "-O", "encrypt", f"/tmp/{name}")
        run("mkdir", "-p", f"/{name}")
        run("mount", "-o", "loop", f"/tmp/{name}", f"/{name}")
    run(OURS, "setup", "--kdf-time", "1", "--kdf-memory", "1", "--kdf-lanes", "1")
    run(OURS, "setup", "/ours", "--all-users")
    Path("/etc/fscrypt.conf").unlink(missing_ok=True)
    run("fscrypt", "setup", "--force", "--quiet", "--time=1ms")
    run("fscrypt", "setup", "/theirs", "--quiet", "--all-users")
    users = {"no records": ("nobody0", 0), "one directory": ("nobody1", 1), "fifty": ("nobody50", 50)}
    for name, number in users.values():
        make_user(name, number)
    print("| login of a user with | pam_fscryptctl | pam_fscrypt | logout | logout |\n|---|---|---|---|---|")
    for label, (name, _) in users.items():
        spent = {service: [] for service in SERVICES}
        out = {service: [] for service in SERVICES}
        for _ in range(rounds):
            for service in SERVICES:
                inside, after = login(service, name)
                spent[service].append(inside)
                out[service].append(after)
        added = {service: statistics.median(spent[service]) - statistics.median(spent["bench-none"])
                 for service in SERVICES}
        left = {service: statistics.median(out[service]) for service in SERVICES}
        print(f"| {label} | {added['bench-ours']:.2f} ms | {added['bench-theirs']:.2f} ms "
              f"| {left['bench-ours']:.2f} ms | {left['bench-theirs']:.2f} ms |", flush=True)


main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
