"""A report as one page for a browser: the verdict in words first, then all that it rests on.

Self-contained: styles and script are inside, nothing is fetched. Every text, label and name is
escaped by Jinja2, and what acts in a terminal is shown by its number before.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from optimize.bundle.node_cost import NodeCost
from optimize.escape import lines_for_terminal
from optimize.judge.gates.comparisons import compared
from optimize.judge.records import GateResult, Report
from optimize.judge.reports import charts
from optimize.judge.reports.breakdown import (
    Pair,
    answered_variants,
    by_label,
    changed_texts,
    confusions,
    pair_of,
    reliability,
)
from optimize.judge.reports.nodes import node_table
from optimize.judge.reports.tables import (
    MARKS,
    baseline_words,
    change_table,
    complaints,
    conditions,
    gate_table,
    startup_table,
    variant_table,
)

CONTROL = "control"
# Rows that a page holds; report.json has them all.
MOST_LABELS, MOST_CHANGED, MOST_NODES = 40, 500, 20
# How a report says where its settings came from: the source, and each change of it.
OVERRIDE = re.compile(r", (?=[\w-]+(?:\.[\w-]+)*=)")
BRACKETS = (("{", "}"), ("[", "]"))
OF_KIT, OF_DUET = "the kit ", "duet "
COMMIT = re.compile(r" \([0-9a-f]{10}\)$")
HEADLINES = {"pass": "Safe to ship", "fail": "Do not ship", "inconclusive": "Not decided"}


def html(report: Report, earlier: Sequence[Report] = (), nodes: Sequence[NodeCost] = ()) -> str:
    """The page.

    Args:
        report: the run that it is about.
        earlier: runs before it, the oldest first.
        nodes: what each costs in INT8, where that was measured.
    """
    from jinja2 import Environment

    # ``finalize`` is asked for every value that a template prints.
    environment = Environment(autoescape=True, finalize=_harmless, trim_blocks=True)
    source = resources.files("optimize.judge.reports").joinpath("page.html").read_text("utf-8")
    page: str = environment.from_string(source).render(
        **_values(report, earlier), **_sensitivity(nodes)
    )
    return page


def _harmless(value: Any) -> Any:
    """Text without what acts in a terminal; markup of our own, and numbers, as they are."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return lines_for_terminal(value) if is_text else value


def _values(report: Report, earlier: Sequence[Report]) -> dict[str, Any]:
    pair = pair_of(report)
    return {
        "verdict": report.verdict,
        "mark": MARKS[report.verdict],
        "headline": headline(report),
        "sentence": sentence(report, pair),
        "recipe": report.recipe,
        "mode": report.mode,
        "created": report.created[:16].replace("T", " "),
        "tiles": _tiles(report, pair),
        "complaints": complaints(report),
        "marks": {mark: verdict for verdict, mark in MARKS.items()},
        "gates": gate_table(report),
        "variants": variant_table(report),
        "startup": startup_table(report),
        "pareto": _markup(_pareto(report)),
        "sizes": _markup(_sizes(report)),
        "latency": [(name, _markup(chart)) for name, chart in _latency(report)],
        "split": report.split,
        "examples": len(report.labels),
        "conditions": conditions(report),
        "command": command(report),
        **_since_baseline(report),
        **_answers(report, pair),
        **_history(report, earlier),
    }


def _markup(chart: str) -> Any:
    """A chart of :mod:`optimize.judge.reports.charts`, which escapes what it shows itself."""
    from markupsafe import Markup

    return Markup(chart)


def headline(report: Report) -> str:
    """The verdict in a few words."""
    if report.failure:
        return f"{HEADLINES['fail']}: {report.failure}"
    missed = [result for result in report.gates if result.verdict != "pass"]
    if report.verdict == "pass":
        return f"{HEADLINES['pass']}: {len(report.gates)} of {len(report.gates)} gates passed"
    count = sum(result.verdict == report.verdict for result in missed)
    words = "failed" if report.verdict == "fail" else "could not be decided"
    return f"{HEADLINES[report.verdict]}: {count} of {len(report.gates)} gates {words}"


