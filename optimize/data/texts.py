"""Texts as they are written: which are none, and which are the same."""

from __future__ import annotations

from typing import Any
from unicodedata import normalize

from optimize.bundle.texts import PAIR_MARK, surrogate_fault


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
    """The same for texts, and pairs of them, that differ by case, white space or form alone.

    Unicode writes one letter in several forms, composed and not (UAX #15).
    """
    parts = normalize("NFKC", text).casefold().split(PAIR_MARK)
    return PAIR_MARK.join(" ".join(part.split()) for part in parts)
