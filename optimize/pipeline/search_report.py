"""What a search found: a table, a recipe, a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optimize.pipeline.shapes import Outcome, Shape
from optimize.settings.recipe import Settings

# Operators whose bytes a row of the checks names.
SHOWN_OPERATORS = 3


def table_of(outcome: Outcome) -> str:
    """One row a shape, the smallest first, as Markdown."""
    epochs = sorted({count for shape in outcome.shapes for count in shape.scores})
    heads = [f"{count} epoch{'s' if count > 1 else ''}" for count in epochs]
    width = max(1, len(heads))
    rows = [
        ["shape", "INT8", "over the teacher", *(heads or ["learned"]), "what became of it"],
        ["---"] * (4 + width),
        *(_cells(outcome, shape, epochs) for shape in outcome.shapes),
    ]
    before = [""] * (width - 1)
    teacher = outcome.teacher
    size, score = f"{teacher.size_bytes / 1e6:.1f} MB", f"{100 * teacher.score:.2f}"
    rows.append(["teacher, PyTorch", size, "1×", *before, score, ""])
    if outcome.linear is not None:
        rows.append(["tf-idf", "", "", *before, f"{100 * outcome.linear:.2f}", ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def checks_of(outcome: Outcome) -> str:
    """One row a shape that learned to the end: what its INT8 is. Empty where there is none."""
    if not outcome.checks:
        return ""
    rows = [
        ["shape", "in integers", "in fp32", "as its fp32", "largest gap of a logit",
         "same in batches of 32", "pairs that could saturate without VNNI",
         "gap of a logit under kernels that cannot", "onnxruntime from", "bytes"],
        ["---"] * 10,
    ]  # fmt: skip
    for name, found in outcome.checks.items():
        most = list(found.bytes_by_operator.items())[:SHOWN_OPERATORS]
        shares = ", ".join(f"{operator} {size / 1e6:.1f} MB" for operator, size in most)
        rows.append(
            [
                name,
                f"{found.integer} products",
                f"{found.floating}",
                f"{100 * found.agreement:.1f} %",
                f"{found.logit_gap:.2f}",
                f"{100 * found.stays_in_batches:.1f} %",
                f"{100 * found.overflowing:.2f} %",
                f"{found.guarded_gap:.4f}",
                found.onnxruntime,
                shares,
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(outcome: Outcome, shape: Shape, epochs: list[int]) -> list[str]:
    ratio, low, high = shape.speedup
    speed = "" if math.isnan(ratio) else f"{ratio:.1f}× [{low:.1f}, {high:.1f}]"
    size = f"{shape.size_bytes / 1e6:.1f} MB" if shape.size_bytes else ""
    known = shape.scores
    scores = [f"{100 * known[count]:.2f}" if count in known else "" for count in epochs] or [""]
    became = " ".join(shape.reason.split()) or ("on the front" if shape in outcome.front else "")
    if outcome.picked is not None and shape.name == outcome.picked.name:
        became = f"**picked**: {outcome.why}"
    return [shape.name, size, speed, *scores, became.replace("|", "\\|")]


def recipe_of(outcome: Outcome, base: str | None, overrides: Sequence[str] = ()) -> str:
    """The picked shape as a recipe that extends the one it was searched from.

    Args:
        outcome: has a picked shape.
        base: that recipe; ``None`` where it is the project's own, whose tables these then are.
        overrides: assignments that the search was given; they are told.
    """
    picked = outcome.picked
    if picked is None:
        raise ValueError(outcome.why)
    prefix = "tool.optimize." if base is None else ""
    lines = [
        f"# {picked.name}: {picked.size_bytes / 1e6:.1f} MB, {picked.speedup[0]:.1f}× the teacher, "
        f"{100 * picked.score:.2f} % on validation, which chose it.",
        f"# {outcome.why}",
    ]
    lines += [f"# It was searched with --set {each}: give it again." for each in overrides]
    if base is None:
        lines.append("# For pyproject.toml, in place of what stands there.")
    else:
        lines.append(f"extends = {json.dumps(base, ensure_ascii=False)}")
    for name, table in (("student", picked.student), ("distill", picked.distill)):
        if table:
            lines += ["", f"[{prefix}{name}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if value is None:
        return '"all"'
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def content_of(outcome: Outcome) -> dict[str, Any]:
    """The same for machines."""
    return {
        "picked": None if outcome.picked is None else outcome.picked.name,
        "why": outcome.why,
        "unchecked": list(outcome.unchecked),
        "teacher": {"size_bytes": outcome.teacher.size_bytes, "score": outcome.teacher.score},
        "linear": outcome.linear,
        "checks": {name: asdict(found) for name, found in outcome.checks.items()},
        "shapes": [
            {
                "name": shape.name,
                "student": shape.student,
                "size_bytes": shape.size_bytes,
                "latency_ms": _number(shape.latency_ms),
                "speedup": [_number(value) for value in shape.speedup],
                "scores": shape.scores,
                "front": shape in outcome.front,
                "reason": shape.reason,
            }
            for shape in outcome.shapes
        ],
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plot(outcome: Outcome, settings: Settings, target: Path) -> None:
    """Size against score: the front, the other shapes, the teacher, word counts, other points.

    Args:
        outcome: what was found.
        settings: ``search.points`` are shown too.
        target: file to write; its ending says the format.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot, ticker

    with mpl.rc_context({"svg.hashsalt": "optimize", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(7.5, 4.6), layout="constrained")
        front = sorted(outcome.front, key=lambda each: each.size_bytes)
        others = [each for each in outcome.shapes if each.scores and each not in outcome.front]
        axes.plot(*_places(front), "o-", label="front")
        if others:
            axes.plot(*_places(others), "o", alpha=0.35, label="other shapes")
        for number, shape in enumerate(front):
            place = (shape.size_bytes / 1e6, 100 * shape.score)
            # Below and above in turn: neighbours on the front are often near each other.
            beside = (4, 6 if number % 2 else -12)
            axes.annotate(f"{shape.name}, {shape.speedup[0]:.0f}×", place, fontsize=8,
                          xytext=beside, textcoords="offset points")  # fmt: skip
        axes.plot(*_places([outcome.teacher]), "s", label="teacher, PyTorch")
        for name, (megabytes, accuracy) in settings.search.points.items():
            axes.plot([megabytes], [accuracy], "^", label=name)
        if outcome.linear is not None:
            axes.axhline(100 * outcome.linear, linestyle=":", label="tf-idf", color="grey")
        axes.set(xscale="log", xlabel="MB", ylabel="validation, %")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False, fontsize=8)
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
        pyplot.close(figure)


def _places(shapes: list[Shape]) -> tuple[list[float], list[float]]:
    return [each.size_bytes / 1e6 for each in shapes], [100 * each.score for each in shapes]
