"""Reports of several runs of one bundle side by side, such as those of a matrix of onnxruntimes.

The runs were not interleaved, so that their times alone never fail a gate: a difference beyond the
limit is inconclusive, and ``optimize duet`` decides it. So are times of unlike machines, and of two
Pythons. Labels and load failures decide at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from optimize.judge.gates.control import ratio_span, widening_of
from optimize.judge.gates.regression import centre, relative_interval
from optimize.judge.kit import Examples
from optimize.judge.label_sets import numbered_as
from optimize.judge.records import LabelChange, Predictions, Report, Series, Span, Verdict, overall
from optimize.judge.reports.tables import MARKS, Table
from optimize.judge.statistics.accuracy import changed_rows, differing, label_changes
from optimize.judge.statistics.sequential import decide
from optimize.judge.stored import REPORT_NAME, read_vouched

FAILURE_NAME = "failure.txt"
ABSENT = "—"


class CompareError(ValueError):
    """Reports that cannot be compared; says which and why."""


@dataclass(frozen=True)
class Run:
    """One run, or why there is none.

    Attributes:
        name: version of onnxruntime, with Python's where there are several; or the folder's name.
        report: what it found.
        failure: why there is no report.
        runtime: version of onnxruntime.
        python: major and minor version of Python.
    """

    name: str
    report: Report | None = None
    failure: str = ""
    runtime: str = ""
    python: str = ""


@dataclass(frozen=True)
class Change:
    """The later of two runs against the earlier, in one respect.

    Attributes:
        gate: ``speed[WORKLOAD]``, ``labels`` or ``loads``.
        before: name of the earlier run.
        after: name of the later one.
        decides: whether it is a gate's verdict or only shown.
    """

    gate: str
    before: str
    after: str
    verdict: Verdict
    measured: str
    reason: str
    decides: bool
    span: Span | None = None
    texts: tuple[LabelChange, ...] = ()


def read_runs(paths: Sequence[Path], variant: str) -> list[Run]:
    """The runs, by rising version of onnxruntime; those without a report last.

    Args:
        paths: reports, folders that runs wrote with ``--out``, or a folder of such folders.
        variant: the one that is compared.

    Raises:
        CompareError: fewer than two, or they judged other texts or another bundle.
    """
    places = [place for path in paths for place in _places(path)]
    if len(places) < 2:
        raise CompareError(f"{len(places)} report was given; two or more are compared")
    runs = [_read(place, variant) for place in places]
    judged = [(run, run.report) for run in runs if run.report is not None]
    for run, report in judged:
        first_run, first = judged[0]
        for what, ours, theirs in (
            ("texts", report.data_digest, first.data_digest),
            ("split", report.split, first.split),
            ("bundle", _weights(report, variant), _weights(first, variant)),
            ("set of workloads", _workloads(report), _workloads(first)),
        ):
            if ours != theirs:
                raise CompareError(
                    f"{run.name} judged another {what} than {first_run.name} ({ours[:60]} and "
                    f"{theirs[:60]}); compare runs of one bundle on one kit"
                )
    return sorted(_named(runs), key=lambda run: (run.report is None, run.python, _version(run)))


def _places(path: Path) -> list[Path]:
    if not path.is_dir() or _is_run(path):
        return [path]
    return sorted(inner for inner in path.iterdir() if _is_run(inner)) or [path]


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (REPORT_NAME, FAILURE_NAME))


def _named(runs: Sequence[Run]) -> list[Run]:
    """With Python's version in the name, where one onnxruntime was judged under several."""
    runtimes = [run.runtime for run in runs if run.report is not None]
    return [
        replace(run, name=f"{run.runtime} (Python {run.python})")
        if run.report is not None and runtimes.count(run.runtime) > 1
        else run
        for run in runs
    ]


def _read(path: Path, variant: str) -> Run:
    folder = path if path.is_dir() else path.parent
    file = path / REPORT_NAME if path.is_dir() else path
    said = folder / FAILURE_NAME
    if said.is_file() or not file.is_file():
        why = said.read_text(encoding="utf-8").strip() if said.is_file() else f"no {file}"
        return Run(folder.name, failure=why)
    report = read_vouched(file)
    if variant not in report.variants:
        raise CompareError(
            f"{file} has no variant {variant!r} (it has {', '.join(report.variants)}); choose one "
            "with --variant"
        )
    if missing := report.variants[variant].missing:
        raise CompareError(
            f"{file}: {variant} was not measured ({missing}); choose another with --variant"
        )
    libraries = report.fingerprint.libraries
    runtime, python = (
        libraries.get(name) or libraries.get(f"{variant}/{name}") or ""
        for name in ("onnxruntime", "python")
    )
    minor = ".".join(python.split(".")[:2])
    return Run(runtime or folder.name, report, runtime=runtime, python=minor)


