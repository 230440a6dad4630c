"""Whether what a report says fits together; its schema knows each part alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

from optimize.judge.records import Predictions, Report, Series, Timing

CONTROL = "control"
# What a run is held against is in the report under this name, and may have no times of its own.
BASELINE = "baseline"


def contradictions(report: Report) -> list[str]:
    """What does not belong together, each with its place in the report."""
    return list(
        chain(
            _settings(report),
            _variants(report),
            _answers(report),
            _scores(report),
            *(_times(timing, set(report.variants)) for timing in (report.timing, *report.runs)),
            _runs(report),
            _gates(report),
        )
    )


def _settings(report: Report) -> Iterator[str]:
    judge = report.settings.get("judge")
    if not isinstance(judge, dict):
        yield "settings.judge is missing"
        return
    for key in ("variants", "drop_gates"):
        value = judge.get(key, ())
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            yield f"settings.judge.{key} is no list of names"
    if "variants" not in judge:
        yield "settings.judge.variants is missing"


def _variants(report: Report) -> Iterator[str]:
    if not report.variants:
        yield "variants is empty: nothing was measured"
    elif all(facts.missing for facts in report.variants.values()):
        yield "variants: none was measured"
    for name, facts in report.variants.items():
        if facts.missing is None and facts.size_bytes < 1:
            yield f"variants.{name}.size_bytes is {facts.size_bytes}"
    if report.comparisons is not None and report.comparisons.reference not in report.variants:
        yield f"comparisons.reference {report.comparisons.reference!r} is not one of variants"


def _answers(report: Report) -> Iterator[str]:
    size = len(report.labels)
    if not size:
        yield "labels is empty: no text was judged"
    if report.texts and len(report.texts) != size:
        yield f"texts has {len(report.texts)} rows, labels {size}"
    if _beyond(report.labels, len(report.label_names)):
        yield f"labels has ids beyond the {len(report.label_names)} of label_names"
    yield from _label_sets(report)
    answered = report.predictions.get(report.split)
    if answered is None:
        yield f"predictions has no split {report.split!r}, which split names"
        return
    for name, answers in answered.items():
        yield from _rows(f"predictions.{report.split}.{name}", answers, report)
    for name, rows in report.batch_changes.items():
        if _beyond(rows, size):
            yield f"batch_changes.{name} has rows beyond the {size} of labels"
    for name in _measured(report) - answered.keys():
        yield f"predictions.{report.split} has no {name}, which variants has"


def _label_sets(report: Report) -> Iterator[str]:
    if report.label_sets is None:
        return
    if len(report.label_sets) != len(report.label_names) or not report.label_sets:
        yield (
            f"label_sets has {len(report.label_sets)} sets, label_names {len(report.label_names)}"
        )
    members = list(chain.from_iterable(report.label_sets))
    if members and not 0 <= min(members) <= max(members) < len(report.class_names):
        yield f"label_sets has ids beyond the {len(report.class_names)} of class_names"


def _rows(place: str, answers: Predictions, report: Report) -> Iterator[str]:
    size, classes = len(report.labels), len(report.label_names)
    if {len(answers.labels), len(answers.confidences)} != {size}:
        yield (
            f"{place} has {len(answers.labels)} labels and {len(answers.confidences)} confidences "
            f"for {size} texts"
        )
    elif _beyond(answers.labels, classes):
        yield f"{place} has ids beyond the {classes} of label_names"


def _beyond(ids: Sequence[int], classes: int) -> bool:
    """Whether some are no class ids; older reports have no names to count."""
    return bool(classes and ids) and not 0 <= min(ids) <= max(ids) < classes


def _measured(report: Report) -> set[str]:
    return {name for name, facts in report.variants.items() if facts.missing is None}


def _scores(report: Report) -> Iterator[str]:
    for split, variants in report.scores.items():
        for name, scores in variants.items():
            if not 0 <= scores.correct <= scores.examples or not scores.examples:
                yield (
                    f"scores.{split}.{name}: {scores.correct} of {scores.examples} examples are "
                    "right"
                )
    judged = report.scores.get(report.split)
    if judged is None:
        yield f"scores has no split {report.split!r}, which split names"
        return
    for name in _measured(report) - judged.keys():
        yield f"scores.{report.split} has no {name}, which variants has"


def _times(timing: Timing, variants: set[str]) -> Iterator[str]:
    for workload, by_variant in timing.series.items():
        place = f"timing.series.{workload}"
        if unknown := by_variant.keys() - variants - {CONTROL}:
            yield f"{place} has {sorted(unknown)[0]}, which variants has not"
        shapes = {
            name: [len(blocks) for blocks in series.blocks_s] for name, series in by_variant.items()
        }
        if len({tuple(shape) for shape in shapes.values()}) > 1:
            yield f"{place}: the variants have unequally many blocks, which are pairs"
        for name, series in by_variant.items():
            if fault := _fault_of(series):
                yield f"{place}.{name}: {fault}"
        if workload not in timing.batch_sizes:
            yield f"timing.batch_sizes has no {workload}"
    yield from _processes(timing)


def _processes(timing: Timing) -> Iterator[str]:
    """What was measured of whole processes."""
    if unlike := timing.startup_s.keys() ^ timing.peak_rss_bytes.keys():
        yield f"timing: {sorted(unlike)[0]} has a start-up or a peak of memory, and not both"
    for kind, values in (
        ("startup_s", timing.startup_s),
        ("peak_rss_bytes", timing.peak_rss_bytes),
    ):
        for name, found in values.items():
            if not found or not all(math.isfinite(value) and value > 0 for value in found):
                yield f"timing.{kind}.{name} has no times, or some that are none"


def _runs(report: Report) -> Iterator[str]:
    """Further runs are of the same models on the same workloads."""
    for number, run in enumerate(report.runs):
        for workload, by_variant in report.timing.series.items():
            if run.series.get(workload, {}).keys() != by_variant.keys():
                yield f"runs[{number}].series.{workload} is of other variants than timing's"
        if extra := sorted(run.series.keys() - report.timing.series.keys()):
            yield f"runs[{number}].series has {extra[0]}, which timing has not"


def _fault_of(series: Series) -> str:
    """Why these are no times, or nothing."""
    if series.cpu_s is not None and (
        len(series.cpu_s) != len(series.blocks_s)
        or not all(math.isfinite(time) and time >= 0 for time in series.cpu_s)
    ):
        return "cpu_s is not one time a replicate"
    if not all(
        math.isfinite(time) and time > 0 for time in chain(*series.blocks_s, *series.lows_s)
    ):
        return "a time is not above 0 and finite"
    if [len(blocks) for blocks in series.blocks_s] != [len(blocks) for blocks in series.lows_s]:
        return "least_s has other blocks than blocks_s"
    pairs = zip(chain(*series.lows_s), chain(*series.blocks_s), strict=True)
    if any(least > most for least, most in pairs):
        return "least_s is above blocks_s"
    return ""


def _gates(report: Report) -> Iterator[str]:
    if not report.gates:
        yield "gates is empty: nothing was decided"
    names = [result.name for result in report.gates]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"gates has {twice[0]} twice"
    known = {*report.variants, BASELINE}
    for result in report.gates:
        for role, name in (("candidate", result.candidate), ("reference", result.reference)):
            if name is not None and name not in known:
                yield f"gates: {result.name} has the {role} {name!r}, which variants has not"
    for control in report.controls:
        if control.workload not in report.timing.series:
            yield f"controls has the workload {control.workload!r}, which timing has not"
