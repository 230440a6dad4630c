"""What each technique is worth: a student a line and seed, scored on the validation split.

    python -m optimize.experiments.ablation results/ablation.toml [--set KEY=VALUE] [--seeds 0 1]

The file names a recipe, what all lines ``set``, and under ``[lines]`` what each sets beyond that;
the first is what the others are compared with. A line that sets ``distill.control=true`` is the
student without a teacher. Students come from the stage cache, so that a table that was interrupted
goes on, and two processes with a seed each can fill it together. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from optimize import settings as settings_module
from optimize.pipeline.runner import Build, Runner
from optimize.settings.judging import UNDISTILLED
from optimize.training.predict import logits_of
from optimize.workspace import Tell


class Plan(BaseModel):
    """The file.

    Attributes:
        recipe: shipped recipe or TOML file that all lines start from.
        set: assignments of all lines.
        lines: further assignments by the name of a line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    set: tuple[str, ...] = ()
    lines: dict[str, tuple[str, ...]] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan in a TOML file."""
        text = path.read_text(encoding="utf-8")
        return cls.model_validate(settings_module.toml_table(text, str(path)))


class Score(NamedTuple):
    """Shares of validation texts that are answered right, as trained, before calibration."""

    accuracy: float
    in_scope: float
    out_of_scope: float


def score(plan: Plan, line: str, seed: int, overrides: Sequence[str], tell: Tell) -> Score:
    """Train a line's student, or find it, and score it.

    Args:
        plan: what the lines set.
        line: one of them.
        seed: of the student, and of the variations that it learns from.
        overrides: assignments that the machine needs, such as where data lies.
        tell: told a line at a time.
    """
    assignments = (*plan.set, *overrides, *plan.lines[line], f"distill.seed={seed}")
    chosen, _ = settings_module.load(plan.recipe, None, assignments)
    built = Build(chosen, Runner(tell))
    if built.splits.training.multi_label:
        raise ValueError("an ablation counts right answers: give a recipe of one label a text")
    folder = built.folder(UNDISTILLED if chosen.distill.control else "student")
    validation = built.splits.validation
    right = logits_of(folder, validation.texts).argmax(axis=1) == validation.labels
    outside = np.zeros(len(right), dtype=bool)
    if chosen.data.out_of_scope_label is not None:
        label = built.splits.label_names.index(chosen.data.out_of_scope_label)
        outside = validation.labels == label
    return Score(
        float(right.mean()),
        float(right[~outside].mean()),
        float(right[outside].mean()) if outside.any() else float("nan"),
    )


def table(found: dict[str, list[Score]], seeds: Sequence[int]) -> str:
    """The scores in Markdown, each line's gain over the first's."""
    base = np.mean(next(iter(found.values())), axis=0)
    each = " | ".join(f"seed {seed}" for seed in seeds)
    rows = [
        f"| | {each} | mean | gain, pp | in scope | out-of-scope recall |",
        "| --- |" + " --- |" * (len(seeds) + 4),
    ]
    for line, scores in found.items():
        mean = Score(*np.mean(scores, axis=0))
        own = " | ".join(f"{100 * score.accuracy:.2f}" for score in scores)
        gain = f"{100 * (mean.accuracy - base[0]):+.2f}" if len(rows) > 2 else ""
        rows.append(
            f"| {line} | {own} | {100 * mean.accuracy:.2f} | {gain} | "
            f"{100 * mean.in_scope:.2f} | {100 * mean.out_of_scope:.1f} |"
        )
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of all lines."""
    parser = argparse.ArgumentParser(description="What each technique is worth.")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args(argv)
    plan = Plan.read(arguments.plan)
    found: dict[str, list[Score]] = {}
    for line in plan.lines:

        def tell(text: str, line: str = line) -> None:
            sys.stderr.write(f"{line}: {text}\n")

        found[line] = [
            score(plan, line, seed, arguments.overrides, tell) for seed in arguments.seeds
        ]
        tell(" ".join(f"{each.accuracy:.4f}" for each in found[line]))
    sys.stdout.write(table(found, arguments.seeds) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
