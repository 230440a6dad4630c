"""Rules against a baseline that those of :mod:`optimize.judge.gates.rules` do not cover.

Times of two runs are compared only through a variant whose weights are the same in both, and only
where the fingerprints match.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from optimize.judge.gates.between_runs import ONE_RUN, spread_of
from optimize.judge.gates.control import (
    brackets,
    no_control_words,
    ratio_span,
    replicate_bounds,
    widening_of,
    widening_words,
)
from optimize.judge.gates.evidence import Evidence, Stored
from optimize.judge.gates.finding import BUSY, MORE_REPLICATES, Finding, Question, failed
from optimize.judge.records import Control, Mode, Report, Series, Timing, Verdict
from optimize.judge.statistics.sequential import (
    UNBOUNDED,
    UNDEFINED,
    Interval,
    decide,
    is_trusted,
    look_level,
    sd_of,
    signed_rank_interval,
)
from optimize.settings.gates import BASELINE, EntriesGate, GrowthGate, SpeedupGate

# Across unlike machines only a change as large as this is worth a word, and never a verdict.
NOTABLE_RATIO = 1.25
REASONS = {
    "pass": "the whole interval is above the limit",
    "fail": "the whole interval is below the limit",
    "inconclusive": "the limit is within the interval",
}
TOO_FEW = "the baseline has too few replicates for {gates} gates on time; no more of this run help"
SAVE_ANEW = "save a baseline of several runs: `optimize baseline save --runs 5`"
PAIR_THEM = "give the baseline as a bundle or git:REV: then both are timed in one run"


def entries_rule(gate: EntriesGate, question: Question, seen: Evidence) -> Finding:
    """The stored report and this run must have the same gates and timed workloads."""
    if seen.stored is None:
        return failed("no stored report to compare with", PAIR_THEM)
    ours = _entries(seen.gate_names, seen.timing)
    named = [gate.name for gate in seen.stored.report.gates if gate.reference != BASELINE]
    theirs = _entries(named, seen.stored.report.timing)
    parts = []
    if missing := sorted(theirs - ours):
        parts.append(f"in the baseline and not here: {', '.join(missing)}")
    if extra := sorted(ours - theirs):
        parts.append(f"here and not in the baseline: {', '.join(extra)}")
    count = len(ours ^ theirs)
    remedy = "if they were meant to change, save a new baseline: `optimize baseline save`"
    return Finding(
        "pass" if count <= question.limit else "fail",
        f"{count} of {len(ours | theirs)} entries differ",
        "; ".join(parts) or "the same on both sides",
        value=float(count),
        remedy=remedy,
    )


def _entries(gate_names: Sequence[str], timing: Timing) -> set[str]:
    return {f"gate {name}" for name in gate_names} | {f"workload {name}" for name in timing.series}


def stored_speed_rule(gate: SpeedupGate, question: Question, seen: Evidence) -> Finding:
    """The candidate's speedup over an unchanged variant, now against then."""
    stored, workload = _stored(seen), str(question.workload)
    name = unchanged_variant(seen, stored.report, workload, gate.candidate)
    if name is None:
        return Finding(
            "inconclusive",
            "—",
            "the two runs did not both time the candidate and a variant of unchanged weights",
            remedy=PAIR_THEM,
        )
    controls = {
        "now, ": seen.controls.get(workload),
        "then, ": stored.report.control(workload),
    }
    now = _own_ratio(seen.timing, seen.mode, workload, name, gate.candidate, question.timing_gates)
    then = _own_ratio(
        stored.report.timing,
        stored.report.mode,
        workload,
        name,
        gate.candidate,
        question.timing_gates,
    )
    spans = [
        ratio.span.widened(widening_of(control))
        for ratio, control in zip((now, then), controls.values(), strict=True)
    ]
    if stored.report.runs:
        runs = (stored.report.timing, *stored.report.runs)
        level = look_level(question.timing_gates)
        spread = spread_of(runs, workload, name, gate.candidate, level)
        change, interval = now.estimate - spread.mean, spread.change(spans[0])
        told = f"; over {len(runs)} runs of the baseline"
        # What was off in one of the runs is in their spread.
        controls = {"now, ": controls["now, "]}
    else:
        change, interval = now.estimate - then.estimate, relative_interval(*spans)
        told = ONE_RUN
    finding = _relative(
        change, interval, max(now.sd_log, then.sd_log), math.log(question.limit), stored, controls
    )
    if not stored.unlike and has_too_few(stored, question.timing_gates):
        reason = TOO_FEW.format(gates=question.timing_gates)
        return replace(finding, reason=reason, remedy=SAVE_ANEW)
    return replace(finding, reason=finding.reason + told)


