"""A report in brief: the comment on a pull request, and a badge."""

from __future__ import annotations

import json
from collections import Counter

from optimize.escape import for_markdown
from optimize.judge.records import GateResult, Report
from optimize.judge.reports.breakdown import pair_of
from optimize.judge.reports.page import headline, sentence
from optimize.judge.reports.tables import MARKS, finding_words, remedies

# In its place the action's script writes which gate it is, by which it finds its comment again.
MARKER = "<!-- optimize-gate -->"
# Of 60: two are the script's own.
MOST_LINES = 58
MOST_ROWS = 34
COLOURS = {"pass": "brightgreen", "fail": "red", "inconclusive": "yellow"}


def comment(report: Report) -> str:
    """The verdict for a pull request, at most 58 lines of Markdown."""
    missed = [result for result in report.gates if result.verdict != "pass"]
    parts = [MARKER, f"### {MARKS[report.verdict]} · {for_markdown(headline(report))}", ""]
    parts += [for_markdown(sentence(report, pair_of(report))), ""]
    told = [*map(finding_words, missed), *remedies(report)]
    parts += [f"- {for_markdown(line)}" for line in told[:10]]
    if len(told) > 10:
        parts.append(f"- and {len(told) - 10} more")
    parts += ["", "<details><summary>All gates</summary>", ""]
    parts += ["| gate | measured | limit | verdict |", "| --- | --- | --- | --- |"]
    parts += [_row(result) for result in report.gates[:MOST_ROWS]]
    if len(report.gates) > MOST_ROWS:
        parts.append(f"| and {len(report.gates) - MOST_ROWS} more | | | |")
    parts += ["", "</details>"]
    return "\n".join(parts[:MOST_LINES]) + "\n"


def _row(result: GateResult) -> str:
    cells = (result.name, result.measured, result.limit, MARKS[result.verdict])
    return f"| {' | '.join(map(for_markdown, cells))} |"


def gates_json(report: Report) -> str:
    """The verdict and every gate's, as a JSON object on one line."""
    fields = {"verdict", "measured", "limit", "reason", "remedy", "value", "limit_value"}
    gates = [{"gate": each.name, **each.model_dump(include=fields)} for each in report.gates]
    content = {"verdict": report.verdict, "recipe": report.recipe, "mode": report.mode}
    return json.dumps({**content, "gates": gates})


def badge(report: Report) -> str:
    """JSON for shields.io's endpoint badge (shields.io, "Endpoint Badge")."""
    counts = Counter(result.verdict for result in report.gates)
    words = [f"{counts['pass']} of {len(report.gates)} pass"]
    words += [f"{counts['fail']} fail"] if counts["fail"] else []
    words += [f"{counts['inconclusive']} inconclusive"] if counts["inconclusive"] else []
    words += ["run failed"] if report.failure else []
    content = {
        "schemaVersion": 1,
        "label": "gates",
        "message": ", ".join(words),
        "color": COLOURS[report.verdict],
    }
    return json.dumps(content) + "\n"
