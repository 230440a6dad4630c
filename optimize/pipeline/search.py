"""Search for the smallest and fastest shape of a student that stays right enough.

What a shape weighs and how long it takes do not hang on what it has learned: both are measured
before anything trains, and what misses a gate by then is not trained at all. The others learn in
rungs, first for a share of the recipe's epochs (successive halving, Jamieson and Talwalkar 2016,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization"). Scores are of the
validation split alone; no shape is asked for the test texts. Every stage is in the cache: a search
that ends early goes on from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.classifier import Classifier, Logits, given_labels
from optimize.bundle.folder import read_manifest
from optimize.bundle.texts import shown
from optimize.data.splits import Split, Splits
from optimize.distill.projections import DistillError
from optimize.judge.gates.control import LEAST_QUICK_BLOCKS, timing_verdict
from optimize.judge.records import Timing
from optimize.judge.statistics.accuracy import distinct_rows
from optimize.judge.statistics.label_f1 import micro_f1
from optimize.judge.statistics.proportions import tango_noninferior
from optimize.judge.workers.process import WorkerSpec
from optimize.judge.workers.timing import Plan, Undecided, measure
from optimize.judge.workers.workloads import workload_batches
from optimize.machine import available_cores, isa_class
from optimize.models.encoder import StudentError
from optimize.pipeline.graph import has_teacher_onnx, shape_stage
from optimize.pipeline.preflight import preflight
from optimize.pipeline.runner import Build, Runner
from optimize.pipeline.shape_checks import Checks, checked
from optimize.pipeline.shapes import Outcome, Shape, halved, shapes_of
from optimize.pipeline.stage import Stage
from optimize.quantize.int8 import QuantizeError
from optimize.quantize.parity import ExportError
from optimize.settings.gates import (
    AccuracyGate,
    GateTable,
    SizeGate,
    SpeedupGate,
    gate_name,
)
from optimize.settings.load import SettingsError, parse
from optimize.settings.recipe import Settings
from optimize.workspace import Progress, Tell

AnyGate = TypeVar("AnyGate", bound=GateTable)
TEACHER, SHIPPED = "teacher-torch", "student-int8"
WORKLOAD = "typical"
# Shapes whose workers are there at once, beside the teacher's.
TOGETHER = 6
# Why a shape cannot be made or taught.
UNMADE = (StudentError, SettingsError, DistillError, QuantizeError, ExportError)
# Replicates: of all shapes, and of those that the first one leaves in doubt.
REPLICATES = (1, 3)


def search(
    settings: Settings, minutes: float | None, tell: Tell, cache_root: Path | None = None
) -> Outcome:
    """Measure, train and halve the shapes of ``[search]``.

    Args:
        settings: the recipe; its gates of size, speedup and accuracy are what a shape must keep.
        minutes: no training is begun later than this; ``None`` trains all.
        tell: told the progress.
        cache_root: where stages are kept; by default the user's cache folder.

    Raises:
        ValueError: the recipe builds no student, or does not export its teacher.
    """
    if not settings.builds_chain:
        raise ValueError("this recipe builds no student: there is no shape to search")
    if not has_teacher_onnx(settings):
        raise ValueError(
            "the search asks the teacher in ONNX, which judge.variants leaves out: add teacher-onnx"
        )
    preflight(settings)
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
        self.isa = isa_class()
        self.workload = timed_workload(settings)
        self.right: dict[tuple[str, int], NDArray[np.bool_]] = {}

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
        checks = {each.name: self._checked(each) for each in ordered if epochs[-1] in each.scores}
        return Outcome(ordered, picked, why, teacher, self._linear(), self._unchecked(), checks)

    def _checked(self, shape: Shape) -> Checks:
        self.tell(f"search: {shape.name}, checked")
        built = Build(self._changed(shape, max(shape.scores)), self.runner)
        int8, fp32 = (self._stage(built, variant) for variant in (SHIPPED, "student-onnx"))
        return checked(int8, fp32, self.splits.validation)

    def _unchecked(self) -> tuple[str, ...]:
        """Gates that no shape was held against, each on every workload."""
        looked_at = {
            *(name for name, _ in self._gates(SizeGate, TEACHER)),
            *(name for name, _ in self._gates(AccuracyGate, TEACHER, "teacher-onnx")),
        }
        speedups = {name for name, _ in self._gates(SpeedupGate, TEACHER)}
        workloads = tuple(self.settings.judge.workloads)
        return tuple(
            gate_name(name, workload)
            for name, gate in self.settings.active_gates.items()
            if name not in looked_at
            for workload in gate.judged_workloads(workloads)
            if not (name in speedups and workload == self.workload)
        )

    def _gates(self, kind: type[AnyGate], *references: str) -> list[tuple[str, AnyGate]]:
        """Gates of a kind that hold what ships against one of these."""
        return [
            (name, gate)
            for name, gate in self.settings.active_gates.items()
            if isinstance(gate, kind) and gate.candidate == SHIPPED and gate.reference in references
        ]

    def _epochs(self) -> list[int]:
        whole, shares = self.settings.distill.epochs, self.settings.search.rungs
        # Before that, the losses on inner states alone count.
        least = self.settings.distill.representation_epochs + 1
        return sorted({min(whole, max(least, round(share * whole))) for share in shares} | {whole})

    def _teacher(self) -> Shape:
        folder = self._stage(self.base, TEACHER)
        score = self._asked("teacher", 0, Classifier(self._stage(self.base, "teacher-onnx")))
        size = read_manifest(folder).size_bytes
        return Shape("teacher", {}, size_bytes=size, scores={0: score})

    def _stage(self, built: Build, variant: str) -> Path:
        return self.runner.folder(built.stages["kit"].inputs[variant])

    def _changed(self, shape: Shape, epochs: int | None = None) -> Settings:
        table = self.settings.model_dump()
        table["student"] |= shape.student
        table["distill"] |= shape.distill
        if epochs is not None:
            table["distill"]["epochs"] = epochs
        return parse(table, f"the shape {shape.name}")

    def _untrained(self, shape: Shape) -> Stage:
        return shape_stage(self._changed(shape), self.splits.training)

    def _weighed(self, shape: Shape, teacher: Shape) -> Shape:
        """With the bytes of its bundle; refused where it cannot be made or misses a size gate."""
        try:
            size = read_manifest(self.runner.folder(self._untrained(shape))).size_bytes
        except UNMADE as error:
            return replace(shape, reason=f"it cannot be made: {error}")
        found = replace(shape, size_bytes=size)
        for name, gate in self._gates(SizeGate, TEACHER):
            smaller = 100 * (1 - size / teacher.size_bytes)
            limit = gate.limit(None, self.isa)
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
        self.tell(Progress("timing: done", 1.0, passing=True))
        return list(found.values())

    def _beside_the_teacher(self, group: Sequence[Shape], replicates: int) -> list[Shape]:
        workload = self.settings.judge.workloads[self.workload]
        batches = {self.workload: workload_batches(self.splits.validation.texts, workload)}
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
        series = timing.series[self.workload]
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
        workloads = tuple(self.settings.judge.workloads)
        for name, gate in self._gates(SpeedupGate, TEACHER):
            limit, (ratio, _, high) = gate.limit(self.workload, self.isa), shape.speedup
            if self.workload in gate.judged_workloads(workloads) and high < limit:
                return replace(shape, reason=f"{name}: {ratio:.1f}×, {limit:g}× asked for")
        return shape

    def _learned(self, shape: Shape, epochs: int) -> Shape:
        """With its score after so many epochs, unless the time is up."""
        try:
            built = Build(self._changed(shape, epochs), self.runner)
            stage = built.stages["kit"].inputs[SHIPPED]
            if time.monotonic() > self.ends and not self.runner.has(stage):
                return replace(shape, reason=f"the time was up before its {epochs} epochs")
            self.tell(f"search: {shape.name}, {epochs} epochs")
            folder = self.runner.folder(stage)
        except UNMADE as error:
            return replace(shape, reason=f"it cannot be taught: {error}")
        score = self._asked(shape.name, epochs, Classifier(folder))
        self.tell(f"search: {shape.name}, {epochs} epochs: {100 * score:.2f} % on validation")
        return replace(shape, scores=shape.scores | {epochs: score})

    def _asked(self, name: str, epochs: int, classifier: Classifier) -> float:
        """The score on validation; which texts are right is kept, to be compared."""
        rows = rows_of(classifier, self.splits.validation)
        validation = self.splits.validation
        if validation.labels.ndim == 1:
            # As the gate counts: a text that is there twice says nothing new.
            distinct = distinct_rows(tuple(map(shown, validation.texts)), validation.labels)
            self.right[name, epochs] = (rows.argmax(axis=1) == validation.labels)[distinct]
        return _score(rows, classifier.manifest, self.splits.validation)

    def _picked(self, shapes: Sequence[Shape], teacher: Shape) -> tuple[Shape | None, str]:
        """The smallest that keeps the gate on accuracy, as validation shows it; else the best."""
        learned = [shape for shape in shapes if shape.scores and not shape.reason]
        learned = learned or [shape for shape in shapes if shape.scores]
        if not learned:
            return None, "no shape has learned yet: give more minutes, or ask for less in the gates"
        most = max(max(shape.scores) for shape in learned)
        ready = [shape for shape in learned if most in shape.scores]
        gates = self._gates(AccuracyGate, TEACHER, "teacher-onnx")
        best = max(ready, key=lambda each: each.score)
        if not gates:
            return best, "the most accurate; the recipe has no gate on accuracy against the teacher"
        margin = min(gate.limit(None, self.isa) for _, gate in gates)
        within = [each for each in ready if self._holds(each, most, teacher, margin)]
        if within:
            best = min(within, key=lambda each: (each.size_bytes, -each.score))
            drop = 100 * (teacher.score - best.score)
            return best, f"the smallest of {len(within)} that keep {margin:g} pp: {drop:+.2f} pp"
        drop = 100 * (teacher.score - best.score)
        return best, f"none keeps {margin:g} pp for sure; this one comes nearest, {drop:+.2f} pp"

    def _holds(self, shape: Shape, epochs: int, teacher: Shape, margin: float) -> bool:
        """As the gate decides, but on validation; of micro F1 by its difference alone."""
        before, after = self.right.get(("teacher", 0)), self.right.get((shape.name, epochs))
        if before is None or after is None:
            return 100 * (teacher.score - shape.score) < margin
        worse, better = int((before & ~after).sum()), int((after & ~before).sum())
        return tango_noninferior(worse, better, len(before), margin / 100)

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


def timed_workload(settings: Settings) -> str:
    """The workload that shapes are timed on."""
    return (
        WORKLOAD if WORKLOAD in settings.judge.workloads else next(iter(settings.judge.workloads))
    )


def rows_of(classifier: Classifier, split: Split) -> Logits:
    """Probabilities of a bundle as it is served, shape (texts, labels)."""
    size = 1 if classifier.manifest.quantization else 32
    return classifier.predict_proba(split.texts, batch_size=size)


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
