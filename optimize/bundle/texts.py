"""What a bundle takes for a text."""

from __future__ import annotations

import re
from collections.abc import Iterable

SURROGATE = re.compile("[\ud800-\udfff]")


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


def checked_texts(texts: Iterable[str]) -> list[str]:
    """The texts as a list.

    Raises:
        TypeError: it is one string, or an element is none; names its position.
        ValueError: an element holds a lone surrogate.
    """
    if isinstance(texts, str | bytes):
        raise TypeError("texts is one string; pass a list of strings, e.g. [text]")
    found = list(texts)
    for position, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{position}] is {type(text).__name__}, not a string: {text!r:.80}"
            )
        if fault := surrogate_fault(text):
            raise ValueError(f"texts[{position}]: {fault}")
    return found
