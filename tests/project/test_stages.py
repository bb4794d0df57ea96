"""The counting of tests: whatever did not run or cannot be counted is a failure."""


import pytest

import stages


@pytest.fixture(autouse=True)
def scratch_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "LOGS", tmp_path)
    monkeypatch.setattr(stages, "REPOSITORY", tmp_path)
    monkeypatch.delenv("CI", raising=False)


def counted(tmp_path, cases, then="exit 0"):
    """Counts a run of a program that writes these test cases and ends so."""
    written = tmp_path / "written"
    written.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    report = tmp_path / "report.xml"
    return stages.report("x", ["sh", "-c", f"cp {written} {report}; {then}"], report)


def test_each_test_case_counts_once(tmp_path):
    count = counted(tmp_path, '<testcase name="a"/><testcase name="b"><skipped message="no disk"/></testcase>'
                    '<testcase name="c"><failure message="wrong">line 7</failure></testcase>', "exit 1")
    assert count[:3] == (1, 1, 1)
    assert "SKIPPED None: b: no disk" in count.details
    assert "FAILED None: c" in count.details and "line 7" in count.details


@pytest.mark.parametrize("cases, then", [
    ("", "exit 0"),
    ('<testcase name="a"/>', "exit 3"),
    ('<testcase name="a"/>', "kill -SEGV $$"),
    ("<testcase", "exit 0")])
def test_a_run_that_ended_badly_or_tested_nothing_fails(tmp_path, cases, then):
    assert counted(tmp_path, cases, then).failed == 1


def test_a_missing_report_fails_and_an_old_one_does_not_count(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text('<testsuites><testcase name="a"/></testsuites>')
    assert stages.report("x", ["true"], report)[:3] == (0, 1, 0)


def test_a_folder_without_tests_fails(tmp_path):
    assert stages.pytest("x", "tests/absent", needs_root=False).failed == 1
    (tmp_path / "tests/empty").mkdir(parents=True)
    assert stages.pytest("x", "tests/empty", needs_root=False).failed == 1


def test_a_command_that_hangs_is_ended_and_fails(monkeypatch):
    monkeypatch.setattr(stages, "STAGE_SECONDS", 0.2)
    count = stages.one("x", ["sleep", "600"])
    assert count.failed == 1 and "timed out" in count.details


def test_a_skip_is_said_aloud_and_fails_in_continuous_integration(monkeypatch, capsys):
    monkeypatch.setitem(stages.STAGES, "x", lambda: stages.Count(2, 0, 1, "SKIPPED y: no kernel"))
    assert stages.run_stages(["x"])[:3] == (2, 0, 1)
    assert "SKIPPED y: no kernel" in capsys.readouterr().out
    monkeypatch.setenv("CI", "true")
    assert stages.run_stages(["x"])[:3] == (2, 1, 0)


def test_a_stage_in_the_background_counts_like_any_other(monkeypatch):
    order = []
    for name, count in (("build", stages.Count(1)), ("slow", stages.Count(0, 1)), ("b", stages.Count(1))):
        monkeypatch.setitem(stages.STAGES, name, lambda name=name, count=count: order.append(name) or count)
    monkeypatch.setattr(stages, "BACKGROUND", {"slow"})
    monkeypatch.setitem(stages.NEEDS, "slow", ["build"])
    assert stages.run_stages(["build", "b", "slow"])[:3] == (2, 1, 0)
    assert order[0] == "build" and sorted(order) == ["b", "build", "slow"]


def test_of_many_failures_all_names_are_shown():
    details = "".join(f"FAILED test {number}\n    why\n" for number in range(1000))
    shown = stages.shortened(details, "x.log")
    assert [line for line in shown if "FAILED" in line][-1] == "FAILED test 999"
    assert len(shown) < 1200 and shown[-1] == "everything is in x.log"


def test_naming_a_stage_builds_what_it_runs():
    assert stages.selected(["unit"]) == ["build-asan", "unit"]
    assert stages.selected([]) == list(stages.STAGES)
    with pytest.raises(SystemExit, match="no such stage: units"):
        stages.selected(["units"])


@pytest.mark.parametrize("line, expected", [
    ("#!/bin/sh", True), ("#!/bin/bash -e", True), ("#!/usr/bin/env bash", True), ("#!/bin/dash", True),
    ("#!/usr/bin/python3", False), ("#!/usr/bin/fish", False), ("echo sh", False), ("", False)])
def test_shell_scripts_are_told_by_their_first_line(tmp_path, line, expected):
    (tmp_path / "script").write_text(line + "\n")
    assert stages.is_shell_script(tmp_path / "script") is expected


def test_every_suite_folder_is_run_by_a_stage():
    folders = {folder.parent.relative_to(stages.Path(__file__).parents[2]).parts[1]
               for folder in stages.Path(__file__).parents[1].rglob("test_*.py")}
    assert folders <= set(stages.STAGES)
