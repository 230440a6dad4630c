"""Reports as they are stored: written with a digest, read, checked, and decided again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from optimize.bundle.manifest import StoredError, read_versioned
from optimize.judge.consistency import contradictions
from optimize.judge.gates.comparisons import compared
from optimize.judge.gates.evidence import Evidence
from optimize.judge.gates.rules import decide_all, timing_gates
from optimize.judge.records import REPORT_SCHEMAS, GateResult, Report
from optimize.settings.gates import BASELINE
from optimize.settings.load import SettingsError, parse

MOST_SHOWN = 3
AGAIN = "Judge again: `pytest benchmarks --out DIR`."


def write_json(report: Report, path: Path) -> None:
    """Write a report with a digest of its content.

    The digest guards against accidents. It is no signature: who can write the file can write both.
    """
    sealed = report.model_copy(update={"content_sha256": content_digest(report)})
    path.write_text(sealed.model_dump_json() + "\n", encoding="utf-8")


def content_digest(report: Report) -> str:
    """SHA-256 of all that a report says, its own digest aside."""
    return hashlib.sha256(report.model_dump_json(exclude={"content_sha256"}).encode()).hexdigest()


def read_report(path: Path) -> Report:
    """A report that a run wrote.

    Raises:
        StoredError: not a file, not JSON, of a schema version that is not known here, or changed
            since it was written; or its parts do not fit together.
    """
    content = read_versioned(path, REPORT_SCHEMAS, AGAIN)
    try:
        report = Report.model_validate(content)
    except ValidationError as error:
        raise StoredError(f"{path} is not a report: {error}") from error
    if report.content_sha256 is not None and report.content_sha256 != content_digest(report):
        raise StoredError(
            f"{path} was changed after it was written: its content has SHA-256 "
            f"{content_digest(report)[:10]}…, it says {report.content_sha256[:10]}…. {AGAIN}"
        )
    found = contradictions(report)
    if found:
        shown = "; ".join(found[:MOST_SHOWN])
        more = f"; and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
        raise StoredError(f"{path} contradicts itself: {shown}{more}. {AGAIN}")
    return compared(report)


def check_verdicts(report: Report, source: str) -> None:
    """Refuse a report whose verdicts do not follow from what it measured.

    Gates against a stored report are left out: what they were held against is not in this one.

    Raises:
        StoredError: names the gate, what is written and what follows.
    """
    try:
        settings = parse(report.settings, source)
    except SettingsError as error:
        raise StoredError(f"{source}: its settings are not understood: {error}. {AGAIN}") from error
    stored = report.baseline is not None and report.baseline.kind == "report"
    gates = {
        name: gate
        for name, gate in settings.active_gates.items()
        if not (stored and gate.reference == BASELINE)
    }
    workloads = tuple(settings.judge.workloads)
    # All gates share the error rate, those too that are not decided again here.
    timed = timing_gates(settings.active_gates, workloads)
    follows = decide_all(gates, Evidence.of(report), workloads, timed)
    written = {result.name: result for result in report.gates}
    for result in follows:
        _compare(result, written.get(result.name), source)
    against = {name for name, result in written.items() if stored and result.reference == BASELINE}
    if extra := sorted(written.keys() - {result.name for result in follows} - against):
        raise StoredError(f"{source}: gate {extra[0]} is not one of its own settings. {AGAIN}")


def _compare(follows: GateResult, written: GateResult | None, source: str) -> None:
    if written is None:
        raise StoredError(f"{source} does not say what gate {follows.name} found. {AGAIN}")
    if (written.verdict, written.limit) != (follows.verdict, follows.limit):
        raise StoredError(
            f"{source}: gate {follows.name} is written as {written.verdict} of {written.limit}; "
            f"from what was measured follows {follows.verdict} of {follows.limit} "
            f"({follows.measured}). {AGAIN}"
        )