def sentence(report: Report, pair: Pair | None) -> str:
    """What one gains and what it costs, in figures."""
    if pair is None:
        return ""
    parts = [*_faster(report, pair), *_smaller(report, pair)]
    first = " and ".join(parts)
    found = report.comparisons and report.comparisons.drop(pair.candidate)
    if not found or report.comparisons is None or report.comparisons.reference != pair.reference:
        return f"{pair.candidate} is {first} than {pair.reference}." if first else ""
    drop, worst = found.drop_pp, found.interval.high
    if report.label_sets is None:
        word = "fewer" if drop > 0 else "more"
        much = f"{abs(drop):.1f} pp {word}" if f"{abs(drop):.1f}" != "0.0" else "as many"
        cost = f"on {report.split} it answers {much} texts right"
        worse = "fewer"
    else:
        word = "lower" if drop > 0 else "higher"
        much = f"{abs(drop):.1f} pp {word}" if f"{abs(drop):.1f}" != "0.0" else "the same"
        cost = f"on {report.split} its micro F1 is {much}"
        worse = "lower"
    if worst is not None:
        cost += f", at worst {max(0.0, worst):.1f} {worse}"
    start = f"{pair.candidate} is {first} than {pair.reference}; " if first else ""
    whole = f"{start}{cost}."
    return whole[0].upper() + whole[1:] if not start else whole


def _faster(report: Report, pair: Pair) -> list[str]:
    ratio = _ratio(report, pair)
    if ratio is None:
        return []
    if f"{max(ratio, 1 / ratio):.1f}" == "1.0":
        return ["no faster"]
    return [f"{ratio:.1f}× as fast" if ratio >= 1 else f"{1 / ratio:.1f}× slower"]


def _ratio(report: Report, pair: Pair) -> float | None:
    """The paired speedup that tables and gates have, where one text is answered at a time."""
    found = compared(report).comparisons
    if found is None or found.reference != pair.reference:
        return None
    single = [name for name, size in report.timing.batch_sizes.items() if size == 1]
    for workload in sorted(single, key=lambda name: name != "typical"):
        speedup = found.speedup(pair.candidate, workload)
        if speedup is not None:
            return speedup.ratio
    return None


def _smaller(report: Report, pair: Pair) -> list[str]:
    facts = report.variants
    if pair.reference not in facts or pair.candidate not in facts:
        return []
    share = 100 * (1 - facts[pair.candidate].size_bytes / facts[pair.reference].size_bytes)
    if f"{abs(share):.0f}" == "0":
        return ["no smaller"]
    if f"{share:.0f}" == "100":
        return [f"{min(share, 99.9):.1f} % smaller"]
    return [f"{share:.0f} % smaller" if share >= 0 else f"{-share:.0f} % larger"]


def _tiles(report: Report, pair: Pair | None) -> list[tuple[str, str]]:
    if pair is None:
        return []
    found = []
    ratio = _ratio(report, pair)
    if ratio is not None:
        found.append(("as fast, one text at a time", f"{ratio:.1f}×"))
    facts = report.variants.get(pair.candidate)
    if facts is not None:
        found.append(("what one ships", f"{facts.size_bytes / 1e6:.1f} MB"))
    scores = report.scores.get(report.split, {}).get(pair.candidate)
    if scores is not None:
        name, share, _ = scores.headline
        word = "right" if name == "accuracy" else name
        found.append((f"{word} on {report.split}", f"{100 * share:.2f} %"))
    startup = report.timing.startup_s.get(pair.candidate)
    if startup:
        found.append(("to the first answer", f"{float(np.median(startup)):.2f} s"))
    return found


def _pareto(report: Report) -> str:
    scored = report.scores.get(report.split, {})
    workload = (
        "typical" if "typical" in report.timing.series else next(iter(report.timing.series), "")
    )
    timed = report.timing.series.get(workload, {})
    points = [
        charts.Bubble(name, time, 100 * scored[name].headline[1], float(facts.size_bytes))
        for name, facts in report.variants.items()
        if name in scored and name in timed and (time := timed[name].p50_ms)
    ]
    return charts.bubbles(points, "ms", "%")


# Operators of a stack; smaller ones share the last colour.
SHOWN_OPERATORS = 5


def _sizes(report: Report) -> str:
    """Bytes by the operator that reads them, where the report knows; else by files alone."""
    total: Counter[str] = Counter()
    for facts in report.variants.values():
        total.update(facts.bytes_by_operator)
    shown = [name for name, _ in total.most_common(SHOWN_OPERATORS)]
    rows = {}
    for name, facts in report.variants.items():
        by = facts.bytes_by_operator
        row = {f"for {each}": by[each] / 1e6 for each in shown if each in by}
        other = facts.size_bytes - sum(by[each] for each in shown if each in by)
        row["other" if by else "weights and tokenizer"] = max(0, other) / 1e6
        rows[name] = row
    return charts.stacks(rows, "MB")


