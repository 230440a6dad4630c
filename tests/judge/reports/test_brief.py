"""The comment on a pull request, kept up to date by the action's script, and the badge."""

import json
import os
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
[[ "$*" != *--paginate* ]] || printf '%s' "$EXISTING"
"""


@pytest.mark.parametrize(
    ("existing", "call"),
    [("", "POST repos/o/r/issues/7/comments"), ("42\n43\n", "PATCH repos/o/r/issues/comments/42")],
)
def test_one_comment_is_kept_up_to_date(canned_report, tmp_path, existing, call):
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "comment.md").write_text(comment(canned_report("pass")))
    environment = {
        **os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "NUMBER": "7",
        "GITHUB_REPOSITORY": "o/r", "CALLS": str(tmp_path / "calls"), "EXISTING": existing,
    }  # fmt: skip
    subprocess.run(["bash", SCRIPT, tmp_path / "comment.md"], env=environment, check=True)
    asked, told = (tmp_path / "calls").read_text().splitlines()
    assert f'startswith("{MARKER}")' in asked
    assert call in told
    assert f"body=@{tmp_path}/comment.md" in told
