"""What every table of a recipe is: frozen, checked, and strict about its keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """Frozen, and a misspelt key is an error, never a gate that is silently off."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Section(Table):
    """Base of every table: frozen, unknown keys refused, defaults checked too."""

    model_config = ConfigDict(validate_default=True)
