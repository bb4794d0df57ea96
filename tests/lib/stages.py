"""Runs the stages of the test suite one after the other and counts what they say.

A stage reports tests that passed, failed and were skipped. Whatever cannot be counted (a crash, a
report that is missing or empty, a folder that is not there) is a failure, never silence; with
CI=true a skipped test is one too.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"
LOGS = BUILD / "test-logs"
RELEASE, ASAN, FUZZ = BUILD / "release", BUILD / "asan", BUILD / "fuzz"

STAGE_SECONDS = 1200
FUZZ_SECONDS = 60
LONGEST_RECORD = 16384
LINES_OF_A_FAILURE = 25
LINES_OF_A_STAGE = 150
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
SANITIZED = ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-g1",
             f"-DCMAKE_EXE_LINKER_FLAGS={SANITIZE}"]
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


class Count(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    details: str = ""

    def __add__(self, other):
        details = "\n".join(text for text in (self.details, other.details) if text)
        return Count(self.passed + other.passed, self.failed + other.failed,
                     self.skipped + other.skipped, details)


def failure(details):
    return Count(failed=1, details=details)


# Mounts of its own, and processes: whatever looks for who uses a file has few of them to look at,
# and may look at all.
PRIVATE = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
           "--mount-proc"]

RUNNING = set()


def execute(stage, words, env=None):
    """Runs a command with its output in the stage's log; returns the exit code, None if it hung."""
    with open(LOGS / f"{stage}.log", "ab") as log:
        log.write(f"$ {' '.join(str(word) for word in words)}\n".encode())
        log.flush()
        patience = ["nice", "-n", "19"] if stage in BACKGROUND else []
        process = subprocess.Popen([*patience, *(str(word) for word in words)], cwd=REPOSITORY, stdout=log,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   start_new_session=True,
                                   env={**os.environ, **ENVIRONMENT, **(env or {})})
        RUNNING.add(process)
        if patience:
            let_others_go_first(process)
        try:
            return process.wait(STAGE_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        finally:
            stop(process)
            RUNNING.discard(process)


def let_others_go_first(process):
    """Where each session is scheduled as one, niceness counts within it only: it has one of its own."""
    try:
        Path(f"/proc/{process.pid}/autogroup").write_text("19")
    except OSError:
        pass  # no such scheduling, or it has ended


def stop(process):
    """Ends a process that is still there: politely, so that it can clean up, then for good.

    It has a session of its own because run-clang-tidy, when interrupted, kills its process group.
    """
    for number, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 5)):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                pass


def log_lines(stage):
    text = (LOGS / f"{stage}.log").read_text(errors="replace")
    return re.sub("\x1b\\[[0-9;]*m", "", text).splitlines()


def log_tail(stage):
    return "\n".join(log_lines(stage)[-LINES_OF_A_FAILURE:])


def one(stage, words, env=None):
    """A stage that is one test: what counts is the exit code."""
    rc = execute(stage, words, env)
    if rc == 0:
        return Count(passed=1)
    return failure(f"{'timed out' if rc is None else f'exit code {rc}'}: {words[0]}\n{log_tail(stage)}")


def read_report(file):
    """Counts a JUnit report by its test cases: the totals that it claims differ between writers."""
    total = Count()
    for case in xml.parse(file).iter("testcase"):
        name = f"{case.get('classname')}: {case.get('name')}"
        bad = [child for child in case if child.tag in ("failure", "error")]
        skip = case.find("skipped")
        if bad:
            text = "\n".join(f"{child.get('message') or ''}\n{child.text or ''}" for child in bad)
            lines = text.strip().splitlines()[-LINES_OF_A_FAILURE:]
            total += failure("\n".join([f"FAILED {name}", *(f"    {line}" for line in lines)]))
        elif skip is not None:
            total += Count(skipped=1, details=f"SKIPPED {name}: {skip.get('message')}")
        else:
            total += Count(passed=1)
    return total


def report(stage, words, file, env=None):
    """A stage that writes a JUnit report; a bad exit code without a failed test is a failure too."""
    file.unlink(missing_ok=True)
    rc = execute(stage, words, env)
    try:
        total = read_report(file)
    except (OSError, xml.ParseError) as error:
        return failure(f"no report ({error}), exit code {rc}\n{log_tail(stage)}")
    if total.passed + total.failed + total.skipped == 0:
        return failure(f"no test was run\n{log_tail(stage)}")
    if rc != 0 and total.failed == 0:
        total += failure(f"exit code {rc}, though no test failed\n{log_tail(stage)}")
    return total


