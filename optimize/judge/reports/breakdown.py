"""What a report's answers say beyond one accuracy: by label, confusion, text and confidence."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optimize.judge.label_sets import NO_LABEL
from optimize.judge.records import Predictions, Report

Ids = NDArray[np.int64]
BINS = 10


class LabelScore(NamedTuple):
    """How right two variants are on the texts of one label.

    Attributes:
        label: its name.
        texts: how many there are.
        reference: share that the reference has right.
        candidate: share that the candidate has right.
        examples: texts that the candidate has wrong, with what it said, the surest first.
        given_wrongly: texts that the candidate gives the label and that have it not.
        reference_wrongly: the same of the reference.
    """

    label: str
    texts: int
    reference: float
    candidate: float
    examples: tuple[tuple[str, str], ...]
    given_wrongly: int = 0
    reference_wrongly: int = 0


class Confusion(NamedTuple):
    """A label taken for another one, by how many texts of each variant."""

    truth: str
    answered: str
    candidate: int
    reference: int


class ChangedText(NamedTuple):
    """A text to which the variants give different labels.

    Attributes:
        text: as it is.
        truth: the right label.
        answers: each variant's label, in the order of the variants.
        lost: the reference was right, and the candidate is not.
    """

    text: str
    truth: str
    answers: tuple[str, ...]
    lost: bool


class Reliability(NamedTuple):
    """One bin of confidence: its mean, the share that is right, and how many texts."""

    confidence: float
    right: float
    texts: int


class Pair(NamedTuple):
    """The variant that one ships and what it is held against, with their answers."""

    reference: str
    candidate: str


def pair_of(report: Report) -> Pair | None:
    """The gate on accuracy says who is held against whom; else the tables' reference does."""
    answered = report.predictions.get(report.split, {})
    for gate in report.gates:
        if gate.kind == "accuracy" and gate.reference in answered and gate.candidate in answered:
            return Pair(str(gate.reference), gate.candidate)
    regression = report.settings.get("regression", {})
    candidate = regression.get("candidate") if isinstance(regression, dict) else None
    if report.comparisons is None or candidate not in answered:
        return None
    reference = report.comparisons.reference
    return Pair(reference, candidate) if reference in answered and reference != candidate else None


def by_label(report: Report, pair: Pair, examples: int = 3) -> list[LabelScore]:
    """Every label that a text has, where the candidate is worst first.

    Where a text has several, a label is right where it is among those that the text is given; to
    have none is one more label.
    """
    answers = report.predictions[report.split]
    truth = np.asarray(report.labels)
    ours, theirs = _ids(answers[pair.candidate]), _ids(answers[pair.reference])
    sure = np.asarray(answers[pair.candidate].confidences)
    found = []
    for name, ids in _ids_by_label(report, np.unique(truth)).items():
        has = np.isin(truth, ids)
        rows = np.flatnonzero(has)
        right = np.isin(ours[rows], ids)
        wrong = rows[~right]
        shown = wrong[np.argsort(-sure[wrong], kind="stable")][:examples]
        found.append(
            LabelScore(
                name,
                len(rows),
                float(np.isin(theirs[rows], ids).mean()),
                float(right.mean()),
                tuple((_text(report, row), _name(report, ours[row])) for row in shown),
                int((np.isin(ours, ids) & ~has).sum()),
                int((np.isin(theirs, ids) & ~has).sum()),
            )
        )
    return sorted(found, key=lambda each: (each.candidate, each.label))


def _ids_by_label(report: Report, present: NDArray[np.int64]) -> dict[str, list[int]]:
    """The ids of answers that hold a label: its own, or those of the sets that it is in."""
    if report.label_sets is None:
        return {_name(report, label): [int(label)] for label in present}
    held = {label for each in present for label in report.label_sets[each]}
    found = {
        report.class_names[label]: [
            number for number, members in enumerate(report.label_sets) if label in members
        ]
        for label in sorted(held)
    }
    if none := [int(number) for number in present if not report.label_sets[number]]:
        found[NO_LABEL] = none
    return found


def confusions(report: Report, pair: Pair, most: int = 12) -> list[Confusion]:
    """What the candidate confuses more often than the reference does, the most often first."""
    answers = report.predictions[report.split]
    ours, theirs = (
        Counter(zip(report.labels, answers[name].labels, strict=True))
        for name in (pair.candidate, pair.reference)
    )
    more = [
        Confusion(_name(report, truth), _name(report, said), count, theirs[truth, said])
        for (truth, said), count in ours.items()
        if truth != said and count > theirs[truth, said]
    ]
    return sorted(more, key=lambda each: (each.reference - each.candidate, each.truth))[:most]


def changed_texts(
    report: Report, names: tuple[str, ...], pair: Pair, most: int
) -> tuple[list[ChangedText], int]:
    """Texts that not all variants give one label, those lost first; and how many there are."""
    answers = report.predictions[report.split]
    table = np.stack([_ids(answers[name]) for name in names])
    truth = np.asarray(report.labels)
    rows = np.flatnonzero((table != table[0]).any(axis=0))
    ours, theirs = _ids(answers[pair.candidate]), _ids(answers[pair.reference])
    lost = (theirs == truth) & (ours != truth)
    order = rows[np.argsort(~lost[rows], kind="stable")]
    found = [
        ChangedText(
            _text(report, row),
            _name(report, truth[row]),
            tuple(_name(report, each) for each in table[:, row]),
            bool(lost[row]),
        )
        for row in order[:most]
    ]
    return found, len(rows)


def reliability(report: Report, variant: str) -> list[Reliability]:
    """Bins of equal width that hold a text (Guo et al. 2017, section 2)."""
    answers = report.predictions[report.split][variant]
    sure = np.asarray(answers.confidences)
    right = _ids(answers) == np.asarray(report.labels)
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    return [
        Reliability(
            float(sure[places == place].mean()),
            float(right[places == place].mean()),
            int((places == place).sum()),
        )
        for place in range(BINS)
        if (places == place).any()
    ]


def answered_variants(report: Report) -> tuple[str, ...]:
    """Variants whose answers there are, in the table's order."""
    answered = report.predictions.get(report.split, {})
    return tuple(name for name in report.variants if name in answered)


def _ids(answers: Predictions) -> Ids:
    return np.asarray(answers.labels, dtype=np.int64)


def _text(report: Report, row: int) -> str:
    return report.texts[row] if report.texts else f"row {row}"


def _name(report: Report, label: int) -> str:
    """The label's name, which reports of earlier schemas do not have."""
    return report.label_names[label] if label < len(report.label_names) else f"label {label}"
