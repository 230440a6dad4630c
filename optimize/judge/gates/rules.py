"""Measurements and limits to verdicts: pure functions.

Every rule states what must hold and negates it, so that a NaN fails closed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import singledispatch

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
from optimize.judge.gates.finding import BUSY, MORE_REPLICATES, ON_IDLE, Finding, Question, failed
from optimize.judge.gates.regression import entries_rule, growth_rule, stored_speed_rule
from optimize.judge.records import GateResult, Series, Span, Verdict
from optimize.judge.statistics.accuracy import PairedCounts, changed_rows, compare
from optimize.judge.statistics.label_f1 import F1Drop
from optimize.judge.statistics.proportions import (
    examples_needed,
    examples_without_disagreement,
    tango_interval,
    tango_noninferior,
)
from optimize.judge.statistics.sequential import SequentialVerdict
from optimize.settings.gates import (
    BASELINE,
    AccuracyGate,
    EntriesGate,
    FidelityGate,
    Gate,
    GateTable,
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
    gates: Mapping[str, Gate],
    evidence: Evidence,
    workloads: tuple[str, ...],
    timed: int | None = None,
) -> tuple[GateResult, ...]:
    """The verdict of every gate on every workload that it judges.

    Args:
        gates: by name.
        evidence: what they are decided on.
        workloads: all that are timed.
        timed: decisions on times among which the error rate is shared; those of these gates when
            absent.
    """
    timed = timing_gates(gates, workloads) if timed is None else timed
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
    name: str, gate: Gate, workload: str | None, evidence: Evidence, timed: int
) -> GateResult:
    question = Question(workload, gate.limit(workload, evidence.isa), timed)
    finding = _unmeasurable(name, gate, evidence) or rule(gate, question, evidence)
    remedy = finding.remedy or gate.remedy or REMEDIES[gate.kind]
    return GateResult(
        gate=name,
        kind=gate.kind,
        candidate=gate.candidate,
        reference=gate.reference,
        workload=workload,
        verdict=finding.verdict,
        measured=finding.measured,
        limit=limit_words(gate, workload, evidence.isa),
        limit_value=question.limit,
        reason=finding.reason,
        remedy="" if finding.verdict == "pass" else remedy,
        value=finding.value,
        interval=finding.interval,
    )


@singledispatch
def rule(gate: GateTable, question: Question, seen: Evidence) -> Finding:
    """What the rule of a gate's kind finds; each kind registers its own below."""
    raise TypeError(f"no rule for a gate of the kind {type(gate).__name__}")


def _unmeasurable(name: str, gate: Gate, evidence: Evidence) -> Finding | None:
    """A failure where a variant is not there, or was not run; some gates read files alone."""
    of_files = isinstance(gate, SizeGate | EntriesGate)
    for variant in gate.variants:
        facts = evidence.variants.get(variant)
        if facts is not None and of_files:
            continue
        why = "the kit does not hold it" if facts is None else facts.missing
        if why is not None:
            remedy = (
                "install what it needs, or let the recipe say that this run does without: "
                f"judge.drop_gates = [{name!r}]"
            )
            return failed(f"{variant} is not measurable: {why}", remedy)
    return None


@rule.register
def _size(gate: SizeGate, question: Question, seen: Evidence) -> Finding:
    ours = seen.variants[gate.candidate].size_bytes
    theirs = seen.variants[gate.reference].size_bytes
    # In integers: allowed ≤ theirs · (100 − limit)/100, the limit in millionths of a percent.
    allowed = theirs * (100_000_000 - round(question.limit * 1_000_000)) // 100_000_000
    reduction = 100 * (1 - ours / theirs)
    measured = f"{ours:,} bytes, {reduction:.1f} % below {gate.reference}"
    if ours <= allowed:
        return Finding("pass", measured, f"{allowed - ours:,} bytes to spare", value=reduction)
    return Finding(
        "fail", measured, f"{ours - allowed:,} bytes above the {allowed:,} allowed", value=reduction
    )


@rule.register
def _speedup(gate: SpeedupGate, question: Question, seen: Evidence) -> Finding:
    if gate.reference == BASELINE and seen.stored is not None:
        return stored_speed_rule(gate, question, seen)
    workload, limit = str(question.workload), question.limit
    series = seen.timing.series.get(workload, {})
    if gate.reference not in series or gate.candidate not in series:
        return failed(f"no times of {workload}", "measure the workload")
    control = seen.controls.get(workload)
    outcome = timing_verdict(
        series[gate.reference],
        series[gate.candidate],
        math.log(limit),
        seen.mode,
        question.timing_gates,
        widening_of(control),
    )
    ratio, span = math.exp(outcome.estimate_log), ratio_span(outcome.interval)
    reason = no_control_words(control) or _speed_reason(outcome, ratio / limit, limit)
    undecided = outcome.verdict == "inconclusive"
    return Finding(
        outcome.verdict,
        f"{ratio:.2f}× {brackets(span)}",
        reason + widening_words(control) + _cpu_words(outcome, series, gate, limit),
        value=ratio if math.isfinite(ratio) else None,
        interval=span,
        remedy=MORE_REPLICATES if undecided else None,
    )