def build(stage, directory, targets, *options, env=None):
    launcher = {"CMAKE_CXX_COMPILER_LAUNCHER": "ccache"} if shutil.which("ccache") else {}
    configure = ["cmake", "-S", REPOSITORY, "-B", directory, "-G", "Ninja", *options]
    configured = one(stage, configure, {**launcher, **(env or {})})
    if configured.failed:
        return configured
    return one(stage, ["ninja", "-C", directory, *targets])


def needs(program):
    return None if program.exists() else failure(f"{program} was not built")


def pytest(stage, folder, needs_root, inside=()):
    if not list((REPOSITORY / folder).rglob("test_*.py")):
        return failure(f"{folder} holds no tests")
    if needs_root and os.geteuid() != 0:
        return Count(skipped=1, details=f"SKIPPED {folder}: THE WHOLE STAGE NEEDS ROOT, NOTHING RAN")
    report_file = LOGS / f"{stage}.xml"
    words = ["/usr/bin/python3", "-m", "pytest", "-vv", "-rs", f"--junitxml={report_file}", folder]
    if needs_root:
        words = [*(inside or PRIVATE), *words]
    return report(stage, words, report_file, {"FSCRYPTCTL": str(RELEASE / "fscryptctl"),
                                              "PYTHONDONTWRITEBYTECODE": "1"})


def files(folder):
    """Every file of the tree but what was built or belongs to git."""
    found = []
    for directory, folders, names in os.walk(REPOSITORY / folder):
        folders[:] = [name for name in folders if name not in ("build", ".git", "__pycache__")]
        found += [Path(directory) / name for name in names]
    return sorted(found)


def is_shell_script(path):
    with open(path, "rb") as file:
        first = file.readline()
    return re.match(rb"#!.*[/ ](ba|da)?sh\b", first) is not None


# The stages, in the order in which they run: name -> what it does.


def stage_build():
    return build("build", RELEASE, ["fscryptctl", "pam_fscryptctl"], "-DCMAKE_BUILD_TYPE=Release")


def stage_man():
    pages = [path for path in files("man") if re.fullmatch(r"\.[1-8]", path.suffix)]
    if not pages:
        return failure("man holds no pages")
    return one("man", ["mandoc", "-T", "lint", "-W", "warning", *pages])


def stage_shellcheck():
    scripts = [path for path in files(".") if is_shell_script(path)]
    return one("shellcheck", ["shellcheck", *scripts])


def stage_project():
    return pytest("project", "tests/project", needs_root=False)


def stage_system():
    return pytest("system", "tests/system", needs_root=True)


def stage_cli():
    return pytest("cli", "tests/cli", needs_root=True)


def stage_pam():
    # In a copy of the machine, since it is the machine's logins that are changed.
    enter = REPOSITORY / "tests/pam/enter"
    return pytest("pam", "tests/pam", needs_root=True,
                  inside=[enter, REPOSITORY, "env", "-C", REPOSITORY])


def stage_guest():
    return pytest("guest", "tests/guest", needs_root=True)


def stage_build_asan():
    # Not optimised: compiling the tests would take three times as long, running them takes seconds.
    return build("build-asan", ASAN, ["unit_tests"], *SANITIZED, f"-DCMAKE_CXX_FLAGS={SANITIZE}")


def stage_unit():
    program, report_file = ASAN / "unit_tests", LOGS / "unit.xml"
    return needs(program) or report("unit", [program, "-r", "junit", "-o", report_file], report_file)


def stage_build_fuzz():
    # Optimised a little: here it is the number of executions that finds something.
    return build("build-fuzz", FUZZ, ["codec_fuzzer", "imports_fuzzer"], *SANITIZED, "-DFSCRYPTCTL_FUZZ=ON",
                 f"-DCMAKE_CXX_FLAGS=-O1 {SANITIZE}", env={"CXX": "clang++"})


def stage_fuzz():
    program = FUZZ / "codec_fuzzer"
    # The vectors' records without their headers: with these, every one would be refused at once.
    records = FUZZ / "records"
    written = one("fuzz", [REPOSITORY / "metadata-format/generate-vectors", "--records", records])
    if written.failed:
        return written
    corpus = FUZZ / "corpus"
    corpus.mkdir(exist_ok=True)
    return needs(program) or one("fuzz", [
        program, f"-max_total_time={FUZZ_SECONDS}", f"-max_len={2 * LONGEST_RECORD}", "-timeout=5",
        "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={LOGS}/fuzz-", corpus,
        records, REPOSITORY / "tests/fuzz/journals"])


