"""A transfer set without a network: variations of the training texts for the teacher to score.

A student learns from what the teacher says of a text, not from whether the text makes sense
(Jiao et al. 2020, "TinyBERT", section 3.2), so crude edits will do: they carry no label.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

DROP_SHARE = 0.2


def augmented(texts: Sequence[str], labels: Sequence[int], copies: int, seed: int) -> list[str]:
    """Variations of every text, without labels.

    In turn: words dropped; two neighbouring words swapped; the head of the text joined to the
    tail of another one of its class; the same with a text of any class, which lies between two.

    Args:
        texts: training texts.
        labels: their class ids.
        copies: variations per text.
        seed: same texts, copies and seed, same result.

    Returns:
        ``copies`` texts per text, less those that repeat a text.
    """
    rng = random.Random(seed)
    by_label: dict[int, list[str]] = {}
    for text, label in zip(texts, labels, strict=True):
        by_label.setdefault(int(label), []).append(text)
    made: dict[str, None] = {}  # a set that keeps its order
    for row, (text, label) in enumerate(zip(texts, labels, strict=True)):
        for copy in range(copies):
            kind = (row + copy) % 4  # all four are used, however few copies are asked for
            if kind == 0:
                made[_dropped(text, rng)] = None
            elif kind == 1:
                made[_swapped(text, rng)] = None
            else:
                others = by_label[int(label)] if kind == 2 else texts
                made[_crossed(text, rng.choice(others), rng)] = None
    known = set(texts)
    return [text for text in made if text not in known]


def _dropped(text: str, rng: random.Random) -> str:
    words = text.split()
    kept = [word for word in words if rng.random() >= DROP_SHARE]
    return " ".join(kept or [rng.choice(words)])


def _swapped(text: str, rng: random.Random) -> str:
    words = text.split()
    if len(words) > 1:
        place = rng.randrange(len(words) - 1)
        words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


def _crossed(head: str, tail: str, rng: random.Random) -> str:
    first, second = head.split(), tail.split()
    cut = rng.randint(1, len(first))
    return " ".join([*first[:cut], *second[rng.randrange(len(second)) :]])
