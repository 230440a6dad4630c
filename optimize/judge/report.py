"""A report as tables: plain rows first, then Markdown and the terminal made of them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from optimize.judge.accuracy import compare
from optimize.judge.gates import timing_verdict
from optimize.judge.proportions import tango_interval
from optimize.judge.records import Control, GateResult, Report, Scores
from optimize.judge.stats import Interval

BASE = "teacher-torch"
ABSENT = "—"
MARKS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}
STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
# GitHub cuts a job summary at 1 MiB.
SUMMARY_LIMIT = 1_000_000
# The variant table with four workloads; a narrower terminal wraps lines rather than lose figures.
TABLE_WIDTH = 165
Table = tuple[list[str], list[list[str]]]


def base_variant(report: Report) -> str:
    """The variant that the others are compared with: the PyTorch teacher where it was run."""
    return (
        BASE
        if _measured(report, BASE)
        else next(n for n in report.variants if _measured(report, n))
    )


def _measured(report: Report, name: str) -> bool:
    return name in report.variants and report.variants[name].missing is None


def variant_table(report: Report) -> Table:
    """One row a variant: parameters, size, times and speedups per workload, accuracy, drop."""
    workloads = list(report.timing.series)
    header = ["variant", "params", "size"]
    header += [f"{name}, ms" for name in workloads]
    header += [f"{report.split} accuracy", "drop", "verdict"]
    rows = []
    for name, facts in report.variants.items():
        share = 100 * facts.size_bytes / report.variants[base_variant(report)].size_bytes
        size = f"{facts.size_bytes / 1e6:.1f} MB\n{share:.1f} %"
        row = [name, f"{facts.parameters / 1e6:.1f} M", size]
        if facts.missing is not None:
            row += ["not measurable", *[ABSENT] * (len(workloads) + 1), facts.missing]
        else:
            row += [_time_cell(report, name, workload) for workload in workloads]
            row += [_accuracy_cell(report.scores[report.split][name]), _drop_cell(report, name)]
            row.append(_verdict_of(name, report.gates))
        rows.append(row)
    return header, rows


def _time_cell(report: Report, name: str, workload: str) -> str:
    series = report.timing.series[workload]
    ours = series[name]
    if ours.p50_ms is None or ours.p95_ms is None:
        return "every block disturbed"
    times = f"{ours.p50_ms:.2f} / {ours.p95_ms:.2f}"
    base = base_variant(report)
    if name == base:
        return f"{times}\n1×"
    outcome = timing_verdict(series[base], ours, 0.0, report.mode, 1)
    ends = [math.exp(end) if math.isfinite(end) else end for end in outcome.interval]
    return f"{times}\n{math.exp(outcome.estimate_log):.1f}× [{ends[0]:.1f}, {ends[1]:.1f}]"


def _accuracy_cell(scores: Scores) -> str:
    interval = scores.accuracy_interval
    low, high = (math.nan if end is None else 100 * end for end in (interval.low, interval.high))
    return f"{100 * scores.accuracy:.2f} %\n[{low:.1f}, {high:.1f}]"


def _drop_cell(report: Report, name: str) -> str:
    base = base_variant(report)
    if name == base:
        return ABSENT
    counts, interval = paired_drop(report, base, name)
    return f"{100 * counts:+.2f} pp\n[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def paired_drop(report: Report, reference: str, candidate: str) -> tuple[float, Interval]:
    """(drop, its 90 % score interval), as shares, on the judged split."""
    answers = report.predictions[report.split]
    labels = np.asarray(report.labels)
    counts = compare(answers[reference], answers[candidate], labels)
    interval = tango_interval(counts.worse, counts.better, counts.examples, 0.90)
    return counts.drop, interval


def _verdict_of(name: str, gates: Sequence[GateResult]) -> str:
    own = [result.verdict for result in gates if result.candidate == name]
    if not own:
        return ABSENT
    return next((MARKS[v] for v in ("fail", "inconclusive") if v in own), MARKS["pass"])


def startup_table(report: Report) -> Table:
    """One row a measured variant: start-up and peak memory, medians of fresh processes."""
    rows = [
        [
            name,
            f"{float(np.median(report.timing.startup_s[name])):.2f} s",
            f"{float(np.median(report.timing.peak_rss_bytes[name])) / 2**20:.0f} MiB",
        ]
        for name in report.variants
        if _measured(report, name)
    ]
    return ["variant", "start to first prediction", "peak memory"], rows


def gate_table(report: Report) -> Table:
    """One row a gate and workload."""
    rows = [
        [result.name, result.candidate, result.measured, result.limit, MARKS[result.verdict]]
        for result in report.gates
    ]
    return ["gate", "judges", "measured", "limit", "verdict"], rows


def complaint(result: GateResult) -> str:
    """One line that says by how much a gate was missed and what to try."""
    return (
        f"{MARKS[result.verdict]} {result.name}: {result.measured}, limit {result.limit} "
        f"({result.reason}). Try: {result.remedy}."
    )


def annotation(result: GateResult) -> str:
    """A failed gate as GitHub shows it on the pull request (workflow command ``error``)."""
    text = complaint(result).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    title = result.name.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::error title=gate {title}::{text}"


def complaints(report: Report) -> list[str]:
    """One line a gate that did not pass."""
    return [complaint(result) for result in report.gates if result.verdict != "pass"]


def control_words(control: Control) -> str:
    """What an A/A control that does not hold means."""
    return (
        f"{control.workload}: a second worker of the same model took {control.ratio:.3f}× the "
        f"time, interval [{control.interval.low}, {control.interval.high}] without 1. The times of "
        "this run cannot be trusted: judge again on an idle machine."
    )


def conditions(report: Report) -> list[str]:
    """What a reader must know to judge the figures."""
    print_ = report.fingerprint
    libraries = ", ".join(
        f"{name} {print_.libraries[name]}"
        for name in ("onnxruntime", "torch")
        if name in print_.libraries
    )
    controls = ", ".join(f"{control.workload} {control.ratio:.3f}×" for control in report.controls)
    timing = report.timing
    lines = [
        f"{print_.cpu}, {print_.isa_class}, {print_.threads} threads; {libraries}; "
        f"Python {print_.libraries.get('python', '?')}",
        f"{timing.replicates} replicates of fresh workers in {timing.seconds:.0f} s, "
        f"{timing.dropped_blocks} disturbed blocks dropped; A/A control: {controls}",
        f"settings: {report.settings_source}; times are median / p95 of single calls, with the "
        f"speedup over {base_variant(report)} below; the drop is against it too",
    ]
    if report.mode == "quick":
        lines.append(
            "quick mode: three replicates; brackets of times are the central 95 % of block ratios"
        )
    dropped = report.settings["judge"]["drop_gates"]
    if dropped:
        lines.append(f"gates that this run does without: {', '.join(dropped)}")
    agreement = ", ".join(f"{n} {100 * s:.2f} %" for n, s in report.batch_agreement.items())
    if agreement:
        lines.append(f"same answers in batches of 32 as one by one: {agreement}")
    return lines


def markdown(report: Report) -> str:
    """The report for a pull request or a job summary, at most 1 MB."""
    parts = [f"## Verdict: {MARKS[report.verdict]}", ""]
    parts += [f"- {line}" for line in complaints(report)] + [""]
    for table in (variant_table(report), gate_table(report), startup_table(report)):
        parts += [*_markdown_table(*table), ""]
    parts += [f"- {line}" for line in conditions(report)]
    text = "\n".join(parts) + "\n"
    if len(text.encode()) > SUMMARY_LIMIT:
        text = text.encode()[:SUMMARY_LIMIT].decode(errors="ignore") + "\n\n… cut at 1 MB\n"
    return text


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return (
            "| "
            + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells)
            + " |"
        )

    return [line(header), "|" + " --- |" * len(header), *(line(row) for row in rows)]


def terminal(report: Report, width: int, *, colour: bool) -> str:
    """The report as the last thing a terminal shows."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=max(width, TABLE_WIDTH),
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
    )
    console.print(_rich_table(*variant_table(report)))
    console.print(_rich_table(*startup_table(report)))
    console.print(_rich_table(*gate_table(report)))
    for line in conditions(report):
        console.print(line, style="dim", markup=False)
    for result in report.gates:
        if result.verdict != "pass":
            console.print(complaint(result), style=STYLES[result.verdict], markup=False)
    passed = sum(result.verdict == "pass" for result in report.gates)
    console.print(
        f"{MARKS[report.verdict]}: {passed} of {len(report.gates)} gates passed",
        style=STYLES[report.verdict],
    )
    stream = console.file
    text = stream.getvalue() if isinstance(stream, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _rich_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> object:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    styles = {MARKS[verdict]: style for verdict, style in STYLES.items()}
    table = RichTable(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
    )
    for number, name in enumerate(header):
        table.add_column(name, no_wrap=number != len(header) - 1, vertical="top")
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    return table


def write_report(report: Report, folder: Path) -> None:
    """``report.json`` and ``report.md`` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
