"""What a build will cost on this machine, from one measured batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from optimize.data.splits import Splits
from optimize.models.checkpoint import load_config
from optimize.models.encoder import LAYER_COUNT_KEYS, parameter_count
from optimize.models.quiet import quiet
from optimize.pipeline.graph import own_texts
from optimize.settings.recipe import Settings

BATCH = 32
# A step forth and back costs about three times the way forth.
BACKWARD = 3.0
MEASURED_S = 0.25


@dataclass(frozen=True)
class Pace:
    """Seconds that a text takes a teacher, forth alone, and the teacher's parameters."""

    seconds: float
    parameters: int


@dataclass(frozen=True)
class Cost:
    """What a build takes, stages that are in the cache not deducted.

    Attributes:
        trained: examples that the teacher learns from, over all epochs.
        scored: texts that the teacher answers for the student.
        distilled: examples that the student learns from, over all epochs.
        minutes: on this machine.
        disk_mb: of the models and the teacher's answers.
    """

    trained: int
    scored: int
    distilled: int
    minutes: float
    disk_mb: float

    @property
    def whole_minutes(self) -> str:
        """In words."""
        count = max(1, round(self.minutes))
        return f"{count:,} minute{'' if count == 1 else 's'}"

    @property
    def line(self) -> str:
        """In words."""
        return (
            f"a build trains the teacher on {self.trained:,} examples, scores {self.scored:,} "
            f"texts and trains the student on {self.distilled:,}: about {self.whole_minutes} here, "
            f"{self.disk_mb:,.0f} MB of disk; less where stages are in the cache"
        )


def cost_of(settings: Settings, splits: Splits, pace: Pace) -> Cost:
    """Estimate a build.

    Variations, copies and texts of the user's own are counted as the recipe has them; texts that a
    language model is to write or that lie on the Hub are not, nor is their writing.

    Args:
        settings: the recipe.
        splits: its data.
        pace: of this machine with this teacher.
    """
    teacher, distill = settings.teacher, settings.distill
    size = len(splits.train)
    trained = size * teacher.epochs if teacher.fine_tune else 0
    own = own_texts(settings)
    scored = size * (1 + distill.augment) + ((own and own.count) or 0)
    distilled = round((scored + size * distill.misspelt) * distill.epochs)
    config = load_config(teacher.checkpoint, teacher.revision)
    depth = next((getattr(config, key) for key in LAYER_COUNT_KEYS if hasattr(config, key)), 1)
    kept = settings.student.layers
    layers = depth if kept is None else kept if isinstance(kept, int) else len(kept)
    folds = 1 + distill.folds
    students = 1 + distill.control
    learning = BACKWARD * distilled * students * layers / depth
    work = BACKWARD * trained * folds + scored + learning
    # Weights, gradients' moments of both, a checkpoint of each; two bytes a logit.
    disk = 4 * pace.parameters * 8 + 2 * scored * len(splits.label_names)
    return Cost(trained, scored, distilled, work * pace.seconds / 60, disk / 1e6)


def measured_pace(settings: Settings, lengths: Sequence[int], most: int) -> Pace:
    """How long a text takes the teacher's shape, its weights being random.

    Args:
        settings: name the teacher.
        lengths: tokens of each text, uncut.
        most: tokens that longer texts are cut to.
    """
    from transformers import AutoModelForSequenceClassification

    teacher = settings.teacher
    with quiet():
        config = load_config(teacher.checkpoint, teacher.revision)
        model = AutoModelForSequenceClassification.from_config(config).eval()  # type: ignore[no-untyped-call]
    # What is longer is cut, and a batch has the length of its texts.
    tokens = sum(min(length, most) for length in lengths) / max(1, len(lengths))
    ids = torch.ones((BATCH, max(4, round(tokens))), dtype=torch.long)
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=ids)
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < MEASURED_S:
            model(input_ids=ids, attention_mask=ids)
            done += BATCH
        seconds = (time.perf_counter() - started) / done
    return Pace(seconds, parameter_count(model))
