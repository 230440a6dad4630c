"""``[variants.NAME]``: models made elsewhere, put beside those of the chain."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from optimize.settings.base import Table

FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
KINDS = ("model", "python", "trained")


class VariantSettings(Table):
    """A model of one's own; one of ``model``, ``python`` and ``trained`` says which.

    Attributes:
        model: folder of a bundle, of an ONNX model that optimum wrote, or of a checkpoint.
        runtime: what a checkpoint runs on: ``torch`` as it is, or ``onnx``, to which it is
            exported here.
        max_length: longest input in tokens; by default what the model's own files say.
        python: ``MODULE:FACTORY``. The factory is called with the folder of ``files``, and gives
            a function from a list of texts to answers: an array of scores, a row a text and a
            column a label in the order of the data's names; or for each text a label, or a pair of
            label and probability. Where a text may have several labels, a list of them. Where texts
            are pairs, it gets tuples of two.
        path: folder that the module and the files lie in.
        files: files that one ships beside the module; they count as its size.
        trained: ``tf-idf`` trains a linear model on word counts, which says what a transformer is
            worth.
    """

    model: str | None = None
    runtime: Literal["torch", "onnx"] = "torch"
    max_length: int | None = Field(default=None, ge=8)
    python: str | None = None
    path: str = "."
    files: tuple[str, ...] = ()
    trained: Literal["tf-idf"] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> VariantSettings:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of {', '.join(KINDS)}, not {' and '.join(given) or 'none of them'}"
            )
        return self

    @field_validator("python")
    @classmethod
    def _names_a_factory(cls, value: str | None) -> str | None:
        if value is not None and not FACTORY.fullmatch(value):
            raise ValueError(f"python = {value!r} is not MODULE:FACTORY, e.g. service:load")
        return value

    @field_validator("files")
    @classmethod
    def _inside(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or name in {".", ".."} or "/" in name or "\\" in name:
                raise ValueError(f"files: {name!r} must lie in path itself, in no folder of it")
        return value
