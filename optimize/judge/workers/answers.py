"""What a worker may answer to each operation, checked where it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

ClassId = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class Ready(Struct):
    """The first answer: the model is loaded and has answered one text."""

    protocol: int
    peak_rss_bytes: Annotated[int, Meta(ge=0)] = 0
    priority: bool = False


class Done(Struct):
    """Nothing is asked for but that it was done."""


class Warmed(Struct):
    """After the calls before the first block."""

    mean_s: Annotated[float, Meta(gt=0)]


class Taken(Struct):
    """One block: durations of its calls, and what its threads waited and ran."""

    ns: Annotated[list[Annotated[int, Meta(gt=0)]], Meta(min_length=1)]
    waited_s: Seconds = 0.0
    ran_s: Seconds = 0.0


class Answered(Struct):
    """Class ids and their probabilities, row by row; lists of ids where a text has several."""

    labels: list[ClassId | list[ClassId]]
    confidences: list[float]
    finite: bool


class Memory(Struct):
    """Of the whole process."""

    peak_rss_bytes: Annotated[int, Meta(gt=0)]


ANSWERS: Mapping[str, type[Struct]] = {
    "ready": Ready,
    "workload": Done,
    "warm": Warmed,
    "block": Taken,
    "predict": Answered,
    "memory": Memory,
}


def fault_of(operation: str, answer: Mapping[str, Any]) -> str:
    """Why this is no answer to the operation, or nothing."""
    kind = ANSWERS.get(operation)
    if kind is None:
        return f"there is no operation {operation!r}"
    try:
        msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""
