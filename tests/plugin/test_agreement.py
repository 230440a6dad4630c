"""What is written of a run says no other thing than its exit code."""

import json
import re

import pytest
from canned_suite import GATES, run_suite

from optimize.cli import main
from optimize.judge.stored import read_report

pytest_plugins = ["pytester"]

OTHER = GATES + "\ndef test_classifier_answers_as_judged(report):\n    assert not report.gates\n"
# As a check of coverage does: no test of pytest's failed.
ANOTHERS = """
def pytest_sessionfinish(session):
    session.exitstatus = 1
"""
TAKEN_AWAY = """
def pytest_sessionfinish(session):
    plugins = session.config.pluginmanager
    plugins.unregister(plugins.get_plugin("optimize-session"))
"""


@pytest.mark.parametrize(
    ("suite", "options", "extra", "words"),
    [
        (OTHER, (), "", "1 test that is no gate failed"),
        (GATES, ("-k", "size"), "", "1 of 2 gates gave no verdict: speed"),
        (GATES, (), ANOTHERS, "pytest ended with 1, which no gate explains"),
        (GATES, (), TAKEN_AWAY, "pytest ended with 1"),
    ],
    ids=["another test", "deselected", "another plugin", "taken away"],
)
def test_a_run_that_fails_is_told_as_failed(
    pytester, canned_report, monkeypatch, suite, options, extra, words
):
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    report = canned_report("pass")
    result = run_suite(pytester, suite, report, "--out", "report", *options, conftest=extra)
    assert result.ret == 1
    folder = pytester.path / "report"
    written = read_report(folder / "report.json")
    assert written.verdict == "fail"
    assert words in written.failure
    badge = json.loads((folder / "badge.json").read_text())
    assert badge["color"] == "red"
    for name in ("comment.md", "report.md", "report.html"):
        text = (folder / name).read_text()
        assert words in text, name
        assert "Safe to ship" not in text, name
    assert "## Verdict: FAIL" in summary.read_text()
    assert main(["report", str(folder / "report.json")]) == 1
    assert main(["baseline", "save", str(folder / "report.json"), "--out", "kept.json"]) != 0
    assert not (pytester.path / "kept.json").exists()


def test_a_run_that_passes_says_so_once(pytester, canned_report, monkeypatch):
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = run_suite(pytester, GATES, canned_report("pass"), "--out", "report")
    assert result.ret == 0
    assert read_report(pytester.path / "report" / "report.json").failure == ""
    assert len(re.findall("## Verdict: PASS", summary.read_text())) == 1


@pytest.mark.parametrize(("policy", "code"), [("fail", 1), ("warn", 0), (None, 6)])
def test_an_undecided_run_is_told_as_undecided(pytester, canned_report, policy, code):
    options = () if policy is None else (f"--inconclusive={policy}",)
    report = canned_report("inconclusive")
    result = run_suite(pytester, GATES, report, "--out", "report", *options)
    assert result.ret == code
    written = read_report(pytester.path / "report" / "report.json")
    assert (written.verdict, written.failure) == ("inconclusive", "")
