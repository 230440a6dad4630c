"""What a bundle takes for a text, and for a pair of texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SURROGATE = re.compile("[\ud800-\udfff]")
# Stands between the two texts of a pair: ASCII's unit separator. In memory and between processes a
# pair is one string, so that whatever sorts, counts or stores texts does the same with pairs.
PAIR_MARK = "\x1f"
# What stands between them where a person reads them.
SHOWN_MARK = " ‖ "
Text = str | Sequence[str]


def evenly(texts: Sequence[str], most: int) -> list[str]:
    """At most so many of the texts, evenly spaced: files are often sorted by label."""
    count = min(most, len(texts))
    return [texts[place * len(texts) // count] for place in range(count)]


def surrogate_fault(text: str) -> str:
    """Why a text cannot be stored or tokenised, or nothing.

    The one rule for lone surrogates: they are half a character, which UTF-8 has no bytes for.
    """
    found = SURROGATE.search(text)
    if found is None:
        return ""
    return (
        f"character {found.start()} is half of a surrogate pair (U+{ord(found.group()):04X}), "
        "which no UTF-8 text can hold; delete it, or write the whole character"
    )


def pair_fault(text: str) -> str:
    """Why this cannot be one text of a pair, or nothing."""
    if PAIR_MARK in text:
        return (
            f"character {text.index(PAIR_MARK)} is the control character U+001F, which stands "
            "between the texts of a pair; delete it"
        )
    return ""


def joined(first: str, second: str) -> str:
    """A pair as one string."""
    return f"{first}{PAIR_MARK}{second}"


def parted(pair: str) -> tuple[str, str]:
    """The two texts of what :func:`joined` made."""
    first, _, second = pair.partition(PAIR_MARK)
    return first, second


def shown(text: str) -> str:
    """A text, or a pair, as a person reads it."""
    return text.replace(PAIR_MARK, SHOWN_MARK)


def checked_texts(texts: Iterable[Text], *, pairs: bool = False) -> list[str]:
    """The texts as a list, pairs joined.

    Args:
        texts: strings; or where pairs are wanted, two strings each, or what :func:`joined` made.
        pairs: whether pairs are wanted.

    Raises:
        TypeError: it is one string, or an element is none; names its position.
        ValueError: an element holds a lone surrogate.
    """
    if isinstance(texts, str | bytes):
        raise TypeError("texts is one string; pass a list of strings, e.g. [text]")
    found = []
    for position, given in enumerate(texts):
        text = _joined(given, position) if pairs else given
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{position}] is {type(text).__name__}, not a string: {text!r:.80}"
            )
        if fault := surrogate_fault(text):
            raise ValueError(f"texts[{position}]: {fault}")
        found.append(text)
    return found


def _joined(given: Text, position: int) -> str:
    if isinstance(given, str):
        if given.count(PAIR_MARK) == 1:
            return given
    elif isinstance(given, list | tuple):
        strings = [text for text in given if isinstance(text, str)]
        if len(strings) == len(given) == 2:
            if fault := pair_fault("".join(strings)):
                raise ValueError(f"texts[{position}]: {fault}")
            return joined(*strings)
    raise TypeError(
        f"texts[{position}] is {given!r:.80}, and this model takes pairs of texts: pass two "
        "strings, as (first, second)"
    )
