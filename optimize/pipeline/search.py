"""Search for the smallest and fastest shape of a student that stays right enough.

What a shape weighs and how long it takes do not hang on what it has learned: both are measured
before anything trains, and what misses a gate by then is not trained at all. The others learn in
rungs, first for a share of the recipe's epochs (successive halving, Jamieson and Talwalkar 2016,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization"). Scores are of the
validation split alone; no shape is asked for the test texts. Every stage is in the cache: a search
that ends early goes on from there.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from optimize.bundle.classifier import Classifier, given_labels
from optimize.bundle.folder import read_manifest
from optimize.data.splits import Split, Splits
from optimize.judge.gates.control import LEAST_QUICK_BLOCKS, timing_verdict
from optimize.judge.records import Timing
from optimize.judge.statistics.label_f1 import micro_f1
from optimize.judge.workers.process import WorkerSpec
from optimize.judge.workers.timing import Plan, Undecided, measure
from optimize.judge.workers.workloads import workload_batches
from optimize.machine import available_cores
from optimize.models.encoder import StudentError
from optimize.pipeline.graph import shape_stage
from optimize.pipeline.runner import Build, Runner
from optimize.pipeline.stage import Stage
from optimize.settings.gates import AccuracyGate, SizeGate, SpeedupGate
from optimize.settings.load import SettingsError, parse
from optimize.settings.recipe import Settings
from optimize.settings.search import Layers
from optimize.workspace import Progress, Tell

TEACHER, SHIPPED = "teacher-torch", "student-int8"
WORKLOAD = "typical"
# Shapes whose workers are there at once, beside the teacher's.
TOGETHER = 6
# Replicates: of all shapes, and of those that the first one leaves in doubt.
REPLICATES = (1, 3)


@dataclass(frozen=True)
class Shape:
    """A shape of the student, and what was found of it.

    Attributes:
        name: its settings in words.
        student: changes to ``[student]``.
        size_bytes: of its INT8 bundle.
        latency_ms: median of one text.
        speedup: time of the PyTorch teacher over its own, with the interval of quick mode.
        scores: accuracy on validation by epochs learned, or micro F1.
        reason: why it did not go on; empty for one that did.
    """

    name: str
    student: dict[str, Any]
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
        picked: the smallest that keeps every gate, else the best that there is; ``None`` where the
            time did not suffice for one.
        why: why that one.
        teacher: its score on validation, size and latency.
        linear: score of word counts on validation, where scikit-learn is installed.
    """

    shapes: tuple[Shape, ...]
    picked: Shape | None
    why: str
    teacher: Shape
    linear: float | None = None

    @property
    def front(self) -> tuple[Shape, ...]:
        """Shapes that learned to the end and that no other such one beats."""
        most = max((max(each.scores, default=0) for each in self.shapes), default=0)
        done = [each for each in self.shapes if most and most in each.scores]
        return tuple(each for each in done if not any(other.beats(each) for other in done))


def shapes_of(settings: Settings) -> list[Shape]:
    """Every shape that ``[search]`` names."""
    asked, found = settings.search, []
    grid = itertools.product(asked.layers, asked.vocabulary, asked.feed_forward)
    for layers, vocabulary, feed_forward in grid:
        student = {"layers": layers, "vocabulary": vocabulary, "feed_forward": feed_forward}
        words = [f"{_count(layers)} layers"]
        words += [f"{vocabulary:,} tokens"] if vocabulary else []
        words += [f"feed-forward {feed_forward:,}"] if feed_forward else []
        found.append(Shape(", ".join(words), student))
    found += [
        Shape(f"static, {width:,} wide", {"shape": "static", "width": width})
        for width in asked.static_widths
    ]
    return found


def _count(layers: Layers) -> str:
    if layers is None:
        return "all"
    return str(layers) if isinstance(layers, int) else "+".join(map(str, layers))


def search(
    settings: Settings, minutes: float | None, tell: Tell, cache_root: Path | None = None
) -> Outcome:
    """Measure, train and halve the shapes of ``[search]``.

    Args:
        settings: the recipe; its gates of size, speedup and accuracy are what a shape must keep.
        minutes: no training is begun later than this; ``None`` trains all.
        tell: told the progress.
        cache_root: where stages are kept; by default the user's cache folder.
    """
    return _Search(settings, minutes, tell, cache_root).outcome()


