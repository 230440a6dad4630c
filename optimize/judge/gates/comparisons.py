"""Every variant against one: the ratios and drops that tables show, at the level that gates use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from optimize.judge.gates.control import ratio_span, timing_verdict, widening_of
from optimize.judge.gates.evidence import Evidence
from optimize.judge.records import Comparisons, Drop, Report, Span, Speedup
from optimize.judge.statistics.proportions import tango_interval

# The variant that the others are compared with where it was run.
BASE = "teacher-torch"
DROP_LEVEL = 0.90


def compare_all(seen: Evidence, timing_gates: int) -> Comparisons | None:
    """Speedups on every workload, and drops of accuracy, over the base variant.

    Args:
        seen: what the gates are decided on.
        timing_gates: decisions on times among which the error rate is shared.

    Returns:
        ``None`` where no variant was measured.
    """
    measured = [name for name, facts in seen.variants.items() if facts.missing is None]
    if not measured:
        return None
    base = BASE if BASE in measured else measured[0]
    others = [name for name in measured if name != base]
    return Comparisons(
        reference=base,
        speedups=tuple(_speedups(base, others, seen, timing_gates)),
        drops=tuple(_drops(base, others, seen)),
    )


def compared(report: Report) -> Report:
    """A report of an earlier schema with the comparisons that a run stores today."""
    if report.comparisons is not None:
        return report
    timed = sum(result.kind == "speedup" for result in report.gates)
    found = compare_all(Evidence.of(report), max(1, timed))
    return report.model_copy(update={"comparisons": found})


def _speedups(
    base: str, others: Sequence[str], seen: Evidence, timing_gates: int
) -> Iterator[Speedup]:
    for workload, series in seen.timing.series.items():
        control = seen.controls.get(workload)
        widening = 0.0 if control is None else widening_of(control)
        for name in others:
            if base not in series or name not in series:
                continue
            outcome = timing_verdict(
                series[base], series[name], 0.0, seen.mode, timing_gates, widening
            )
            known = math.isfinite(outcome.estimate_log)
            yield Speedup(
                candidate=name,
                workload=workload,
                ratio=math.exp(outcome.estimate_log) if known else None,
                interval=ratio_span(outcome.interval),
            )


def _drops(base: str, others: Sequence[str], seen: Evidence) -> Iterator[Drop]:
    for name in others:
        if base not in seen.predictions or name not in seen.predictions:
            continue
        if seen.members is not None:
            drop, interval = seen.paired_f1(base, name)[:2]
            yield Drop(
                candidate=name,
                drop_pp=100 * drop,
                interval=Span(low=100 * interval.low, high=100 * interval.high),
            )
        else:
            counts = seen.paired(base, name)
            found = tango_interval(counts.worse, counts.better, counts.examples, DROP_LEVEL)
            yield Drop(
                candidate=name,
                drop_pp=100 * counts.drop,
                interval=Span(low=100 * found.low, high=100 * found.high),
            )