def _weights(report: Report, variant: str) -> str:
    return report.variants[variant].model_sha256


def _workloads(report: Report) -> str:
    return ", ".join(report.timing.series)


def _version(run: Run) -> tuple[int, ...]:
    parts = run.runtime.split(".")
    return tuple(int(part) if part.isdigit() else -1 for part in parts)


def changes(runs: Sequence[Run], variant: str, max_slowdown_pct: float) -> list[Change]:
    """Each run against the one before it under the same Python.

    The newest onnxruntime against its predecessor decides on time; the others are shown. A run that
    is alone under its Python answers as the one before it, whose times say nothing of its own.

    Raises:
        CompareError: no two were run under the same Python, so that nothing can be said.
    """
    limit_log = -math.log1p(max_slowdown_pct / 100)
    judged = [run for run in runs if run.report is not None]
    pairs = [pair for pair in pairwise(judged) if pair[0].python == pair[1].python]
    newest = max(map(_version, judged), default=())
    found = [
        Change("loads", ABSENT, run.name, "fail", "no report", run.failure, decides=True)
        for run in runs
        if run.report is None
    ]
    for before, after in pairs:
        decides = _version(after) == newest
        found += _speeds(before, after, variant, limit_log, decides=decides)
        found.append(_labels(before, after, variant))
    paired = {run.name: _version(run) for pair in pairs for run in pair}
    for run in judged if pairs else ():
        if run.name not in paired:
            untold = _version(run) == newest and newest not in paired.values()
            found += _alone(run, judged, variant, decides=untold)
    if not found:
        raise CompareError(
            f"no two of {', '.join(run.name for run in runs)} were run under the same Python, and "
            "runs are compared under one; `optimize duet` compares two interpreters"
        )
    return found


def _alone(run: Run, judged: Sequence[Run], variant: str, *, decides: bool) -> list[Change]:
    """A run that has no other under its Python, against the one whose onnxruntime is nearest."""
    others = sorted((each for each in judged if each.name != run.name), key=_version)
    older = [each for each in others if _version(each) <= _version(run)]
    near = older[-1] if older else others[0]
    words = (
        f"times under Python {near.python} and {run.python} are not compared; `optimize duet` does"
    )
    untold = Change(
        "speed", near.name, run.name, "inconclusive", "not compared", words, decides=decides
    )
    return [untold, _labels(near, run, variant)]


def _speeds(
    before: Run, after: Run, variant: str, limit_log: float, *, decides: bool
) -> list[Change]:
    if before.report is None or after.report is None:
        return []
    found = []
    unlike = _unlike(before.report, after.report)
    shared = max(1, len(after.report.timing.series))
    for workload, series in after.report.timing.series.items():
        older = before.report.timing.series.get(workload, {}).get(variant)
        newer = series.get(variant)
        if older is None or newer is None:
            continue
        spans = [
            centre(_block_logs(one), report.mode, shared).widened(
                widening_of(report.control(workload))
            )
            for one, report in ((older, before.report), (newer, after.report))
        ]
        # log(t_before / t_after): above zero, the later run is faster.
        interval = relative_interval(*spans)
        logs = _block_logs(older), _block_logs(newer)
        estimate = float(np.median(logs[0]) - np.median(logs[1])) if all(logs) else math.nan
        good = not unlike and decide(interval, limit_log) == "pass"
        known = math.isfinite(estimate)
        why = f"unlike machines ({', '.join(unlike)})" if unlike else "two runs apart in time"
        found.append(
            Change(
                f"speed[{workload}]",
                before.name,
                after.name,
                "pass" if good else "inconclusive",
                f"{math.exp(estimate):.2f}×" if known else "every block disturbed",
                why if good else f"{why} cannot say; `optimize duet` does",
                decides,
                ratio_span(interval),
            )
        )
    return found


def _unlike(before: Report, after: Report) -> list[str]:
    """What differs beside the libraries, so that times say nothing of these."""
    places = [each.fingerprint.model_copy(update={"libraries": {}}) for each in (before, after)]
    unlike = places[1].differences(places[0])
    modes = [f"mode: {before.mode} → {after.mode}"] if before.mode != after.mode else []
    return [*unlike, *modes]


def _block_logs(series: Series) -> list[float]:
    """Log of each replicate's median block, seconds per call; none where some were disturbed.

    Two runs apart in time say little, and disturbed ones nothing.
    """
    if series.least_s is not None or series.beside_neighbours:
        return []
    return [float(np.log(np.median(blocks))) for blocks in series.blocks_s if blocks]


