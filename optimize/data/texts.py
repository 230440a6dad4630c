"""Texts as they are written: which are none, and which are the same."""

from __future__ import annotations

import re
from typing import Any

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


def fault_of(text: Any) -> str:
    """Why this is no text, or nothing."""
    if not isinstance(text, str):
        return (
            f"{text!r} is {type(text).__name__}, not a string; delete the row or write it as text"
        )
    if not text.strip():
        return "the text is empty; delete the row"
    return surrogate_fault(text)


def normalised(text: str) -> str:
    """The same for texts that differ by case and white space alone."""
    return " ".join(text.casefold().split())