def _cpu_words(
    outcome: SequentialVerdict, series: Mapping[str, Series], gate: SpeedupGate, limit: float
) -> str:
    """Where CPU time would decide otherwise than the clock, both are told: the clock decides."""
    reference, candidate = (series[name].cpu_s for name in (gate.reference, gate.candidate))
    if not (reference and candidate and min(*reference, *candidate) > 0):
        return ""
    ratio = math.exp(float(np.median(np.log(reference)) - np.median(np.log(candidate))))
    if outcome.verdict != ("fail" if ratio >= limit else "pass"):
        return ""
    return (
        f"; by CPU time it is {ratio:.2f}×, on the other side of the limit: one of the two keeps "
        "more cores busy"
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


@rule.register
def _accuracy(gate: AccuracyGate, question: Question, seen: Evidence) -> Finding:
    if seen.members is not None:
        return _micro_f1(seen.paired_f1(gate.reference, gate.candidate), question.limit)
    counts, limit = seen.paired(gate.reference, gate.candidate), question.limit
    margin = limit / 100
    interval = tango_interval(counts.worse, counts.better, counts.examples, 0.90)
    span = Span(low=100 * interval.low, high=100 * interval.high)
    drop = 100 * counts.drop
    measured = f"drop {drop:+.2f} pp {brackets(span)}"
    words = _enough_words(counts, margin)
    if tango_noninferior(counts.worse, counts.better, counts.examples, margin):
        return Finding("pass", measured, words, drop, span)
    if counts.drop >= margin:
        sure = " for sure" if interval.low > margin else ""
        reason = f"{drop - limit:.2f} pp above the limit{sure}"
        return Finding("fail", measured, reason, drop, span)
    return Finding("inconclusive", measured, words, drop, span, _more_examples(counts, margin))


def _micro_f1(found: F1Drop, limit: float) -> Finding:
    """Where a text may have several labels: the BCa interval of the paired difference decides."""
    margin, drop = limit / 100, 100 * found.drop
    span = Span(low=100 * found.interval.low, high=100 * found.interval.high)
    measured = f"drop {drop:+.2f} pp of micro F1 {brackets(span)}"
    words = (
        f"on {found.differing} of {found.examples} texts the two are not equally right; "
        f"{found.labelled} have labels"
    )
    # Of few texts no sample holds the losses that were not seen; see tango_noninferior. F1 rests on
    # those with a label: of a perfect reference's labels a share q lost is a drop of q / (2 - q).
    known = found.examples >= examples_without_disagreement(margin)
    known &= found.labelled >= examples_without_disagreement(2 * margin / (1 + margin))
    if known and found.interval.high < margin:
        return Finding("pass", measured, words, drop, span)
    if found.drop >= margin:
        sure = " for sure" if found.interval.low > margin else ""
        return Finding("fail", measured, f"{drop - limit:.2f} pp above the limit{sure}", drop, span)
    remedy = f"judge more examples than {found.examples}; or {REMEDIES['accuracy']}"
    return Finding("inconclusive", measured, words, drop, span, remedy)


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


@rule.register
def _fidelity(gate: FidelityGate, question: Question, seen: Evidence) -> Finding:
    before, after = seen.predictions[gate.reference], seen.predictions[gate.candidate]
    texts = seen.comparable(gate.reference, gate.candidate)
    counts = compare(before, after, seen.labels, texts)
    agreement = 100 * counts.agreeing / counts.examples
    changed = counts.examples - counts.agreeing
    measured = f"{agreement:.2f} % agree"
    allowed = math.floor(counts.examples * (100 - question.limit) / 100 + 1e-9)
    verdict: Verdict = "pass" if changed <= allowed else "fail"
    reason = f"{changed} of {counts.examples} labels differ, {allowed} allowed"
    return Finding(verdict, measured, reason, value=agreement)


@rule.register
def _labels(gate: LabelsGate, question: Question, seen: Evidence) -> Finding:
    before, after = seen.predictions[gate.reference], seen.predictions[gate.candidate]
    by_batch = [seen.batch_changes.get(name, ()) for name in gate.variants]
    texts = seen.comparable(gate.reference, gate.candidate)
    rows, by_batch_alone = changed_rows(before, after, by_batch, texts)
    measured = f"{len(rows)} of {len(texts)} labels changed"
    reason = f"{by_batch_alone} more change by batch alone"
    if rows:
        reason += f"; rows {', '.join(map(str, rows[:SHOWN_ROWS]))}"
        reason += f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    verdict: Verdict = "pass" if len(rows) <= question.limit else "fail"
    return Finding(verdict, measured, reason, value=float(len(rows)))


@rule.register
def _startup(gate: StartupGate, question: Question, seen: Evidence) -> Finding:
    seconds = float(np.median(seen.timing.startup_s[gate.candidate]))
    verdict: Verdict = "pass" if seconds <= question.limit else "fail"
    reason = f"median of {len(seen.timing.startup_s[gate.candidate])} fresh processes"
    if verdict == "fail" and seen.timing.beside_neighbours:  # waiting only adds time
        return Finding("inconclusive", f"{seconds:.2f} s", f"{reason}; {BUSY}", remedy=ON_IDLE)
    return Finding(verdict, f"{seconds:.2f} s", reason, value=seconds)


@rule.register
def _memory(gate: MemoryGate, question: Question, seen: Evidence) -> Finding:
    peaks = seen.timing.peak_rss_bytes[gate.candidate]
    mib = float(np.median(peaks)) / 2**20
    verdict: Verdict = "pass" if mib <= question.limit else "fail"
    return Finding(verdict, f"{mib:.0f} MiB", f"median of {len(peaks)} fresh processes", value=mib)


rule.register(GrowthGate, growth_rule)
rule.register(EntriesGate, entries_rule)
