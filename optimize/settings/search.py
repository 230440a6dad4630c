"""``[search]``: the shapes that ``optimize search`` tries, and how it halves them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from optimize.settings.base import Section

Layers = int | tuple[int, ...] | None


def _all_is_none(value: Any) -> Any:
    """``all`` keeps what there is; TOML has no word for nothing."""
    return None if value == "all" else value


OrAll = BeforeValidator(_all_is_none)


class SearchSettings(Section):
    """``[search]``: every combination of these is a shape, and each static width one more.

    Attributes:
        layers: as ``student.layers``: numbers, lists, or "all"; the recipe's own when empty, and
            likewise the next four.
        vocabulary: as ``student.vocabulary``; "all" keeps every token.
        feed_forward: as ``student.feed_forward``; "all" keeps every neuron.
        width: as ``student.width``; "all" keeps the hidden states as they are.
        heads: as ``student.heads``; "all" keeps every head.
        static_widths: widths of static students.
        rungs: shares of the recipe's epochs that the shapes learn for, in turn; the last is 1.
        keep: share of the shapes that go on to the next rung, beside those on the front.
        points: what else the plot shows, as published elsewhere: by name, megabytes and accuracy in
            percent.
    """

    layers: tuple[Annotated[Layers, OrAll], ...] = (2, 3, 4)
    vocabulary: tuple[Annotated[int | None, OrAll], ...] = ()
    feed_forward: tuple[Annotated[int | None, OrAll], ...] = ()
    width: tuple[Annotated[int | None, OrAll], ...] = ()
    heads: tuple[Annotated[int | None, OrAll], ...] = ()
    static_widths: tuple[int, ...] = ()
    rungs: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.34, 1.0), min_length=1
    )
    keep: float = Field(default=0.5, gt=0, le=1)
    points: dict[str, tuple[float, float]] = Field(default={})

    @field_validator("rungs")
    @classmethod
    def _rising_to_one(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)) or value[-1] != 1:
            raise ValueError(f"must rise to 1, as [0.34, 1.0], not {list(value)}")
        return value
