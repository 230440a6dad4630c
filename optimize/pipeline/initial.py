"""A first recipe for data and a checkpoint that one has, with what was seen beside each line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimize.data.columns import Columns, guess, split_of, table_of
from optimize.data.form import form_of
from optimize.data.load import load
from optimize.data.splits import DataError, Splits
from optimize.data.tables import SUFFIXES
from optimize.judge.statistics.proportions import (
    examples_needed,
    examples_without_disagreement,
)
from optimize.models.checkpoint import load_config, load_tokenizer
from optimize.models.encoder import StudentError
from optimize.models.fit import check_fit, token_lengths
from optimize.pipeline.cost import Cost, Pace, cost_of, measured_pace
from optimize.problems import MULTI_LABEL
from optimize.settings.load import parse, toml_table, with_base
from optimize.settings.recipe import Settings

# Lines of TOML, each with what was seen.
Lines = list[tuple[str, str]]
BASE = "sample"
VALIDATION_SHARE, TEST_SHARE = 0.1, 0.2
OUT_OF_SCOPE = ("oos", "out_of_scope", "out-of-scope", "out of scope", "none", "other", "unknown")
MARGINS_PP = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0)
# Share of texts that teacher and student are taken to answer unlike, for the margin.
DISCORDANT = 0.05
LONGEST_SHARE = 99
VARIATIONS = (32, 16, 8, 4, 2, 1, 0)


@dataclass(frozen=True)
class Initial:
    """A recipe as text, and what it was made of.

    Attributes:
        text: TOML with comments.
        settings: the same, parsed.
        splits: the data.
        cost: of a build.
    """

    text: str
    settings: Settings
    splits: Splits
    cost: Cost


def initial_recipe(source: str, checkpoint: str | None, minutes: float) -> Initial:
    """Look at data and checkpoint, and write a recipe for them.

    Args:
        source: a file or folder of data.
        checkpoint: as in ``[teacher]``; the base recipe's when absent.
        minutes: of a build, which say how many variations of each text there are.

    Raises:
        DataError: the data cannot be used, or its columns not be told.
        CheckpointError: the checkpoint cannot be used.
    """
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"{source} does not exist; give a file or folder of texts with labels. For data on the "
            f'Hub write a recipe with data.source = "{source}" by hand'
        )
    form = form_of(path)
    if form not in SUFFIXES.values():
        raise DataError(
            f"{source} is read as {form}, whose columns have names of their own; write a recipe "
            f'with data.source = "{source}" by hand, and ask `optimize check`'
        )
    data = _data_lines(path, form)
    recipe = {"data": toml_table("\n".join(line for line, _ in data), "data")}
    if checkpoint is not None:
        recipe["teacher"] = {"checkpoint": checkpoint}
    settings = parse(with_base(recipe, BASE), "the first recipe")
    splits = load(settings.data)
    settings = _fitted(settings)
    tokenizer = load_tokenizer(settings.teacher.checkpoint, settings.teacher.revision)
    lengths = np.array(token_lengths(tokenizer, splits.train.texts, pairs=splits.pairs))
    longest = _longest(settings, lengths)
    settings, cost = _within(
        settings, splits, measured_pace(settings, lengths.tolist(), longest), minutes
    )
    if not splits.training.multi_label and (label := _out_of_scope(splits)):
        data.append((f"out_of_scope_label = {_quoted(label)}", "means none of the others"))
    text = "\n".join(_toml({"data": data, **_tables(settings, splits, lengths, longest, cost)}))
    whole = parse(with_base(toml_table(text, "the first recipe"), BASE), "the first recipe")
    return Initial(text, whole, splits, cost)


def _fitted(settings: Settings) -> Settings:
    """The same with as many layers for the student as the teacher can give."""
    teacher, student = settings.teacher, settings.student
    for layers in (student.layers, 2, 1, None):
        try:
            check_fit(
                teacher.checkpoint,
                teacher.revision,
                3,
                fine_tuned=False,
                layers=layers,
                problem_type=settings.data.problem_type,
            )
        except StudentError:
            continue
        return settings.model_copy(
            update={"student": student.model_copy(update={"layers": layers})}
        )
    return settings


def _longest(settings: Settings, lengths: NDArray[np.int64]) -> int:
    """Tokens that most texts have at most, and that the checkpoint has positions for."""
    longest = 8 * math.ceil(np.percentile(lengths, LONGEST_SHARE) / 8)
    config = load_config(settings.teacher.checkpoint, settings.teacher.revision)
    # Two are for the special tokens, or lie before the first token's.
    return min(longest, getattr(config, "max_position_embeddings", longest + 2) - 2)


def _tables(
    settings: Settings, splits: Splits, lengths: NDArray[np.int64], longest: int, cost: Cost
) -> dict[str, Lines]:
    """All but ``[data]``."""
    teacher, layers = settings.teacher, settings.student.layers
    return {
        "teacher": [
            (
                f"checkpoint = {_quoted(teacher.checkpoint)}",
                "set fine_tune = false where it has learned your labels already",
            ),
            (
                f"max_length = {longest}",
                f"{LONGEST_SHARE} of 100 training texts have at most so many tokens, the longest "
                f"has {lengths.max():,}",
            ),
        ],
        "student": [
            (f"layers = {_quoted('all') if layers is None else layers}", "fewer are faster")
        ],
        "distill": [
            (
                f"augment = {settings.distill.augment}",
                f"variations of each text that the teacher answers: about {cost.whole_minutes} "
                "for a build here",
            ),
        ],
        **_gate_tables(settings, splits),
    }


def _gate_tables(settings: Settings, splits: Splits) -> dict[str, Lines]:
    """The margins of accuracy gates, as small as the test texts can decide."""
    tests = len(splits.test)
    why = f"what {tests:,} test texts can decide; more texts decide less"
    tables = {"gates.accuracy-vs-teacher": [(f"max_drop_pp = {_margin(tests):g}", why)]}
    # That INT8 answers as fp32 does takes the fewest texts, and may still have too few.
    inherited = settings.gates["accuracy-vs-fp32"].limit(None, "")
    if examples_without_disagreement(inherited / 100) > tests:
        enough = [each for each in MARGINS_PP if examples_without_disagreement(each / 100) <= tests]
        margin = min(enough, default=MARGINS_PP[-1])
        tables["gates.accuracy-vs-fp32"] = [(f"max_drop_pp = {margin:g}", why)]
    return tables


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _toml(tables: dict[str, Lines]) -> Iterator[str]:
    yield f'extends = "{BASE}"   # its gates and training; `optimize check` says what comes of it'
    for name, lines in tables.items():
        yield f"\n[{name}]"
        for line, comment in lines:
            yield f"{line}   # {comment}" if comment else line
    yield ""


def _data_lines(path: Path, form: str) -> Lines:
    """Lines of ``[data]``, each with why."""
    lines = [(f"source = {_quoted(str(path))}", f"read as {form}")]
    if path.is_dir():
        files = _files(path, form)
        columns = guess(table_of(files["train"], form), files["train"].name)
        lines += _column_lines(columns)
        return lines + _split_lines({split: file.name for split, file in files.items()})
    columns = guess(table_of(path, form), path.name)
    lines += _column_lines(columns)
    if columns.split is None or columns.splits is None:
        return lines + _split_lines({"train": ""})
    if columns.split != "split":
        lines.append((f"split_column = {_quoted(columns.split)}", ""))
    return lines + _split_lines(dict(columns.splits))


def _column_lines(columns: Columns) -> Lines:
    lines = [(f"text_column = {_quoted(columns.text)}", "guessed: see that it is")]
    if columns.pair is not None:
        second = f"text_pair_column = {_quoted(columns.pair)}"
        lines.append((second, "guessed: leave it out where the first column is enough"))
    lines.append((f"label_column = {_quoted(columns.label)}", "guessed: see that it is"))
    if columns.several:
        lines.append((f"problem_type = {_quoted(MULTI_LABEL)}", "its labels are lists"))
    return lines


def _split_lines(names: dict[str, str]) -> Lines:
    lines = []
    shares = {"validation": VALIDATION_SHARE, "test": TEST_SHARE}
    for split in ("train", "validation", "test"):
        if names.get(split):
            lines.append((f"{split} = {_quoted(names[split])}", ""))
        elif split in shares:
            lines.append((f"{split} = {shares[split]}", "a share of the training rows"))
    return lines


def _files(folder: Path, form: str) -> dict[str, Path]:
    suffix = next(suffix for suffix, name in SUFFIXES.items() if name == form)
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(f"*{suffix}")):
        split = split_of(path.stem)
        if split is not None:
            found.setdefault(split, path)
    if "train" not in found:
        names = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise DataError(f"{folder} has no file of training rows, as train{suffix} (there: {names})")
    return found


def _out_of_scope(splits: Splits) -> str | None:
    return next((name for name in splits.label_names if name.casefold() in OUT_OF_SCOPE), None)


def _within(
    settings: Settings, splits: Splits, pace: Pace, minutes: float
) -> tuple[Settings, Cost]:
    """The same with as many variations of each text as the minutes allow."""
    for count in VARIATIONS:
        distill = settings.distill.model_copy(update={"augment": count})
        tried = settings.model_copy(update={"distill": distill})
        cost = cost_of(tried, splits, pace)
        if cost.minutes <= minutes:
            break
    return tried, cost


def _margin(tests: int) -> float:
    """The smallest margin that so many texts decide where nothing was lost."""
    for margin in MARGINS_PP:
        needed = examples_needed(margin / 100, DISCORDANT)
        if needed is not None and needed <= tests:
            return margin
    return MARGINS_PP[-1]
