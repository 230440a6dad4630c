"""Scores of one variant, and paired counts of two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.texts import shown
from optimize.judge.kit import Examples
from optimize.judge.label_sets import indicators
from optimize.judge.records import LabelChange, Predictions, Scores, Span
from optimize.judge.statistics.label_f1 import (
    macro_f1_of_sets,
    macro_f1_sets_interval,
    micro_f1,
    micro_f1_interval,
)
from optimize.judge.statistics.proportions import (
    expected_calibration_error,
    macro_f1,
    macro_f1_interval,
    wilson_interval,
)


class PairedCounts(NamedTuple):
    """What two variants answer to the same examples.

    Attributes:
        worse: the reference is right and the candidate wrong (b).
        better: the reverse (c).
        agreeing: both give the same label.
        examples: n.
    """

    worse: int
    better: int
    agreeing: int
    examples: int

    @property
    def drop(self) -> float:
        """(b − c)/n as a share."""
        return (self.worse - self.better) / self.examples


def score(
    predictions: Predictions,
    examples: Examples,
    classes: int,
    out_of_scope: int | None = None,
    members: Sequence[Sequence[int]] | None = None,
) -> Scores:
    """Accuracy, F1 and calibration, with intervals; recall of the out-of-scope class if named.

    Args:
        predictions: a variant's answers.
        examples: the texts, with their labels.
        classes: how many there are.
        out_of_scope: class id of that label, where there is one.
        members: class ids in each set that an id stands for, where a text may have several labels.
    """
    answers = np.asarray(predictions.labels, dtype=np.int64)
    right = answers == examples.labels
    correct, size = int(right.sum()), len(right)
    outside = examples.labels == (-1 if out_of_scope is None else out_of_scope)
    return Scores(
        examples=size,
        correct=correct,
        accuracy_interval=_span(wilson_interval(correct, size)),
        **_f1(examples.labels, answers, classes, members),
        calibration_error=expected_calibration_error(predictions.confidences, right),
        out_of_scope_recall=float(right[outside].mean()) if outside.any() else None,
    )


def _f1(
    truth: NDArray[np.int64],
    answers: NDArray[np.int64],
    classes: int,
    members: Sequence[Sequence[int]] | None,
) -> dict[str, Any]:
    if members is None:
        return {
            "macro_f1": macro_f1(truth, answers, classes),
            "macro_f1_interval": _span(macro_f1_interval(truth, answers, classes)),
        }
    has = indicators(truth, members, classes), indicators(answers, members, classes)
    return {
        "macro_f1": macro_f1_of_sets(*has),
        "macro_f1_interval": _span(macro_f1_sets_interval(*has)),
        "micro_f1": micro_f1(*has),
        "micro_f1_interval": _span(micro_f1_interval(*has)),
    }


def compare(
    reference: Predictions,
    candidate: Predictions,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64] | None = None,
) -> PairedCounts:
    """Paired counts over the same examples.

    Args:
        reference: its answers.
        candidate: the other's.
        labels: true class ids.
        rows: the examples that count; all when absent.

    Raises:
        ValueError: the two did not answer the same number of examples.
    """
    theirs, ours = np.asarray(reference.labels), np.asarray(candidate.labels)
    if not len(theirs) == len(ours) == len(labels):
        raise ValueError(
            f"{len(theirs)} answers of the reference, {len(ours)} of the candidate, "
            f"{len(labels)} labels: they must be of the same examples"
        )
    if rows is not None:
        theirs, ours, labels = theirs[rows], ours[rows], labels[rows]
    before, after = theirs == labels, ours == labels
    return PairedCounts(
        worse=int((before & ~after).sum()),
        better=int((~before & after).sum()),
        agreeing=int((theirs == ours).sum()),
        examples=len(labels),
    )


def distinct_rows(texts: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each text with its label; case and white space do not tell two apart.

    A text that is there twice says nothing new, and would make a gate surer than it is.
    """
    first: dict[tuple[str, int], int] = {}
    for row, (text, label) in enumerate(zip(texts, labels.tolist(), strict=True)):
        first.setdefault((" ".join(text.casefold().split()), label), row)
    return np.array(sorted(first.values()), dtype=np.int64)


def differing(first: Predictions, second: Predictions) -> tuple[int, ...]:
    """Rows to which two runs over the same texts give other labels."""
    pairs = zip(first.labels, second.labels, strict=True)
    return tuple(row for row, (one, other) in enumerate(pairs) if one != other)


def _counted(rows: Sequence[int], texts: NDArray[np.int64] | None) -> list[int]:
    counted = None if texts is None else set(texts.tolist())
    return [row for row in rows if counted is None or row in counted]


def changed_rows(
    before: Predictions,
    after: Predictions,
    by_batch: Iterable[Iterable[int]],
    texts: NDArray[np.int64] | None = None,
) -> tuple[list[int], int]:
    """The rows whose label changed, and how many more change by their batch alone.

    Under dynamic INT8 a text's label can hang on its neighbours in a batch; such rows say nothing.

    Args:
        before: answers of one run.
        after: answers of the other to the same texts.
        by_batch: rows whose label changes in batches, by run.
        texts: the rows that count; all when absent.
    """
    unstable = {row for rows in by_batch for row in rows}
    every = _counted(differing(before, after), texts)
    rows = [row for row in every if row not in unstable]
    return rows, len(every) - len(rows)


def label_changes(
    before: Predictions,
    after: Predictions,
    examples: Examples,
    names: Sequence[str],
    texts: NDArray[np.int64] | None = None,
) -> tuple[LabelChange, ...]:
    """The texts whose label changed, worst first.

    First those that were right, the most confident mistake on top; then those wrong in another
    way; last those that are right now.

    Args:
        before: answers of one run.
        after: answers of the other.
        examples: what both answered.
        names: of the labels.
        texts: the rows that count; all when absent.
    """
    changes = [
        LabelChange(
            text=shown(examples.texts[row]),
            truth=names[examples.labels[row]],
            before=names[before.labels[row]],
            after=names[after.labels[row]],
            before_confidence=before.confidences[row],
            after_confidence=after.confidences[row],
        )
        for row in _counted(differing(before, after), texts)
    ]
    return tuple(sorted(changes, key=_badness))


def _badness(change: LabelChange) -> tuple[int, float]:
    if change.before == change.truth:
        return 0, -change.after_confidence
    if change.after != change.truth:
        return 1, -change.after_confidence
    return 2, -change.after_confidence


def _span(interval: tuple[float, float]) -> Span:
    return Span(low=interval[0], high=interval[1])
