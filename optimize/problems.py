"""What kinds of classification there are, in transformers' own words."""

from __future__ import annotations

from typing import Final, Literal

SINGLE_LABEL: Final = "single_label_classification"
MULTI_LABEL: Final = "multi_label_classification"
ProblemType = Literal["single_label_classification", "multi_label_classification"]
