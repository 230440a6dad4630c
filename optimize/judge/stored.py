"""Reports as they are stored: written with a digest, read, checked, and decided again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
REPORT_NAME = "report.json"
DIGEST_KEY = "content_sha256"
DIGEST_SINCE = 4  # version of the schema
AGAIN = "Judge again: `pytest benchmarks --out DIR`."


def write_json(report: Report, path: Path) -> None:
    """Write a report with a digest of its content.

    The digest guards against accidents. It is no signature: who can write the file can write both.
    """
    # What is written has this version's digest, whichever version it was read from.
    current = report.model_copy(update={"schema_version": REPORT_SCHEMAS[-1]})
    sealed = current.model_copy(update={"content_sha256": content_digest(current)})
    path.write_text(sealed.model_dump_json() + "\n", encoding="utf-8")


def content_digest(report: Report) -> str:
    """SHA-256 of all that a report says, its own digest aside."""
    return _digest(json.loads(report.model_dump_json()))


def _digest(content: Mapping[str, Any]) -> str:
    """Of what is written, and not of how: it may be indented, and is read by later versions."""
    said = {key: value for key, value in content.items() if key != DIGEST_KEY}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _written_digest(content: Mapping[str, Any], path: Path) -> str:
    """The digest of a file's content, as its schema version takes it."""
    if content["schema_version"] >= 5:
        return _digest(content)
    # Schema 4 took it of the file as written, less the digest at its end.
    text = path.read_text(encoding="utf-8").strip()
    return hashlib.sha256(re.sub(rf',"{DIGEST_KEY}":"\w*"', "", text).encode()).hexdigest()


def read_report(path: Path) -> Report:
    """A report that a run wrote.

    Args:
        path: the file, or the folder that a run wrote with ``--out``.

    Raises:
        StoredError: not a file, not JSON, of a schema version that is not known here, or changed
            since it was written; or its parts do not fit together.
    """
    if path.is_dir():
        path = path / REPORT_NAME
    content = read_versioned(path, REPORT_SCHEMAS, AGAIN)
    try:
        report = Report.model_validate(content)
    except ValidationError as error:
        raise StoredError(f"{path} is not a report: {error}") from error
    if report.content_sha256 is not None:
        found = _written_digest(content, path)
        if report.content_sha256 != found:
            raise StoredError(
                f"{path} was changed after it was written: its content has SHA-256 "
                f"{found[:10]}…, it says {report.content_sha256[:10]}…. {AGAIN}"
            )
    found_faults = contradictions(report)
    if found_faults:
        shown = "; ".join(found_faults[:MOST_SHOWN])
        left = len(found_faults) - MOST_SHOWN
        more = f"; and {left} more" if left > 0 else ""
        raise StoredError(f"{path} contradicts itself: {shown}{more}. {AGAIN}")
    return compared(report)


def read_vouched(path: Path) -> Report:
    """A report that decides or is shown to decide: one whose digest is there.

    Raises:
        StoredError: as :func:`read_report`; or it has no digest, which every run writes.
    """
    report = read_report(path)
    if report.schema_version >= DIGEST_SINCE and report.content_sha256 is None:
        raise StoredError(f"{path} has no {DIGEST_KEY}: it was not written so by a run. {AGAIN}")
    return report


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


def together(reports: Mapping[str, Report]) -> Report:
    """The first of several reports of the same models, which keeps the times of the others.

    Args:
        reports: by where they are from; one or more.

    Raises:
        StoredError: one is of other models, another machine or another mode.
    """
    (source, first), *others = reports.items()
    seen = [first.timing, *first.runs]
    for name, other in others:
        unlike = first.fingerprint.differences(other.fingerprint)
        if other.mode != first.mode:
            unlike.append(f"mode: {other.mode} → {first.mode}")
        unlike += [
            f"variant {variant}: not of the same weights"
            for variant in sorted(first.variants.keys() | other.variants.keys())
            if _weights(first, variant) != _weights(other, variant)
        ]
        if (first.data_digest, first.split) != (other.data_digest, other.split):
            unlike.append("other texts")
        if first.settings["judge"].get("workloads") != other.settings["judge"].get("workloads"):
            unlike.append("other workloads")
        if any(timing in seen for timing in (other.timing, *other.runs)):
            unlike.append("it is the same run")
        seen += [other.timing, *other.runs]
        if unlike:
            raise StoredError(
                f"{name} is no further run of what {source} judged: {'; '.join(unlike[:5])}. Give "
                "reports of one kit on one machine, or one report"
            )
    return first.model_copy(update={"runs": tuple(seen[1:])})


def _weights(report: Report, variant: str) -> str | None:
    facts = report.variants.get(variant)
    return None if facts is None else facts.model_sha256
