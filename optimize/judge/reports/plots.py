"""Plots, drawn with matplotlib, which only this module needs: the extra `plot`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optimize.judge.records import Report
from optimize.judge.reports.compare import CompareError, Run, throughput

MUTED = "#9aa4b2"
COLOURS = ("#2f6fde", "#d9822b", "#1f9d6b", "#a855c7")


def plot_runs(runs: Sequence[Run], variant: str, path: Path) -> None:
    """Speed, start-up and memory by version of onnxruntime, as small panels.

    Args:
        runs: those without a report are marked on the axis.
        variant: the one that is shown.
        path: file to write; its ending says the format.

    Raises:
        CompareError: matplotlib is not installed, or no run has a report.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise CompareError("a plot needs matplotlib: `pip install optimize[plot]`") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    judged = [
        (run.name.replace(" (Python ", ", py").rstrip(")"), run.report)
        for run in runs
        if run.report is not None
    ]
    if not judged:
        raise CompareError("no run has a report; there is nothing to plot")
    first = judged[0][1]
    workloads = list(first.timing.series)
    with plt.rc_context(
        # A dollar sign in a name is no formula.
        {"svg.hashsalt": "optimize", "font.size": 9, "text.parse_math": False}
    ):
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
        _speed(axes[0], judged, variant, workloads)
        _bars(axes[1], judged, "texts a second, largest batch", lambda r: throughput(r, variant))
        _bars(
            axes[2],
            judged,
            "peak memory, MiB",
            lambda r: float(np.median(r.timing.peak_rss_bytes[variant])) / 2**20,
        )
        failed = [run.name for run in runs if run.report is None]
        title = f"{variant} by onnxruntime, each judged in a run of its own"
        figure.suptitle(title + (f"; failed to load: {', '.join(failed)}" if failed else ""))
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _speed(
    axis: Any, judged: Sequence[tuple[str, Report]], variant: str, workloads: Sequence[str]
) -> None:
    names = [name for name, _ in judged]
    for colour, workload in zip(COLOURS * len(workloads), workloads, strict=False):
        times = [report.timing.series[workload][variant].p50_ms for _, report in judged]
        base = times[0] or math.nan
        ratios = [math.nan if not time else base / time for time in times]
        axis.plot(names, ratios, marker="o", markersize=3, color=colour, label=workload)
    axis.axhline(1, color=MUTED, linewidth=0.8)
    axis.set_title(f"speed against {names[0]}")
    axis.legend(frameon=False)
    _tidy(axis)


def _bars(axis: Any, judged: Sequence[tuple[str, Report]], title: str, value: Any) -> None:
    axis.bar(
        [name for name, _ in judged], [value(report) for _, report in judged], color=COLOURS[0]
    )
    axis.set_title(title)
    _tidy(axis)


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="x", rotation=90, labelsize=7)