class _Search:
    """The state of one search."""

    def __init__(
        self, settings: Settings, minutes: float | None, tell: Tell, cache_root: Path | None
    ) -> None:
        self.settings, self.tell = settings, tell
        self.runner = Runner(tell, cache_root)
        self.base = Build(settings, self.runner)
        self.ends = math.inf if minutes is None else time.monotonic() + 60 * minutes

    @property
    def splits(self) -> Splits:
        return self.base.splits

    def outcome(self) -> Outcome:
        teacher = self._teacher()
        shapes = [self._weighed(shape, teacher) for shape in shapes_of(self.settings)]
        shapes = self._timed(shapes)
        epochs = self._epochs()
        for place, count in enumerate(epochs):
            open_ = [shape for shape in shapes if not shape.reason]
            learned = {shape.name: self._learned(shape, count) for shape in open_}
            shapes = [learned.get(shape.name, shape) for shape in shapes]
            if place < len(epochs) - 1:
                shapes = halved(shapes, count, self.settings.search.keep)
        picked, why = self._picked(shapes, teacher)
        ordered = tuple(sorted(shapes, key=lambda each: (each.size_bytes, each.name)))
        return Outcome(ordered, picked, why, teacher, self._linear())

    def _epochs(self) -> list[int]:
        whole = self.settings.distill.epochs
        shares = self.settings.search.rungs
        return sorted({max(1, round(share * whole)) for share in shares} | {whole})

    def _teacher(self) -> Shape:
        folder = self._stage(self.base, TEACHER)
        logits = Classifier(self._stage(self.base, "teacher-onnx"))
        score = score_of(logits, self.splits.validation)
        return Shape("teacher", {}, read_manifest(folder).size_bytes, scores={0: score})

    def _stage(self, built: Build, variant: str) -> Path:
        return self.runner.folder(built.stages["kit"].inputs[variant])

    def _changed(self, shape: Shape, epochs: int | None = None) -> Settings:
        table = self.settings.model_dump()
        table["student"] |= shape.student
        if epochs is not None:
            table["distill"]["epochs"] = epochs
        return parse(table, f"the shape {shape.name}")

    def _untrained(self, shape: Shape) -> Stage:
        return shape_stage(self._changed(shape), self.splits.training)

    def _weighed(self, shape: Shape, teacher: Shape) -> Shape:
        """With the bytes of its bundle; refused where it cannot be made or misses a size gate."""
        try:
            size = read_manifest(self.runner.folder(self._untrained(shape))).size_bytes
        except (StudentError, SettingsError) as error:
            return replace(shape, reason=f"it cannot be made: {error}")
        found = replace(shape, size_bytes=size)
        for name, gate in self.settings.active_gates.items():
            judged = isinstance(gate, SizeGate) and gate.variants == (SHIPPED, TEACHER)
            if judged and isinstance(gate, SizeGate):
                smaller = 100 * (1 - size / teacher.size_bytes)
                limit = gate.limit(None, "other")
                if smaller < limit:
                    words = f"{name}: {smaller:.1f} % smaller than the teacher, {limit:g} asked for"
                    return replace(found, reason=words)
        return found

    def _timed(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Timed beside the teacher, and refused where a gate on speed is missed for sure."""
        found = {shape.name: shape for shape in shapes}
        for replicates in REPLICATES:
            left = [shape for shape in found.values() if not shape.reason]
            for start in range(0, len(left), TOGETHER):
                group = left[start : start + TOGETHER]
                self.tell(Progress(f"timing: {len(left)} shapes", start / len(left)))
                for shape in self._beside_the_teacher(group, replicates):
                    found[shape.name] = self._too_slow(shape)
        return list(found.values())

    def _beside_the_teacher(self, group: Sequence[Shape], replicates: int) -> list[Shape]:
        workload = self.settings.judge.workloads.get(WORKLOAD) or next(
            iter(self.settings.judge.workloads.values())
        )
        batches = {WORKLOAD: workload_batches(self.splits.validation.texts, workload)}
        threads = self.settings.judge.threads or available_cores()
        specs = [WorkerSpec(TEACHER, self._stage(self.base, TEACHER), threads, spins=True)]
        specs += [
            WorkerSpec(f"shape{place}", self.runner.folder(self._untrained(shape)), threads)
            for place, shape in enumerate(group)
        ]
        judge = self.settings.judge
        # One replicate of fewer blocks would say nothing.
        blocks = max(judge.quick_blocks, LEAST_QUICK_BLOCKS)
        plan = Plan((replicates,), blocks, judge.block_ms / 1000)
        timing = measure(specs, batches, plan, _decided, _silent, _nothing)
        series = timing.series[WORKLOAD]
        found = []
        for place, shape in enumerate(group):
            ours = series[f"shape{place}"]
            outcome = timing_verdict(series[TEACHER], ours, 0.0, "quick", 1)
            ends = (outcome.estimate_log, outcome.interval.low, outcome.interval.high)
            ratio, low, high = (math.exp(end) for end in ends)
            latency = math.nan if ours.p50_ms is None else ours.p50_ms
            found.append(replace(shape, latency_ms=latency, speedup=(ratio, low, high)))
        return found

    def _too_slow(self, shape: Shape) -> Shape:
        for name, gate in self.settings.active_gates.items():
            if not isinstance(gate, SpeedupGate) or gate.reference != TEACHER:
                continue
            limit, (ratio, _, high) = gate.limit(WORKLOAD, "other"), shape.speedup
            if gate.candidate == SHIPPED and high < limit:
                return replace(shape, reason=f"{name}: {ratio:.1f}×, {limit:g}× asked for")
        return shape

    def _learned(self, shape: Shape, epochs: int) -> Shape:
        """With its score after so many epochs, unless the time is up."""
        built = Build(self._changed(shape, epochs), self.runner)
        stage = built.stages["kit"].inputs[SHIPPED]
        if time.monotonic() > self.ends and not self.runner.has(stage):
            return replace(shape, reason=f"the time was up before its {epochs} epochs")
        self.tell(f"search: {shape.name}, {epochs} epochs")
        score = score_of(Classifier(self.runner.folder(stage)), self.splits.validation)
        self.tell(f"search: {shape.name}, {epochs} epochs: {100 * score:.2f} % on validation")
        return replace(shape, scores=shape.scores | {epochs: score})

    def _picked(self, shapes: Sequence[Shape], teacher: Shape) -> tuple[Shape | None, str]:
        """The smallest that keeps the gate on accuracy, as validation shows it; else the best."""
        learned = [shape for shape in shapes if shape.scores and not shape.reason]
        learned = learned or [shape for shape in shapes if shape.scores]
        if not learned:
            return None, "no shape has learned yet: give more minutes, or ask for less in the gates"
        most = max(max(shape.scores) for shape in learned)
        ready = [shape for shape in learned if most in shape.scores]
        limits = [
            gate.limit(None, "other")
            for gate in self.settings.active_gates.values()
            if isinstance(gate, AccuracyGate)
            and gate.candidate == SHIPPED
            and gate.reference in (TEACHER, "teacher-onnx")
        ]
        margin = min(limits, default=math.inf)
        within = [each for each in ready if 100 * (teacher.score - each.score) < margin]
        if within:
            best = min(within, key=lambda each: (each.size_bytes, -each.score))
            drop = 100 * (teacher.score - best.score)
            return best, f"the smallest of {len(within)} within {margin:g} pp: {drop:+.2f} pp"
        best = max(ready, key=lambda each: each.score)
        drop = 100 * (teacher.score - best.score)
        return best, f"none is within {margin:g} pp; this one comes nearest, {drop:+.2f} pp"

    def _linear(self) -> float | None:
        from importlib.util import find_spec

        if find_spec("sklearn") is None:
            return None
        from optimize.judge.workers.others import LinearClassifier

        make = "optimize.distill.linear:build_linear"
        stage = Stage("variant-tf-idf", make, {"data": self.splits.training})
        folder = self.runner.folder(stage)
        rows = LinearClassifier(folder).predict_proba(self.splits.validation.texts, batch_size=256)
        return _score(rows, read_manifest(folder), self.splits.validation)


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


def score_of(classifier: Classifier, split: Split) -> float:
    """Accuracy of a bundle as it is served, or micro F1 where a text may have several labels."""
    size = 1 if classifier.manifest.quantization else 32
    rows = classifier.predict_proba(split.texts, batch_size=size)
    return _score(rows, classifier.manifest, split)


def _score(rows: Any, manifest: Any, split: Split) -> float:
    if split.labels.ndim == 1:
        return float((rows.argmax(axis=1) == split.labels).mean())
    given = np.zeros(rows.shape, dtype=bool)
    for row, labels in enumerate(given_labels(rows, manifest)):
        given[row, list(labels)] = True
    return micro_f1(split.labels == 1, given)


def _decided(_: Timing) -> Undecided:
    return Undecided()


def _nothing(_: Any) -> None:
    """No answers are asked for."""


def _silent(_: str) -> None:
    """A line a replicate would be many."""
