"""Shapes of a student that a search tries, what it found of each, and which go on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from optimize.pipeline.shape_checks import Checks
from optimize.settings.recipe import Settings
from optimize.settings.search import Layers


@dataclass(frozen=True)
class Shape:
    """A shape of the student, and what was found of it.

    Attributes:
        name: its settings in words.
        student: changes to ``[student]``.
        distill: changes to ``[distill]``.
        size_bytes: of its INT8 bundle.
        latency_ms: median of one text.
        speedup: time of the PyTorch teacher over its own, with the interval of quick mode.
        scores: accuracy on validation by epochs learned, or micro F1.
        reason: why it did not go on; empty for one that did.
    """

    name: str
    student: dict[str, Any]
    distill: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    latency_ms: float = math.nan
    speedup: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    scores: dict[int, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def score(self) -> float:
        """That after the most epochs; NaN before any."""
        return self.scores[max(self.scores)] if self.scores else math.nan

    def beats(self, other: Shape) -> bool:
        """At least as good in all three, and better in one."""
        ours = (-self.size_bytes, self.speedup[0], self.score)
        theirs = (-other.size_bytes, other.speedup[0], other.score)
        return all(a >= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        shapes: all of them, the smallest first.
        picked: the smallest that keeps the gates which a search looks at, else the best that there
            is; ``None`` where the time did not suffice for one.
        why: why that one.
        teacher: its score on validation, size and latency.
        linear: score of word counts on validation, where scikit-learn is installed.
        unchecked: gates that a search does not look at; they are judged afterwards.
        checks: what each shape that learned to the end is in INT8, by name.
    """

    shapes: tuple[Shape, ...]
    picked: Shape | None
    why: str
    teacher: Shape
    linear: float | None = None
    unchecked: tuple[str, ...] = ()
    checks: Mapping[str, Checks] = field(default_factory=dict)

    @property
    def front(self) -> tuple[Shape, ...]:
        """Shapes that learned to the end and that no other such one beats."""
        most = max((max(each.scores, default=0) for each in self.shapes), default=0)
        done = [each for each in self.shapes if most and most in each.scores]
        return tuple(each for each in done if not any(other.beats(each) for other in done))


# A static student has vectors that must learn, and no layers to compare.
STATIC = {"freeze_embeddings": False, "hidden": 0.0, "relations": 0.0, "layer_decay": 1.0}


def shapes_of(settings: Settings) -> list[Shape]:
    """Every shape that ``[search]`` names; what it does not name is as the recipe has it."""
    asked, own = settings.search, settings.student
    grid = itertools.product(
        asked.layers or (own.layers,),
        asked.vocabulary or (own.vocabulary,),
        asked.feed_forward or (own.feed_forward,),
        asked.width or (own.width if own.shape == "encoder" else None,),
        asked.heads or (own.heads,),
    )
    found = []
    names = ("layers", "vocabulary", "feed_forward", "width", "heads")
    for values in grid:
        student = dict(zip(names, values, strict=True))
        layers, vocabulary, feed_forward, width, heads = values
        words = [_layers_words(layers)]
        words += [f"{vocabulary:,} tokens"] if vocabulary else []
        words += [f"feed-forward {feed_forward:,}"] if feed_forward else []
        words += [f"{width:,} wide"] if width else []
        words += [f"{heads} head{'s' if heads > 1 else ''}"] if heads else []
        found.append(Shape(", ".join(words), {"shape": "encoder", **student}))
    whole = {"shape": "static", "layers": None, "feed_forward": None, "heads": None}
    learning = STATIC
    if not (settings.distill.pooled or settings.distill.cosine):
        learning = {**STATIC, "representation_epochs": 0}  # no loss on inner states is left
    found += [
        Shape(f"static, {width:,} wide", {**whole, "width": width}, learning)
        for width in asked.static_widths
    ]
    return list({shape.name: shape for shape in found}.values())


def _layers_words(layers: Layers) -> str:
    """How many there are, or which: two layers are not the second."""
    if layers is None:
        return "all layers"
    if isinstance(layers, int):
        return f"{layers} layers"
    return f"layer{'s' if len(layers) > 1 else ''} {'+'.join(map(str, layers))}"


def halved(shapes: Iterable[Shape], epochs: int, keep: float) -> list[Shape]:
    """The shapes, those told why that do not go on.

    On go the better part by score, and whatever no other beats in size, speed and score: a small
    shape need not be the most accurate to be worth having.

    Args:
        shapes: all of them.
        epochs: that those left have learned for.
        keep: share that goes on for its score.
    """
    shapes = list(shapes)
    there = [shape for shape in shapes if not shape.reason and epochs in shape.scores]
    ranked = sorted(there, key=lambda each: -each.scores[epochs])
    good = {each.name for each in ranked[: math.ceil(keep * len(ranked))]}
    found = []
    for shape in shapes:
        better = next((other for other in there if other.beats(shape)), None)
        if shape in there and shape.name not in good and better is not None:
            words = (
                f"after {epochs} epochs {better.name} is no larger, no slower and "
                f"{100 * (better.score - shape.score):.2f} pp better"
            )
            found.append(replace(shape, reason=words))
        else:
            found.append(shape)
    return found