class _Ratio(NamedTuple):
    """The log ratio of two variants in one run: estimate, interval, scatter of the replicates."""

    estimate: float
    span: Interval
    sd_log: float


def _own_ratio(
    timing: Timing, mode: Mode, workload: str, reference: str, candidate: str, timed: int
) -> _Ratio:
    series = timing.series[workload]
    bounds = replicate_bounds(series[reference], series[candidate])
    low, high = centre(bounds.lows, mode, timed).low, centre(bounds.highs, mode, timed).high
    return _Ratio(
        float(np.median(bounds.centres)) if bounds.centres else math.nan,
        Interval(low, high).widened(bounds.contention_log),
        sd_of(bounds.centres),
    )


def _relative(
    change: float,
    interval: Interval,
    sd_log: float,
    limit_log: float,
    stored: Stored,
    controls: Mapping[str, Control | None],
) -> Finding:
    """The verdict on a change of log ratio between two runs, each with its control."""
    span = ratio_span(interval)
    measured = f"{math.exp(change):.2f}× {brackets(span)}"
    verdict, reason = decide(interval, limit_log), REASONS[decide(interval, limit_log)]
    if stored.unlike:
        verdict, reason = "inconclusive", _unlike_words(change, stored)
    elif unknown := "; ".join(filter(None, map(no_control_words, controls.values(), controls))):
        verdict, reason = "inconclusive", unknown
    elif verdict != "inconclusive" and not is_trusted(interval, limit_log, sd_log):
        verdict, reason = "inconclusive", f"replicates scatter by {100 * sd_log:.1f} %"
    reason += "".join(map(widening_words, controls.values(), controls))
    value = math.exp(change) if math.isfinite(change) else None
    remedy = None if verdict == "fail" else PAIR_THEM
    return Finding(verdict, measured, reason, value, span, remedy)


def growth_rule(gate: GrowthGate, question: Question, seen: Evidence) -> Finding:
    """Start-up or peak memory of fresh workers over the baseline's."""
    estimate, interval = _growth(gate, seen, question.timing_gates)
    verdict = decide(interval, -math.log1p(question.limit / 100))
    growth = 100 * math.expm1(-estimate)
    ends = [100 * math.expm1(-end) for end in (interval.high, interval.low)]
    measured = f"{growth:+.0f} % [{ends[0]:+.0f}, {ends[1]:+.0f}]"
    if seen.stored is not None and seen.stored.unlike:
        reason = _unlike_words(estimate, seen.stored)
        return Finding("inconclusive", measured, reason, remedy=PAIR_THEM)
    count = len(_quantity(gate, seen.timing)[gate.candidate])
    remedy = MORE_REPLICATES if verdict == "inconclusive" else None
    reason = f"{count} fresh processes of each"
    if gate.quantity == "startup" and has_too_few(seen.stored, question.timing_gates):
        reason, remedy = TOO_FEW.format(gates=question.timing_gates), SAVE_ANEW
    if gate.quantity == "startup" and (busy := _busy_words(verdict, seen)):
        verdict, reason, remedy = "inconclusive", f"{reason}; {busy}", PAIR_THEM
    value = growth if math.isfinite(growth) else None
    return Finding(verdict, measured, reason, value, remedy=remedy)


