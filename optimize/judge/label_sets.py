"""Answers as ids of one kind, whether a text has one label or several.

Where a text may have several labels, each set of labels that a text has, or a variant answers, gets
an id of its own. So accuracy is that of whole sets, agreement and confusion are of sets, and what
compares answers does not know the difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

NO_LABEL = "(none)"


class LabelSets:
    """The sets that occur, in the order in which they were first seen.

    Args:
        classes: class names.
        several: whether a text may have several labels, or none; else ids are class ids.
    """

    def __init__(self, classes: Sequence[str], *, several: bool) -> None:
        self.classes = tuple(classes)
        self.several = several
        self._ids: dict[tuple[int, ...], int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each id."""
        if not self.several:
            return self.classes
        return tuple(
            " + ".join(sorted(self.classes[label] for label in members)) or NO_LABEL
            for members in self._ids
        )

    @property
    def members(self) -> tuple[tuple[int, ...], ...] | None:
        """The class ids in each set; ``None`` where a text has one label."""
        return tuple(self._ids) if self.several else None

    def ids(self, answers: Iterable[int | Sequence[int]]) -> tuple[int, ...]:
        """Ids of answers: class ids, or lists of them."""
        found = []
        for answer in answers:
            if isinstance(answer, int):
                found.append(answer)
            else:
                found.append(self._ids.setdefault(tuple(sorted(set(answer))), len(self._ids)))
        return tuple(found)

    def of_names(self, rows: Iterable[Iterable[str]]) -> tuple[int, ...]:
        """Ids of rows of class names; of one each, where a text has one label."""
        position = {name: place for place, name in enumerate(self.classes)}
        answers = [[position[name] for name in row] for row in rows]
        return self.ids(answers if self.several else [label for (label,) in answers])


def numbered_as(
    ids: Sequence[int], report_names: Sequence[str], names: list[str]
) -> tuple[int, ...]:
    """Ids of one report as those of another: each run numbers the sets as it meets them.

    Args:
        ids: of labels, or of sets of them.
        report_names: their names in the report that they are of.
        names: of the other report; those that it lacks are added.
    """
    places = {name: place for place, name in enumerate(names)}
    for name in report_names:
        if name not in places:
            places[name] = len(names)
            names.append(name)
    return tuple(places[report_names[each]] for each in ids)


def rows_without(
    ids: NDArray[np.int64],
    lacks: Collection[str],
    classes: Sequence[str],
    members: Sequence[Sequence[int]] | None,
) -> NDArray[np.int64]:
    """Rows of the texts that have none of some labels, ascending.

    Args:
        ids: true labels, shape (texts,), or sets of them.
        lacks: names of the labels.
        classes: class names.
        members: class ids in each set, where ids are of sets.
    """
    bad = {place for place, name in enumerate(classes) if name in lacks}
    if members is not None:
        bad = {place for place, labels in enumerate(members) if bad.intersection(labels)}
    return np.flatnonzero(~np.isin(ids, sorted(bad)))


def indicators(
    ids: Sequence[int] | NDArray[np.int64], members: Sequence[Sequence[int]], classes: int
) -> NDArray[np.bool_]:
    """Whether each answer has each label, shape (texts, classes).

    Args:
        ids: of sets, shape (texts,).
        members: class ids in each set.
        classes: how many there are.
    """
    table = np.zeros((max(1, len(members)), classes), dtype=bool)
    for place, labels in enumerate(members):
        table[place, list(labels)] = True
    return table[np.asarray(ids, dtype=np.int64)]
