"""A report as rows and lines of text, which every rendering shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from optimize.escape import for_command, for_command_property
from optimize.judge.gates.control import brackets, widening_of
from optimize.judge.records import (
    QUICK_REPLICATES,
    Control,
    GateResult,
    Report,
    Scores,
    Span,
    Timing,
    overall,
)

ABSENT = "—"
MARKS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}
Table = tuple[list[str], list[list[str]]]


def _measured(report: Report, name: str) -> bool:
    return name in report.variants and report.variants[name].missing is None


def _reference(report: Report) -> str:
    """The variant that the others are shown against."""
    return (
        next(iter(report.variants)) if report.comparisons is None else report.comparisons.reference
    )


def variant_table(report: Report) -> Table:
    """One row a variant: parameters, size, times and speedups per workload, accuracy, drop."""
    workloads = list(report.timing.series)
    header = ["variant", "params", "size"]
    header += [f"{name}, ms" for name in workloads]
    scored = report.scores[report.split]
    several = report.label_sets is not None
    header.append(f"{report.split} {'all labels right' if several else 'accuracy'}")
    header += ["micro F1"] if several else []
    header += ["drop", "ECE"]
    outside = any(scores.out_of_scope_recall is not None for scores in scored.values())
    header += ["out of scope", "verdict"] if outside else ["verdict"]
    rows = []
    for name, facts in report.variants.items():
        share = 100 * facts.size_bytes / report.variants[_reference(report)].size_bytes
        size = f"{facts.size_bytes / 1e6:.1f} MB\n{share:.1f} %"
        row = [name, f"{facts.parameters / 1e6:.1f} M" if facts.parameters else ABSENT, size]
        if facts.missing is not None:
            row += ["not measurable", *[ABSENT] * (len(header) - len(row) - 2), facts.missing]
        else:
            row += [_time_cell(report, name, workload) for workload in workloads]
            scores = scored[name]
            row.append(_accuracy_cell(scores))
            if several:
                row.append(_f1_cell(scores))
            row.append(_drop_cell(report, name))
            row.append(f"{scores.calibration_error:.3f}")
            if outside:
                recall = scores.out_of_scope_recall
                row.append(ABSENT if recall is None else f"{100 * recall:.1f} %")
            row.append(_verdict_of(name, report.gates))
        rows.append(row)
    return header, rows


def _time_cell(report: Report, name: str, workload: str) -> str:
    ours = report.timing.series[workload][name]
    if ours.p50_ms is None or ours.p95_ms is None:
        return "every block disturbed"
    times = f"{ours.p50_ms:.2f} / {ours.p95_ms:.2f}"
    found = report.comparisons and report.comparisons.speedup(name, workload)
    if not found:
        return f"{times}\n1×"
    ratio = ABSENT if found.ratio is None else f"{found.ratio:.1f}×"
    return f"{times}\n{ratio} {brackets(found.interval, 1)}"


def _accuracy_cell(scores: Scores) -> str:
    return _share_cell(scores.accuracy, scores.accuracy_interval)


def _f1_cell(scores: Scores) -> str:
    if scores.micro_f1 is None or scores.micro_f1_interval is None:
        return ABSENT
    return _share_cell(scores.micro_f1, scores.micro_f1_interval)


def _share_cell(share: float, interval: Span) -> str:
    low, high = (math.nan if end is None else 100 * end for end in (interval.low, interval.high))
    return f"{100 * share:.2f} %\n[{low:.1f}, {high:.1f}]"


def _drop_cell(report: Report, name: str) -> str:
    found = report.comparisons and report.comparisons.drop(name)
    if not found:
        return ABSENT
    return f"{found.drop_pp:+.2f} pp\n{brackets(found.interval, 1, signed=True)}"


def _verdict_of(name: str, gates: Sequence[GateResult]) -> str:
    own = [result.verdict for result in gates if result.candidate == name]
    return MARKS[overall(own)] if own else ABSENT


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


def change_table(report: Report, most: int) -> Table:
    """One row a text whose label changed since the baseline, worst first."""
    changes = report.baseline.changes if report.baseline else ()
    rows = [
        [
            f"{change.before} ({change.before_confidence:.2f})",
            f"{change.after} ({change.after_confidence:.2f})",
            change.truth,
            change.text,
        ]
        for change in changes[:most]
    ]
    return ["baseline said", "now says", "right is", "text"], rows


def baseline_words(report: Report) -> str:
    """What the run was held against, and how many labels changed."""
    facts = report.baseline
    if facts is None:
        return ""
    lost = sum(change.before == change.truth for change in facts.changes)
    won = sum(change.after == change.truth for change in facts.changes)
    total = len(report.labels)
    held = total if facts.shared is None else facts.shared
    words = (
        f"baseline {facts.source}: {len(facts.changes)} of {held} labels changed, "
        f"{lost} of them were right, {won} are now"
    )
    if facts.lacks:
        names = ", ".join(facts.lacks[:MOST_LACKED])
        more = len(facts.lacks) - MOST_LACKED
        words += f"; it does not know {names}" + (f" and {more} more" if more > 0 else "")
        words += f", so that {total - held} of {total} texts are not held against it"
    return words + (f"; unlike runs: {'; '.join(facts.unlike)}" if facts.unlike else "")


def complaint(result: GateResult) -> str:
    """One line that says by how much a gate was missed and what to try."""
    return f"{finding_words(result)}. Try: {result.remedy}."


def finding_words(result: GateResult) -> str:
    """The same without what to try."""
    return (
        f"{MARKS[result.verdict]} {result.name}: {result.measured}, limit {result.limit} "
        f"({result.reason})"
    )


def annotation(result: GateResult) -> str:
    """A failed gate as GitHub shows it on the pull request (workflow command ``error``)."""
    title = for_command_property(result.name)
    return f"::error title=gate {title}::{for_command(complaint(result))}"


def remedies(report: Report) -> list[str]:
    """What to try, each once, with the gates that it is for where there are several remedies."""
    gates: dict[str, list[str]] = {}
    for result in report.gates:
        if result.verdict != "pass" and result.remedy:
            gates.setdefault(result.remedy, []).append(result.name)
    if len(gates) < 2:
        return [f"Try: {remedy}." for remedy in gates]
    return [f"Try, for {', '.join(names)}: {remedy}." for remedy, names in gates.items()]


def complaints(report: Report) -> list[str]:
    """One line a gate that did not pass."""
    return [complaint(result) for result in report.gates if result.verdict != "pass"]


def control_words(control: Control) -> str:
    """What an A/A control that does not hold means."""
    widening = 100 * math.expm1(widening_of(control))
    if not math.isfinite(widening):
        return (
            f"{control.workload}: too few blocks were left undisturbed for an A/A control; no time "
            "of it decides. Judge again on an idle machine."
        )
    return (
        f"{control.workload}: a second worker of the same model was {control.ratio:.3f}× as fast, "
        f"{brackets(control.interval)} without 1. Every ratio of this workload is taken to be off "
        f"by up to {widening:.1f} %; where that leaves one undecided, judge again when it is idle."
    )


def _control_cell(control: Control) -> str:
    cell = f"{control.workload} {control.ratio:.3f}×"
    if control.holds:
        return cell
    widening = 100 * math.expm1(widening_of(control))
    return (
        f"{cell}, off by up to {widening:.1f} %" if math.isfinite(widening) else f"{cell}, unknown"
    )


# What a process may do whose limit on nice is 40; children inherit it.
MOST_LACKED = 5
PRIORITY_REMEDY = "to allow it: sudo prlimit --pid $$ --nice=40 --rtprio=1"


def _disturbance_words(timing: Timing) -> str:
    """How many blocks others disturbed, and what was made of them."""
    words = f"{timing.dropped_blocks} disturbed blocks dropped"
    if timing.disturbed_blocks:
        words = (
            f"{timing.disturbed_blocks} of {timing.kept_blocks} blocks were disturbed and count as "
            "intervals"
        )
    if timing.disturbed_blocks or timing.beside_neighbours:
        words += "; others wanted the cores: intervals are wider by 25 %"
        if timing.priority is False:
            words += f", and the workers were not served first ({PRIORITY_REMEDY})"
    return words


def conditions(report: Report) -> list[str]:
    """What a reader must know to judge the figures."""
    print_ = report.fingerprint
    libraries = ", ".join(
        f"{name} {print_.libraries[name]}"
        for name in ("onnxruntime", "torch")
        if name in print_.libraries
    )
    pythons = [v for k, v in print_.libraries.items() if k.rpartition("/")[2] == "python"]
    controls = ", ".join(map(_control_cell, report.controls))
    timing = report.timing
    lines = [
        "; ".join(
            part
            for part in (
                f"{print_.cpu}, {print_.isa_class}, {print_.threads} threads",
                libraries,  # empty where each variant has its own
                f"Python {' and '.join(dict.fromkeys(pythons)) or '?'}",
            )
            if part
        ),
        f"{timing.replicates} replicates of fresh workers in {timing.seconds:.0f} s, "
        f"{_disturbance_words(timing)}; A/A control: {controls}",
        f"settings: {report.settings_source}; times are median / p95 of single calls, with the "
        f"speedup over {_reference(report)} below; the drop is against it too",
    ]
    if timing.spent_s:
        spent = sorted(timing.spent_s.items(), key=lambda each: -each[1])
        lines.append("time went to " + ", ".join(f"{name} {secs:.0f} s" for name, secs in spent))
    if report.mode == "quick":
        taken = "three replicates"
        if timing.replicates != QUICK_REPLICATES:
            taken = f"{timing.replicates} of {taken}, since judge.budget_s was spent"
        lines.append(f"quick mode: {taken}; brackets of times are the central 80 % of block ratios")
    if report.baseline is not None:
        lines.append(baseline_words(report))
    absent = [name for name in report.settings["judge"]["variants"] if name not in report.variants]
    if absent:
        lines.append(f"not in the kit that was judged: {', '.join(absent)}")
    dropped = report.settings["judge"]["drop_gates"]
    if dropped:
        lines.append(f"gates that this run does without: {', '.join(dropped)}")
    agreement = ", ".join(f"{n} {100 * s:.2f} %" for n, s in report.batch_agreement.items())
    if agreement:
        lines.append(f"same answers in batches of 32 as one by one: {agreement}")
    return lines