def _labels(before: Run, after: Run, variant: str) -> Change:
    old, new = before.report, after.report
    if old is None or new is None:
        raise CompareError("labels of a run without a report")
    first, second, names = _alike(old, new, variant)
    by_batch = [one.batch_changes.get(variant, ()) for one in (old, new)]
    rows, others = changed_rows(first, second, by_batch)
    texts = new.texts or old.texts
    named: tuple[LabelChange, ...] = ()
    if texts and new.label_names:
        examples = Examples(tuple(texts), np.asarray(new.labels))
        every = label_changes(first, second, examples, names)
        chosen = {texts[row] for row in rows}
        named = tuple(change for change in every if change.text in chosen)
    return Change(
        "labels",
        before.name,
        after.name,
        "fail" if rows else "pass",
        f"{len(rows)} of {len(second.labels)} changed",
        f"{others} more change by batch alone",
        decides=True,
        texts=named,
    )


def _alike(old: Report, new: Report, variant: str) -> tuple[Predictions, Predictions, list[str]]:
    """A variant's answers in two reports, by the newer one's ids, and the ids' names."""
    first, second = (one.predictions[one.split][variant] for one in (old, new))
    names = list(new.label_names)
    if old.label_names and names:
        ids = numbered_as(first.labels, old.label_names, names)
        first = first.model_copy(update={"labels": ids})
    return first, second, names


def verdict(found: Sequence[Change]) -> Verdict:
    """The verdict of the changes that decide."""
    return overall(change.verdict for change in found if change.decides)


def run_table(runs: Sequence[Run], variant: str) -> Table:
    """One row a run: times, throughput, start-up, memory, accuracy, labels changed since the first.

    Throughput is that of the workload with the largest batch.
    """
    first = next((run.report for run in runs if run.report is not None), None)
    if first is None:
        return ["onnxruntime", "no run could be judged"], [[run.name, run.failure] for run in runs]
    workloads = list(first.timing.series)
    header = ["onnxruntime", *(f"{name}, ms" for name in workloads), "texts/s", "start-up"]
    header += ["peak memory", f"{first.split} {_quality(first)}", "labels changed"]
    rows = []
    for run in runs:
        if run.report is None:
            rows.append([run.name, "failed to load", *[ABSENT] * (len(header) - 2)])
            continue
        rows.append([run.name, *_cells(run.report, first, variant, workloads)])
    return header, rows


def _quality(report: Report) -> str:
    return "accuracy" if report.label_sets is None else "micro F1"


def _cells(report: Report, first: Report, variant: str, workloads: Sequence[str]) -> list[str]:
    timing = report.timing
    cells = []
    for name in workloads:
        p50 = timing.series[name][variant].p50_ms
        base = first.timing.series[name][variant].p50_ms
        ratio = "" if p50 is None or not base else f"  {base / p50:.2f}×"
        cells.append(ABSENT if p50 is None else f"{p50:.2f}{ratio}")
    cells.append(f"{throughput(report, variant):,.0f}")
    cells.append(f"{float(np.median(timing.startup_s[variant])):.2f} s")
    cells.append(f"{float(np.median(timing.peak_rss_bytes[variant])) / 2**20:.0f} MiB")
    cells.append(f"{100 * report.scores[report.split][variant].headline[1]:.2f} %")
    before, after, _ = _alike(first, report, variant)
    return [*cells, str(len(differing(before, after)))]


def throughput(report: Report, variant: str) -> float:
    """Texts a second in the workload with the largest batch; NaN where none was timed."""
    sizes = report.timing.batch_sizes
    name = max(sizes, key=lambda workload: sizes[workload])
    p50 = report.timing.series[name][variant].p50_ms
    return math.nan if p50 is None else sizes[name] / p50 * 1000


def change_table(found: Sequence[Change]) -> Table:
    """One row a change between neighbours."""
    rows = []
    for change in found:
        span = change.span
        ends = "" if span is None else f" [{_end(span.low)}, {_end(span.high)}]"
        mark = MARKS[change.verdict] if change.decides else "shown only"
        row = [f"{change.before} → {change.after}", change.gate, change.measured + ends]
        rows.append([*row, change.reason, mark])
    return ["versions", "gate", "measured", "reason", "verdict"], rows


def _end(value: float | None) -> str:
    return "…" if value is None else f"{value:.2f}"


def text_lines(found: Sequence[Change]) -> list[str]:
    """The texts whose label changed, worst first."""
    return [
        f"{change.before} → {change.after}: {text.text!r} ({text.truth}): {text.before} "
        f"{text.before_confidence:.2f} → {text.after} {text.after_confidence:.2f}"
        for change in found
        for text in change.texts
    ]
