"""What every table of a recipe is: frozen, checked, and strict about its keys."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Table(BaseModel):
    """Frozen, and a misspelt key is an error, never a gate that is silently off.

    A number is one that has an end, and no ``true``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_truths(cls, given: Any) -> Any:
        """Pydantic takes ``true`` for 1."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            if field is None or not isinstance(value, bool):
                continue
            kinds = set(get_args(field.annotation)) or {field.annotation}
            if kinds & {int, float} and bool not in kinds:
                raise ValueError(f"{name} = {str(value).lower()} is no number")
        return given


class Section(Table):
    """Base of every table: frozen, unknown keys refused, defaults checked too."""

    model_config = ConfigDict(validate_default=True)
