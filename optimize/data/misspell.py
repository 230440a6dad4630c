"""Texts with the slips of a keyboard, which change how a text is written and not what it means.

So the teacher's answer to the text as it was holds for the misspelt one too, and is learned for
it: the tokenizer tears a misspelt word apart, and the student learns to read over it. The slips are
near those of Pruthi et al. 2019, "Combating Adversarial Misspellings with Robust Word Recognition",
section 3: a letter swapped with the next, left out, doubled, or its neighbour on the keyboard.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from optimize.data.augment import by_part

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# Shorter words are often misread as others.
SHORTEST = 4
SECOND_SHARE = 0.4  # of texts get a second slip


def misspelt(text: str, rng: random.Random) -> str:
    """The text with one or two slips; as it is where no word has :data:`SHORTEST` letters.

    Args:
        text: its words are parted by white space; those with a digit stay, since another number
            means something else.
        rng: chooses words, places and kinds.
    """
    words = text.split()
    long = [
        place
        for place, word in enumerate(words)
        if len(word) >= SHORTEST and not any(map(str.isdigit, word))
    ]
    if not long:
        return text
    for _ in range(1 + (rng.random() < SECOND_SHARE)):
        place = rng.choice(long)
        words[place] = _slipped(words[place], rng)
    return " ".join(words)


def misspelt_copies(texts: Iterable[str], copies: int, seed: int) -> Iterator[str]:
    """Each text misspelt so many times, all of them once before any comes again.

    Args:
        texts: in the order of the copies.
        copies: of each.
        seed: same texts and seed, same copies.
    """
    rng = random.Random(seed)
    texts = list(texts)
    for _ in range(copies):
        for text in texts:
            yield by_part(text, lambda part: misspelt(part, rng))


def _slipped(word: str, rng: random.Random) -> str:
    """One slip behind the first letter, which is seldom the wrong one."""
    place = rng.randrange(1, len(word) - 1)
    before, letter, after = word[:place], word[place], word[place + 1 :]
    kind = rng.choice(("swap", "drop", "double", "neighbour"))
    if kind == "swap":
        return before + after[0] + letter + after[1:]
    if kind == "drop":
        return before + after
    if kind == "double":
        return before + letter + letter + after
    return before + _neighbour(letter, rng) + after


def _neighbour(letter: str, rng: random.Random) -> str:
    """A key to the left or right of a letter; as it is where it is none."""
    for row in ROWS:
        place = row.find(letter)
        if place >= 0:
            near = [row[next_to] for next_to in (place - 1, place + 1) if 0 <= next_to < len(row)]
            return rng.choice(near)
    return letter
