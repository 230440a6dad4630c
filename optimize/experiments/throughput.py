"""Training throughput of the distillation stage against the way it is usually done, in turn.

    python -m optimize.experiments.throughput --recipe clinc-full [--set KEY=VALUE]

The usual way runs the teacher in every step, in fp32, on random batches of 48 padded to their
longest, once with gradients on, as where nobody turned them off, and once without. Ours learns from
the stored answers of the teacher, in batches by length. Rounds of the three alternate, so that a
machine that slows down slows all of them; the figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from optimize import settings as settings_module
from optimize.data.transfer_set import TransferSet
from optimize.distill.losses import distillation_loss
from optimize.distill.student import Learning, make_student, student_training_set
from optimize.distill.trainer import DistillationTrainer
from optimize.models import checkpoint
from optimize.pipeline.runner import Build, Runner
from optimize.training.evaluation import PaddingCollator
from optimize.training.run import Run
from optimize.training.tokens import Tokens, tokenise

USUAL_BATCH = 48
Round = Callable[[], float]


class UsualWay:
    """Student and teacher in every step.

    Args:
        built: gives teacher, student and texts.
        work: folder for tokens.
        gradients: whether the teacher's pass records them.
        steps: of a round.
    """

    def __init__(self, built: Build, work: Path, *, gradients: bool, steps: int) -> None:
        settings = built.settings
        teacher = str(built.folder("teacher"))
        length = settings.teacher.max_length
        if built.splits.pairs or built.splits.training.multi_label:
            raise ValueError("give a recipe of single texts with one label each")
        names, seed = built.splits.label_names, settings.distill.seed
        self._teacher = checkpoint.load_classifier(teacher)
        self._student, tokenizer = make_student(settings.student, teacher, names, seed)
        train = built.splits.train
        own = checkpoint.load_tokenizer(teacher)
        self._theirs: Tokens = tokenise(train.texts, own, length, work / "teacher")
        self._ours: Tokens = tokenise(train.texts, tokenizer, length, work / "student")
        self._labels = torch.from_numpy(train.labels)
        self._gradients, self._steps, self._settings = gradients, steps, settings.distill
        self._optimizer = torch.optim.AdamW(self._student.parameters(), lr=2e-5)
        self._rng = np.random.default_rng(0)

    def __call__(self) -> float:
        """Examples a second over one round."""
        self._student.train()
        self._teacher.eval()
        started = time.perf_counter()
        for _ in range(self._steps):
            rows = self._rng.integers(len(self._labels), size=USUAL_BATCH)
            ours = self._student(**self._ours.batch(rows)).logits
            with torch.set_grad_enabled(self._gradients):
                theirs = self._teacher(**self._theirs.batch(rows)).logits
            settings = self._settings
            loss = distillation_loss(
                ours, theirs, self._labels[rows], settings.temperature, settings.alpha
            )
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
            self._teacher.zero_grad()
        return self._steps * USUAL_BATCH / (time.perf_counter() - started)


class OurWay:
    """The distillation stage itself, for some of its steps.

    Args:
        built: gives student, texts and the teacher's answers.
        work: folder for tokens.
        steps: of a round.
    """

    def __init__(self, built: Build, work: Path, steps: int) -> None:
        self._built, self._steps, self._work = built, steps, work
        self._texts, self._store = built.folder("transfer-set"), built.folder("teacher-outputs")

    def __call__(self) -> float:
        """Examples a second over one round, from the first step to the last."""
        built, settings = self._built, self._built.settings
        names, seed = built.splits.label_names, settings.distill.seed
        student = make_student(settings.student, str(built.folder("teacher")), names, seed)
        clock = _Clock()
        run = Run(self._work / "run", lambda line: None, watch=(clock,))
        learning = Learning(settings.student, settings.distill, settings.teacher.max_length)
        texts, train = TransferSet(self._texts), built.splits.train
        training_set = student_training_set(student[1], train, texts, self._store, learning, run)
        trainer = DistillationTrainer(
            settings=settings.distill,
            training_set=training_set,
            run=run,
            model=student[0],
            data_collator=PaddingCollator(student[1]),
            eval_dataset=[],  # none: only training is looked at
            callbacks=[clock],
        )
        trainer.args.max_steps = self._steps
        trainer.args.eval_strategy = trainer.args.save_strategy = "no"
        trainer.args.load_best_model_at_end = False
        trainer.fit()
        share = self._steps / len(trainer.get_train_dataloader())
        return share * len(training_set.tokens) / clock.seconds


class _Clock(TrainerCallback):
    """Seconds from the first step's start to the last step's end."""

    def __init__(self) -> None:
        self._started = 0.0
        self.seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self._started


def main(argv: Sequence[str] | None = None) -> int:
    """Print the three rates and their ratios."""
    parser = argparse.ArgumentParser(description="Throughput of distillation, in turn.")
    parser.add_argument("--recipe", default="clinc-full")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="of a round of ours; theirs 4")
    arguments = parser.parse_args(argv)
    chosen, _ = settings_module.load(arguments.recipe, Path.cwd(), arguments.overrides)
    built = Build(chosen, Runner(lambda line: None))
    with TemporaryDirectory() as folder:
        work = Path(folder)
        ways: dict[str, Round] = {
            "teacher in every step, gradients on": UsualWay(
                built, work / "on", gradients=True, steps=4
            ),
            "teacher in every step, no gradients": UsualWay(
                built, work / "off", gradients=False, steps=4
            ),
            "this package": OurWay(built, work / "ours", arguments.steps),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way()  # warms up
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                rates[name].append(way())
    ours = rates["this package"]
    for name, values in rates.items():
        ratio = statistics.median(o / v for o, v in zip(ours, values, strict=True))
        sys.stdout.write(f"{statistics.median(values):8.1f} examples/s  {ratio:6.1f}×  {name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
