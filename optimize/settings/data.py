"""``[data]``: where the texts come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from optimize.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType
from optimize.settings.base import Section

Share = Annotated[float, Field(gt=0, lt=1)]


class DataSettings(Section):
    """``[data]``: where the texts come from.

    Attributes:
        source: ``sample``, a file or folder, or a Hub id. A relative path is meant from the
            working directory.
        format: ``auto`` tells by the source's name; ``clinc`` is CLINC150's own JSON layout.
        config: Hub configuration.
        revision: Hub revision; pin it, so that the data cannot change under a gate.
        text_column: column that holds the text.
        text_pair_column: column that holds the second text, where pairs are classified, as in
            entailment or duplicate questions.
        label_column: column that holds the label; with several labels a text, a list of them.
        problem_type: one label a text, or several and none (``multi_label_classification``).
        split_column: column that says which split a row is in, where one file holds them all.
        quoting: of CSV and TSV files: ``minimal`` where quotes are the format's, ``none`` where
            they are part of the texts; ``auto`` takes a CSV file for the former and a TSV file for
            the latter, unless all of it reads as quoted.
        train: name of the training split, or its file where ``source`` is a folder.
        validation: the same for validation; or, where there is none, a share of the training rows,
            as 0.1, which keeps the shares of the labels.
        test: the same for test.
        split_seed: of the rows that a share takes.
        leakage_warn_share: warn when more than this share of a split's texts is in train too.
        out_of_scope_label: the label that means none of the others, where there is one.
    """

    source: str = "sample"
    format: Literal[
        "auto", "csv", "tsv", "jsonl", "json", "parquet", "datasets", "clinc", "hub"
    ] = "auto"
    config: str | None = None
    revision: str | None = None
    text_column: str = "text"
    text_pair_column: str | None = None
    label_column: str = "label"
    problem_type: ProblemType = SINGLE_LABEL
    split_column: str = "split"
    quoting: Literal["auto", "minimal", "none"] = "auto"
    train: str = "train"
    validation: str | Share = "validation"
    test: str | Share = "test"
    split_seed: int = 0
    leakage_warn_share: float = Field(default=0.01, ge=0, le=1)
    out_of_scope_label: str | None = None

    @field_validator("problem_type", mode="before")
    @classmethod
    def _no_regression(cls, value: Any) -> Any:
        if value == "regression":
            raise ValueError(
                "regression, a number a text, is not what this trains or judges; give classes, "
                f"{SINGLE_LABEL} or {MULTI_LABEL}"
            )
        return value

    @model_validator(mode="after")
    def _columns_and_problem_fit(self) -> DataSettings:
        if self.text_pair_column in (self.text_column, self.label_column):
            raise ValueError(
                f"text_pair_column = {self.text_pair_column!r} is the column of something else too"
            )
        if self.multi_label and self.out_of_scope_label is not None:
            raise ValueError(
                "out_of_scope_label is for one label a text; where a text has several, one that "
                "is out of scope has none: give it an empty list"
            )
        if self.format == "clinc" and (self.multi_label or self.text_pair_column):
            raise ValueError('format = "clinc" holds single texts with one label each')
        return self

    @model_validator(mode="after")
    def _splits_are_three(self) -> DataSettings:
        """One split under two names would be learnt from and judged on."""
        named = [name for name in (self.train, self.validation, self.test) if isinstance(name, str)]
        if len(set(named)) < len(named):
            raise ValueError(
                f"train = {self.train!r}, validation = {self.validation!r} and test = "
                f"{self.test!r}: two splits are the same rows. Calibration is fitted on "
                "validation, and gates are judged on test; give each its own, or a share, e.g. "
                "validation = 0.1"
            )
        if sum(self.shares.values()) >= 1:
            raise ValueError(
                f"validation = {self.validation} and test = {self.test} leave nothing to train on"
            )
        return self

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels, or none."""
        return self.problem_type == MULTI_LABEL

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of a text: one, or two for pairs."""
        pair = self.text_pair_column
        return (self.text_column,) if pair is None else (self.text_column, pair)

    @property
    def named_splits(self) -> dict[str, str]:
        """What the data calls each split that it has, and its name here."""
        names = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for split, name in names.items() if isinstance(name, str)}

    @property
    def shares(self) -> dict[str, float]:
        """The splits that are taken from the training rows, and how much of them."""
        given = {"test": self.test, "validation": self.validation}
        return {split: share for split, share in given.items() if not isinstance(share, str)}
