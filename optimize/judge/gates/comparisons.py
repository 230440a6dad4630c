"""Every variant against one: the ratios and drops that tables show, at the level that gates use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from optimize.judge.gates.control import ratio_span, timing_verdict, widening_of
from optimize.judge.records import (
    Comparisons,
    Control,
    Drop,
    Mode,
    Predictions,
    Report,
    Span,
    Speedup,
    Timing,
    VariantFacts,
)
from optimize.judge.statistics.accuracy import compare
from optimize.judge.statistics.proportions import tango_interval

# The variant that the others are compared with where it was run.
BASE = "teacher-torch"
DROP_LEVEL = 0.90


def compare_all(
    variants: Mapping[str, VariantFacts],
    timing: Timing,
    controls: Mapping[str, Control],
    predictions: Mapping[str, Predictions],
    labels: NDArray[np.int64],
    mode: Mode,
    timing_gates: int,
) -> Comparisons | None:
    """Speedups on every workload, and drops of accuracy, over the base variant.

    Args:
        variants: facts by variant, in the table's order.
        timing: all times.
        controls: the A/A control, by workload.
        predictions: answers of each variant to the judged split.
        labels: true class ids of that split.
        mode: as gates are decided.
        timing_gates: decisions on times among which the error rate is shared.

    Returns:
        ``None`` where no variant was measured.
    """
    measured = [name for name, facts in variants.items() if facts.missing is None]
    if not measured:
        return None
    base = BASE if BASE in measured else measured[0]
    others = [name for name in measured if name != base]
    return Comparisons(
        reference=base,
        speedups=tuple(_speedups(base, others, timing, controls, mode, timing_gates)),
        drops=tuple(_drops(base, others, predictions, labels)),
    )


def compared(report: Report) -> Report:
    """A report of an earlier schema with the comparisons that a run stores today."""
    if report.comparisons is not None:
        return report
    timed = sum(result.kind == "speedup" for result in report.gates)
    found = compare_all(
        report.variants,
        report.timing,
        {control.workload: control for control in report.controls},
        report.predictions.get(report.split, {}),
        np.asarray(report.labels),
        report.mode,
        max(1, timed),
    )
    return report.model_copy(update={"comparisons": found})


def _speedups(
    base: str,
    others: Iterable[str],
    timing: Timing,
    controls: Mapping[str, Control],
    mode: Mode,
    timing_gates: int,
) -> Iterator[Speedup]:
    names = list(others)
    for workload, series in timing.series.items():
        widening = widening_of(controls[workload]) if workload in controls else 0.0
        for name in names:
            if base not in series or name not in series:
                continue
            outcome = timing_verdict(series[base], series[name], 0.0, mode, timing_gates, widening)
            known = math.isfinite(outcome.estimate_log)
            yield Speedup(
                candidate=name,
                workload=workload,
                ratio=math.exp(outcome.estimate_log) if known else None,
                interval=ratio_span(outcome.interval),
            )


def _drops(
    base: str,
    others: Iterable[str],
    predictions: Mapping[str, Predictions],
    labels: NDArray[np.int64],
) -> Iterator[Drop]:
    for name in others:
        if base in predictions and name in predictions:
            counts = compare(predictions[base], predictions[name], labels)
            found = tango_interval(counts.worse, counts.better, counts.examples, DROP_LEVEL)
            yield Drop(
                candidate=name,
                drop_pp=100 * counts.drop,
                interval=Span(low=100 * found.low, high=100 * found.high),
            )
