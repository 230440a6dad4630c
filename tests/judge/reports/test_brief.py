"""The comment on a pull request, kept up to date by the action's script, and the badge."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from answering import ACTING, answering

from optimize.judge.reports.brief import MARKER, badge, comment

SCRIPT = Path(__file__).parents[3] / ".github" / "actions" / "gate" / "comment.sh"


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
@pytest.mark.parametrize("gates", [1, 200])
def test_at_most_sixty_lines_and_the_verdict_first(canned_report, verdict, gates):
    found = canned_report(verdict)
    found = found.model_copy(update={"gates": found.gates * gates})
    lines = comment(found).splitlines()
    assert lines[0] == MARKER
    assert verdict.upper() in lines[1]
    assert len(lines) <= 60
    assert lines[-1] == "</details>"


def test_texts_of_others_do_not_act(canned_report):
    found = answering(canned_report("fail"), (ACTING, "b"))
    gates = tuple(gate.model_copy(update={"measured": ACTING}) for gate in found.gates)
    told = comment(found.model_copy(update={"gates": gates}))
    assert "<script" not in told
    assert "\x1b" not in told


@pytest.mark.parametrize(
    ("verdict", "colour"), [("pass", "brightgreen"), ("fail", "red"), ("inconclusive", "yellow")]
)
def test_badge(canned_report, verdict, colour):
    found = json.loads(badge(canned_report(verdict)))
    assert (found["schemaVersion"], found["color"]) == (1, colour)
    passed = {"pass": "2 of 2 pass"}.get(verdict, f"1 of 2 pass, 1 {verdict}")
    assert found["message"] == passed


GH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
for word; do [[ "$word" != body=@* ]] || cat "${word#body=@}" > "$BODY"; done
[[ "$*" != *--paginate* ]] || printf '%s' "$EXISTING"
"""


def posted(folder, existing="", **environment):
    """What the script asks of GitHub, and the body of the comment."""
    (folder / "gh").write_text(GH)
    (folder / "gh").chmod(0o755)
    own = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "NUMBER": "7", "HEAD_SHA": "abc123",
        "GITHUB_REPOSITORY": "o/r", "CALLS": str(folder / "calls"), "EXISTING": existing,
        "BODY": str(folder / "body"), "OUTCOME": "success",
    }  # fmt: skip
    subprocess.run(["bash", SCRIPT, folder], env={**os.environ, **own, **environment}, check=True)
    asked, told = (folder / "calls").read_text().splitlines()
    return asked, told, (folder / "body").read_text()


@pytest.mark.parametrize(
    ("existing", "call"),
    [("", "POST repos/o/r/issues/7/comments"), ("42\n43\n", "PATCH repos/o/r/issues/comments/42")],
)
def test_one_comment_is_kept_up_to_date(canned_report, tmp_path, existing, call):
    found = canned_report("pass")
    many = found.model_copy(update={"gates": found.gates * 200})
    (tmp_path / "comment.md").write_text(comment(many))
    asked, told, body = posted(tmp_path, existing)
    assert f'startswith("{MARKER}")' in asked
    assert call in told
    lines = body.splitlines()
    assert len(lines) <= 60
    assert lines[0] == MARKER
    assert lines[1].startswith("### PASS")
    assert "commit abc123" in lines[-1]


def test_gates_of_one_pull_request_have_comments_of_their_own(canned_report, tmp_path):
    """Else the last one to end would be the only one that is told."""
    (tmp_path / "comment.md").write_text(comment(canned_report("fail")))
    asked, _, body = posted(tmp_path, GATE='ci/gate Linux-X64 a"b')
    marker = re.match(r"<!-- optimize-gate ci/gate Linux-X64 a_b \d+ -->\n(?=### FAIL)", body)
    assert f'startswith("{marker.group().strip()}")' in asked
    # Names that differ in other characters alone are two gates.
    (tmp_path / "calls").unlink()
    other = posted(tmp_path, GATE="ci/gate Linux-X64 a+b")[2]
    assert other.splitlines()[0] != body.splitlines()[0]
    assert "ci/gate Linux-X64 a_b · commit" in body.splitlines()[-1]


@pytest.mark.parametrize("outcome", ["failure", "skipped"])
def test_a_run_without_a_verdict_takes_the_place_of_an_earlier_pass(
    canned_report, tmp_path, outcome
):
    if outcome == "skipped":  # before the gate; what lies there is of an earlier one
        (tmp_path / "comment.md").write_text(comment(canned_report("pass")))
    (tmp_path / "failure.txt").write_text("gate: the kit @someone <b>x</b>\nis broken\n")
    _, told, body = posted(tmp_path, "42\n", OUTCOME=outcome)
    assert "PATCH" in told
    assert "### FAIL · No verdict" in body
    assert "PASS" not in body
    assert ("    gate: the kit @someone" in body) == (outcome == "failure")


@pytest.mark.parametrize(
    ("verdict", "outcome", "stands"),
    [
        ("pass", "success", True), ("pass", "failure", False), ("pass", "cancelled", False),
        ("fail", "failure", True), ("fail", "cancelled", False), ("inconclusive", "failure", True),
    ],
)  # fmt: skip
def test_what_a_run_had_written_before_it_was_stopped_is_no_pass(
    canned_report, tmp_path, verdict, outcome, stands
):
    (tmp_path / "comment.md").write_text(comment(canned_report(verdict)))
    _, _, body = posted(tmp_path, OUTCOME=outcome)
    first = verdict.upper() if stands else "FAIL"  # without a verdict it is no pass
    assert body.splitlines()[1].startswith(f"### {first}")
    assert ("No verdict" in body) != stands


def test_a_failure_beside_the_gates_is_told(canned_report):
    found = canned_report("pass").model_copy(update={"failure": "2 tests failed"})
    assert "### FAIL · Do not ship: 2 tests failed" in comment(found)
    assert json.loads(badge(found))["message"] == "2 of 2 pass, run failed"
