"""A transfer set without a network: variations of the training texts for the teacher to score.

A student learns from what the teacher says of a text, not from whether the text makes sense
(Jiao et al. 2020, "TinyBERT", section 3.2), so crude edits will do: they carry no label.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from optimize.bundle.texts import PAIR_MARK, joined, parted
from optimize.settings.training import AugmentKind

Label = int | Sequence[int]
DROP_SHARE = 0.2
REPLACE_SHARE = 0.3


def augmented(
    texts: Sequence[str],
    labels: Sequence[Label],
    copies: int,
    seed: int,
    kinds: Sequence[AugmentKind] = ("drop", "swap", "within", "across"),
    replacements: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Variations of every text, without labels.

    ``drop`` leaves out words; ``swap`` swaps two neighbours; ``within`` joins the head of the text
    to the tail of another one of its class; ``across`` to that of any text, which lies between two
    classes or outside all; ``replace`` puts words in the place of others that mean nearly the same.
    Of a pair both texts are edited, and it is joined by taking its second text from the other one.

    Args:
        texts: training texts.
        labels: their class ids, or lists of whether they have each label.
        copies: variations per text.
        seed: same texts, copies and seed, same result.
        kinds: of variation, taken in turn.
        replacements: for ``replace``: by word, those that can stand in its place.

    Returns:
        ``copies`` texts per text, less those that repeat a text.

    Raises:
        ValueError: ``replace`` without replacements.
    """
    if "replace" in kinds and copies and replacements is None:
        raise ValueError("variations of the kind 'replace' need replacements")
    rng = random.Random(seed)
    by_label: dict[str, list[str]] = {}
    for text, label in zip(texts, labels, strict=True):
        by_label.setdefault(str(label), []).append(text)
    made: dict[str, None] = {}  # a set that keeps its order
    for row, (text, label) in enumerate(zip(texts, labels, strict=True)):
        for copy in range(copies):
            kind = kinds[(row + copy) % len(kinds)]  # all are used, however few are asked for
            if kind == "drop":
                made[by_part(text, lambda part: _dropped(part, rng))] = None
            elif kind == "swap":
                made[by_part(text, lambda part: _swapped(part, rng))] = None
            elif kind == "replace":
                made[by_part(text, lambda part: _replaced(part, replacements or {}, rng))] = None
            else:
                others = by_label[str(label)] if kind == "within" else texts
                made[_crossed(text, rng.choice(others), rng)] = None
    known = set(texts)
    return [text for text in made if text not in known]


def by_part(text: str, edit: Callable[[str], str]) -> str:
    """A text edited; of a pair, each of the two."""
    parts = text.split(PAIR_MARK)
    if not all(part.strip() for part in parts):
        return edit(text)  # no pair: a text that holds the character
    return PAIR_MARK.join(map(edit, parts))


def _replaced(text: str, replacements: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    words = text.split()
    for place, word in enumerate(words):
        near = replacements.get(word.casefold())
        if near and rng.random() < REPLACE_SHARE:
            words[place] = rng.choice(near)
    return " ".join(words)


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
    if head.count(PAIR_MARK) == tail.count(PAIR_MARK) == 1 and head.strip() and tail.strip():
        return joined(parted(head)[0], parted(tail)[1])
    first, second = head.split(), tail.split()
    cut = rng.randint(1, len(first))
    return " ".join([*first[:cut], *second[rng.randrange(len(second)) :]])