def _busy_words(verdict: Verdict, seen: Evidence) -> str:
    """Why starts of two runs decide nothing: waiting only adds time, and one of them waited."""
    if seen.stored is None:  # both were started in this run
        return ""
    before = seen.stored.report
    if verdict == "fail" and seen.timing.beside_neighbours:
        return BUSY
    if verdict == "pass" and any(run.beside_neighbours for run in (before.timing, *before.runs)):
        return f"in the baseline's run {BUSY}"
    return ""


def _growth(gate: GrowthGate, seen: Evidence, timed: int) -> tuple[float, Interval]:
    """Estimate and interval of log(baseline / candidate): below zero, it has grown."""
    ours = np.log(_quantity(gate, seen.timing)[gate.candidate])
    if seen.stored is not None:
        report = seen.stored.report
        runs = (report.timing, *report.runs)
        before = np.log([each for run in runs for each in _quantity(gate, run)[gate.candidate]])
        estimate = float(np.median(before) - np.median(ours))
        if gate.quantity == "memory":
            return estimate, Interval(estimate, estimate)
        now = centre(list(-ours), seen.mode, timed)
        then = centre(list(-before), report.mode, timed)
        return estimate, relative_interval(now, then)
    figures = np.log(_quantity(gate, seen.timing)[gate.reference]) - ours
    estimate = float(np.median(figures))
    if gate.quantity == "memory":
        # A process's peak hardly varies: medians decide, as in the memory gate.
        return estimate, Interval(estimate, estimate)
    return estimate, centre(list(figures), seen.mode, timed)


def has_too_few(stored: Stored | None, timed: int) -> bool:
    """Whether no number of replicates of this run could decide against a stored one.

    Args:
        stored: the baseline's report, if it is one.
        timed: gates on time that share the error rate.
    """
    if stored is None or stored.report.mode == "quick" or stored.report.runs:
        return False
    replicates = [0.0] * stored.report.timing.replicates
    return bool(replicates) and signed_rank_interval(replicates, look_level(timed)) == UNBOUNDED


def _quantity(gate: GrowthGate, timing: Timing) -> Mapping[str, Sequence[float]]:
    return timing.startup_s if gate.quantity == "startup" else timing.peak_rss_bytes


def unchanged_variant(seen: Evidence, stored: Report, workload: str, candidate: str) -> str | None:
    """A variant that both runs timed with the same weights, beside the candidate."""
    here: Mapping[str, Series] = seen.timing.series.get(workload, {})
    there: Mapping[str, Series] = stored.timing.series.get(workload, {})
    both = here.keys() & there.keys() & stored.variants.keys()
    if candidate not in both:
        return None
    return next(
        (
            name
            for name, facts in seen.variants.items()
            # A stored run's own baseline is another model than this run's.
            if name in both - {candidate, BASELINE}
            and facts.model_sha256 == stored.variants[name].model_sha256
        ),
        None,
    )


def relative_interval(now: Interval, before: Interval) -> Interval:
    """Interval of the difference of two estimates, each end from the worst two.

    It covers whenever both of its parts do (Bonferroni).
    """
    return Interval(now.low - before.high, now.high - before.low)


def centre(figures: Sequence[float], mode: Mode, timed: int) -> Interval:
    """Where the centre of some replicates' figures lies; in quick mode, where they all lie."""
    if not figures or not np.isfinite(figures).all():
        return UNDEFINED
    if mode == "full":
        return signed_rank_interval(figures, look_level(timed))
    return Interval(float(min(figures)), float(max(figures)))


def _stored(seen: Evidence) -> Stored:
    if seen.stored is None:
        raise ValueError("a rule for stored reports was asked without one")
    return seen.stored


def _unlike_words(log_ratio: float, stored: Stored) -> str:
    change = 100 * math.expm1(-log_ratio) if math.isfinite(log_ratio) else math.nan
    slower = not log_ratio >= -math.log(NOTABLE_RATIO)
    notable = f"{'beyond' if slower else 'within'} {100 * (NOTABLE_RATIO - 1):.0f} %"
    differences = "; ".join(stored.unlike)
    return (
        f"{change:+.0f} %, {notable}, and no verdict: the baseline's is another run ({differences})"
    )