def stage_fuzz_imports():
    program = FUZZ / "imports_fuzzer"
    corpus = FUZZ / "imports-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    return needs(program) or one("fuzz-imports", [
        program, f"-max_total_time={FUZZ_SECONDS}", f"-max_len={2 * LONGEST_RECORD}", "-timeout=5",
        "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={LOGS}/fuzz-", corpus,
        REPOSITORY / "tests/fuzz/imports"])


def stage_tidy():
    count = one("tidy", ["run-clang-tidy", "-quiet", "-p", RELEASE, f"-j{os.cpu_count()}",
                         f"^{REPOSITORY}/(lib|cmd)/"])
    # Its log is long and out of order: what matters is where the findings are.
    findings = sorted({line for line in log_lines("tidy") if " error: " in line})
    return count._replace(details="\n".join(findings)) if count.failed and findings else count


STAGES = {name.removeprefix("stage_").replace("_", "-"): function
          for name, function in list(globals().items()) if name.startswith("stage_")}
NEEDS = {"unit": ["build-asan"], "system": ["build"], "cli": ["build"], "pam": ["build"],
         "guest": ["build"], "fuzz": ["build-fuzz"], "fuzz-imports": ["build-fuzz"],
         "tidy": ["build"]}


# They need nothing but processors: they run beside the stages that mostly wait, and give way to them.
BACKGROUND = ("build-asan", "build-fuzz", "tidy", "fuzz", "fuzz-imports")
BACKGROUND_AT_ONCE = 2


def timed(name):
    """Runs a stage; returns its count and the seconds that it took."""
    (LOGS / f"{name}.log").unlink(missing_ok=True)
    begun = time.monotonic()
    count = STAGES[name]()
    if os.environ.get("CI") == "true" and count.skipped:
        count = count._replace(failed=count.failed + count.skipped, skipped=0)
    return count, time.monotonic() - begun


def shortened(details, log):
    """What fits on a screen or two; of the rest only which tests it is about."""
    lines = details.splitlines()
    rest = [line for line in lines[LINES_OF_A_STAGE:] if line.startswith(("FAILED", "SKIPPED"))]
    more = [f"everything is in {log}"] if len(lines) > LINES_OF_A_STAGE else []
    return lines[:LINES_OF_A_STAGE] + rest + more


def announce(name, count, seconds):
    verdict = "FAILED" if count.failed else "SKIPPED" if count.skipped else "ok"
    numbers = ", ".join(f"{number} {word}" for number, word in
                        zip(count[:3], ("passed", "failed", "skipped")) if number)
    print(f"{name:<13} {verdict:<8} {numbers:<36} {seconds:6.1f} s", flush=True)
    for line in shortened(count.details, LOGS / f"{name}.log"):
        print(f"    {line}", flush=True)


def run_stages(names):
    """Runs the stages in order, and those of BACKGROUND beside them once the program is built."""
    total, early = Count(), {}

    def when_ready(name):
        for need in NEEDS.get(name, []):
            if need in early:
                early[need].result()
        return timed(name)

    def start_background():
        for name in BACKGROUND:
            if name in names and name not in early:
                early[name] = pool.submit(when_ready, name)

    with ThreadPoolExecutor(BACKGROUND_AT_ONCE) as pool:
        try:
            for name in names:
                if name != "build":
                    start_background()
                count, seconds = early[name].result() if name in early else when_ready(name)
                announce(name, count, seconds)
                total += count
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                stop(process)
            raise
    return total


def selected(arguments):
    """The stages named, preceded by those that build what they run; all of them without a name."""
    unknown = [name for name in arguments if name not in STAGES]
    if unknown:
        sys.exit(f"error: no such stage: {' '.join(unknown)}\nstages: {' '.join(STAGES)}")
    wanted = set(arguments or STAGES)
    wanted.update(need for name in list(wanted) for need in NEEDS.get(name, []))
    return [name for name in STAGES if name in wanted]


def main(arguments):
    if arguments == ["--list"]:
        print("\n".join(STAGES))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Whoever starts this in the background may have it ignore these, and a program that is told to
    # ignore a signal rightly does: the tests of signals would then wait for nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    LOGS.mkdir(parents=True, exist_ok=True)
    summary_file = LOGS / "summary"
    summary_file.unlink(missing_ok=True)
    total = run_stages(selected(arguments))
    summary = f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped"
    summary_file.write_text(summary + "\n")
    print(summary)
    return 1 if total.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
