"""Measurements and limits to verdicts: pure functions.

Every rule states what must hold and negates it, so that a NaN fails closed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optimize.judge.gates.control import (
    brackets,
    no_control_words,
    ratio_span,
    timing_verdict,
    widening_of,
    widening_words,
)
from optimize.judge.gates.evidence import Evidence
from optimize.judge.gates.regression import (
    MORE_REPLICATES,
    Result,
    entries_rule,
    growth_rule,
    stored_speed_rule,
)
from optimize.judge.records import GateResult, Span, Verdict
from optimize.judge.statistics.accuracy import PairedCounts, compare, differing
from optimize.judge.statistics.proportions import examples_needed, tango_interval, tango_noninferior
from optimize.judge.statistics.sequential import SequentialVerdict
from optimize.settings.gates import (
    BASELINE,
    AccuracyGate,
    EntriesGate,
    FidelityGate,
    Gate,
    GrowthGate,
    LabelsGate,
    MemoryGate,
    SizeGate,
    SpeedupGate,
    StartupGate,
    limit_words,
)

REMEDIES = {
    "size": "fewer student.layers, a smaller student.checkpoint, or an INT8 recipe that covers "
    "the embeddings",
    "speedup": "fewer student.layers, export.fuse = true, or another quantize.recipe; compare the "
    "fingerprints, an ISA without VNNI is slower in INT8",
    "accuracy": "more distill.epochs, more student.layers, another distill.temperature; against "
    "the fp32 student another quantize.recipe",
    "fidelity": "another quantize.recipe; `ort-dynamic` keeps a scale per channel",
    "startup": "a smaller model or tokenizer",
    "memory": "a smaller model, or fewer judge.threads",
    "growth": "a smaller model or tokenizer; or raise its limit in [regression]",
    "entries": "save a new baseline",
    "labels": "look at the texts in the report; keep the older runtime, or quantize again",
}
SHOWN_ROWS = 10


def decide_all(
    gates: Mapping[str, Gate], evidence: Evidence, workloads: tuple[str, ...]
) -> tuple[GateResult, ...]:
    """The verdict of every gate on every workload that it judges."""
    timed = timing_gates(gates, workloads)
    return tuple(
        _decide(name, gate, workload, evidence, timed)
        for name, gate in gates.items()
        for workload in gate.judged_workloads(workloads)
    )


def timing_gates(gates: Mapping[str, Gate], workloads: tuple[str, ...]) -> int:
    """How many decisions share the error rate of the timings; at least 1."""
    sampled = [
        gate
        for gate in gates.values()
        if isinstance(gate, SpeedupGate)
        or (isinstance(gate, GrowthGate) and gate.quantity == "startup")
    ]
    return max(1, sum(len(gate.judged_workloads(workloads)) for gate in sampled))


def _decide(
    name: str, gate: Any, workload: str | None, evidence: Evidence, timed: int
) -> GateResult:
    def result(verdict: Verdict, measured: str, reason: str, **more: Any) -> GateResult:
        remedy = more.pop("remedy", gate.remedy or REMEDIES[gate.kind])
        return GateResult(
            gate=name,
            kind=gate.kind,
            candidate=gate.candidate,
            reference=getattr(gate, "reference", None),
            workload=workload,
            verdict=verdict,
            measured=measured,
            limit=limit_words(gate, workload, evidence.isa),
            limit_value=gate.limit(workload, evidence.isa),
            reason=reason,
            remedy="" if verdict == "pass" else remedy,
            **more,
        )

    for variant in _needed(gate):
        facts = evidence.variants.get(variant)
        why = "the kit does not hold it" if facts is None else facts.missing
        if why is not None:
            remedy = (
                "install what it needs, or let the recipe say that this run does without: "
                f"judge.drop_gates = [{name!r}]"
            )
            return result("fail", "—", f"{variant} is not measurable: {why}", remedy=remedy)
    limit = gate.limit(workload, evidence.isa)
    rule = RULES[type(gate)]
    if isinstance(gate, SpeedupGate) and gate.reference == BASELINE and evidence.stored is not None:
        rule = stored_speed_rule
    return rule(gate, workload, limit, evidence, timed, result)


def _needed(gate: Any) -> list[str]:
    """Variants that must have been run; sizes and entries are read off files."""
    if isinstance(gate, SizeGate | EntriesGate):
        return []
    return [gate.candidate, *([gate.reference] if hasattr(gate, "reference") else [])]


def _size(
    gate: SizeGate, _w: None, limit: float, seen: Evidence, _t: int, result: Result
) -> GateResult:
    ours, theirs = (seen.variants[role].size_bytes for role in (gate.candidate, gate.reference))
    # In integers: allowed ≤ theirs · (100 − limit)/100, the limit in millionths of a percent.
    allowed = theirs * (100_000_000 - round(limit * 1_000_000)) // 100_000_000
    reduction = 100 * (1 - ours / theirs)
    measured = f"{ours:,} bytes, {reduction:.1f} % below {gate.reference}"
    if ours <= allowed:
        return result("pass", measured, f"{allowed - ours:,} bytes to spare", value=reduction)
    return result(
        "fail", measured, f"{ours - allowed:,} bytes above the {allowed:,} allowed", value=reduction
    )


def _speedup(
    gate: SpeedupGate, workload: str, limit: float, seen: Evidence, timed: int, result: Result
) -> GateResult:
    series = seen.timing.series.get(workload, {})
    if gate.reference not in series or gate.candidate not in series:
        return result("fail", "—", f"no times of {workload}", remedy="measure the workload")
    control = seen.controls.get(workload)
    outcome = timing_verdict(
        series[gate.reference],
        series[gate.candidate],
        math.log(limit),
        seen.mode,
        timed,
        widening_of(control),
    )
    ratio, span = math.exp(outcome.estimate_log), ratio_span(outcome.interval)
    reason = no_control_words(control) or _speed_reason(outcome, ratio / limit, limit)
    undecided = outcome.verdict == "inconclusive"
    return result(
        outcome.verdict,
        f"{ratio:.2f}× {brackets(span)}",
        reason + widening_words(control),
        value=ratio if math.isfinite(ratio) else None,
        interval=span,
        **({"remedy": MORE_REPLICATES} if undecided else {}),
    )


def _speed_reason(outcome: SequentialVerdict, margin: float, limit: float) -> str:
    if outcome.verdict == "pass":
        return f"{100 * (margin - 1):.0f} % above the limit"
    if outcome.verdict == "fail":
        return f"{100 * (1 - margin):.0f} % below the limit, the whole interval with it"
    if not math.isfinite(outcome.estimate_log) or math.isnan(outcome.interval.low):
        return "too few blocks were left undisturbed: others held the cores"
    if outcome.noisy:
        return f"replicates scatter by {100 * outcome.sd_log:.1f} %, too much to decide"
    return f"{limit:g} is within the interval after {outcome.replicates_used} replicates"


def _accuracy(
    gate: AccuracyGate, _w: None, limit: float, seen: Evidence, _t: int, result: Result
) -> GateResult:
    counts = compare(
        seen.predictions[gate.reference], seen.predictions[gate.candidate], seen.labels
    )
    margin = limit / 100
    interval = tango_interval(counts.worse, counts.better, counts.examples, 0.90)
    span = Span(low=100 * interval.low, high=100 * interval.high)
    drop = 100 * counts.drop
    measured = f"drop {drop:+.2f} pp {brackets(span)}"
    more: dict[str, Any] = {"value": drop, "interval": span}
    words = _enough_words(counts, margin)
    if tango_noninferior(counts.worse, counts.better, counts.examples, margin):
        return result("pass", measured, words, **more)
    if interval.low > margin:
        return result("fail", measured, f"{drop - limit:.2f} pp above the limit for sure", **more)
    if counts.drop >= margin:
        return result("fail", measured, f"{drop - limit:.2f} pp above the limit", **more)
    return result("inconclusive", measured, words, remedy=_more_examples(counts, margin), **more)


def _enough_words(counts: PairedCounts, margin: float) -> str:
    """How many examples the margin, and 1 pp, would need at the discordance that was seen."""
    share = (counts.worse + counts.better) / counts.examples
    told = (
        f"{counts.worse} lost, {counts.better} won of {counts.examples} examples; "
        f"{100 * margin:g} pp needs {_count(examples_needed(margin, share, counts.drop))}"
    )
    if margin > 0.01:
        told += f", 1 pp would need {_count(examples_needed(0.01, share, counts.drop))}"
    return told


def _more_examples(counts: PairedCounts, margin: float) -> str:
    share = (counts.worse + counts.better) / counts.examples
    needed = _count(examples_needed(margin, share, counts.drop))
    return f"judge {needed} examples instead of {counts.examples}; or {REMEDIES['accuracy']}"


def _count(needed: int | None) -> str:
    return "more than any number" if needed is None else f"{needed:,}"


def _fidelity(
    gate: FidelityGate, _w: None, limit: float, seen: Evidence, _t: int, result: Result
) -> GateResult:
    counts = compare(
        seen.predictions[gate.reference], seen.predictions[gate.candidate], seen.labels
    )
    agreement = 100 * counts.agreeing / counts.examples
    changed = counts.examples - counts.agreeing
    measured = f"{agreement:.2f} % agree"
    allowed = math.floor(counts.examples * (100 - limit) / 100 + 1e-9)
    verdict: Verdict = "pass" if changed <= allowed else "fail"
    reason = f"{changed} of {counts.examples} labels differ, {allowed} allowed"
    return result(verdict, measured, reason, value=agreement)


def _labels(
    gate: LabelsGate, _w: None, limit: float, seen: Evidence, _t: int, result: Result
) -> GateResult:
    before, after = seen.predictions[gate.reference], seen.predictions[gate.candidate]
    by_batch = {
        row for name in (gate.reference, gate.candidate) for row in seen.batch_changes.get(name, ())
    }
    rows = [row for row in differing(before, after) if row not in by_batch]
    measured = f"{len(rows)} of {len(after.labels)} labels changed"
    reason = f"{len(differing(before, after)) - len(rows)} more change by batch alone"
    if rows:
        reason += f"; rows {', '.join(map(str, rows[:SHOWN_ROWS]))}"
        reason += f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    verdict: Verdict = "pass" if len(rows) <= limit else "fail"
    return result(verdict, measured, reason, value=float(len(rows)))


def _startup(
    gate: StartupGate, _w: None, limit: float, seen: Evidence, _t: int, result: Result
) -> GateResult:
    seconds = float(np.median(seen.timing.startup_s[gate.candidate]))
    verdict: Verdict = "pass" if seconds <= limit else "fail"
    reason = f"median of {len(seen.timing.startup_s[gate.candidate])} fresh processes"
    return result(verdict, f"{seconds:.2f} s", reason, value=seconds)


def _memory(
    gate: MemoryGate, _w: None, limit: float, seen: Evidence, _t: int, result: Result
) -> GateResult:
    peaks = seen.timing.peak_rss_bytes[gate.candidate]
    mib = float(np.median(peaks)) / 2**20
    verdict: Verdict = "pass" if mib <= limit else "fail"
    return result(verdict, f"{mib:.0f} MiB", f"median of {len(peaks)} fresh processes", value=mib)


RULES: dict[type, Callable[..., GateResult]] = {
    SizeGate: _size,
    SpeedupGate: _speedup,
    AccuracyGate: _accuracy,
    FidelityGate: _fidelity,
    StartupGate: _startup,
    MemoryGate: _memory,
    GrowthGate: growth_rule,
    EntriesGate: entries_rule,
    LabelsGate: _labels,
}