def _latency(report: Report) -> list[tuple[str, str]]:
    found = []
    for workload, by in report.timing.series.items():
        rows = []
        for name, series in by.items():
            values = [1e3 * second for blocks in series.blocks_s for second in blocks]
            if name != CONTROL and values:
                low, high = np.quantile(values, [0.25, 0.75])
                rows.append(charts.Dots(name, values, float(low), float(high)))
        batch = report.timing.batch_sizes.get(workload, 1)
        title = workload if batch == 1 else f"{workload}, {batch} texts a call"
        found.append((title, charts.strips(rows, "ms")))
    return [(name, chart) for name, chart in found if chart]


def _answers(report: Report, pair: Pair | None) -> dict[str, Any]:
    if pair is None:
        return {"pair": None}
    names = answered_variants(report)
    labels = by_label(report, pair)
    sets = report.label_sets is not None
    wrong = [each for each in labels if each.candidate < 1 or (sets and each.given_wrongly)]
    wrong = wrong[:MOST_LABELS]
    changed, count = changed_texts(report, names, pair, MOST_CHANGED)
    curves = {name: reliability(report, name) for name in (pair.candidate, pair.reference)}
    return {
        "pair": pair,
        "sets": sets,
        "labels": wrong,
        "hidden_labels": len(labels) - len(wrong),
        "confusions": confusions(report, pair),
        "answered": names,
        "changed": changed,
        "changed_count": count,
        "calibration": _markup(charts.diagonal(curves)),
    }


def _since_baseline(report: Report) -> dict[str, Any]:
    """The texts whose label changed against the baseline, where there is one."""
    facts = report.baseline
    if facts is None:
        return {"since": None}
    return {
        "since": change_table(report, MOST_CHANGED),
        "since_words": baseline_words(report),
        "since_count": len(facts.changes),
    }


def _history(report: Report, earlier: Sequence[Report]) -> dict[str, Any]:
    if not earlier:
        return {"history": []}
    runs = [{result.name: result for result in run.gates} for run in (*earlier, report)]
    found = []
    for result in report.gates:
        values = [run[result.name].value for run in runs if result.name in run]
        known = [value for value in values if value is not None and math.isfinite(value)]
        # The last dot is drawn as this run's.
        if len(known) > 1 and result.value is not None and math.isfinite(result.value):
            chart = charts.sparkline(known, _limit_of(result))
            found.append((result.name, _markup(chart), result.measured))
    return {"history": found, "history_runs": len(runs)}


def _sensitivity(nodes: Sequence[NodeCost]) -> dict[str, Any]:
    shown = nodes[:MOST_NODES]
    bars = {node.name: max(0.0, node.divergence) for node in shown}
    return {
        "nodes": node_table(shown) if shown else None,
        "node_chart": _markup(charts.bars(bars, "nats")),
        "hidden_nodes": len(nodes) - len(shown),
    }


def _parted(source: str) -> list[str]:
    """Where the settings came from, and each change of them: a table within one is not parted."""
    found: list[str] = []
    for piece in OVERRIDE.split(source):
        if found and any(found[-1].count(a) > found[-1].count(b) for a, b in BRACKETS):
            found[-1] += f", {piece}"
        else:
            found.append(piece)
    return found


def _limit_of(result: GateResult) -> float:
    return result.limit_value


def command(report: Report) -> str:
    """What measures the same settings again, from where the first run was started.

    A kit, bundle or interpreter that was given beside a recipe is in no report.
    """
    source, *changes = _parted(report.settings_source)
    kind, _, name = source.partition(" ")
    words = ["pytest", "benchmarks"]
    if source.startswith(OF_DUET):
        words, changes = ["optimize", *shlex.split(report.settings_source)], []
    if kind == "recipe":  # needs no folder of benchmarks
        words = ["optimize", "run", "--recipe", name]
    elif source.startswith(OF_KIT):
        words += ["--kit", source.removeprefix(OF_KIT)]
    for change in changes:
        words += ["--set", change]
    if report.baseline is not None:
        # Of a revision the commit stands behind its name.
        words += ["--baseline", COMMIT.sub("", report.baseline.source)]
    words += [*(["--quick"] if report.mode == "quick" else []), "--out", "report"]
    return (
        f"# settings: {report.settings_source}\n"
        "# and --kit, --bundle or --python, where one was given beside them\n"
        f"# optimize {report.optimize_version}, data {report.data_digest[:10]}\n"
        f"{shlex.join(words)}"
    )
