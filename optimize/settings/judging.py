"""``[judge]``: what is measured, on which texts, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from optimize.settings.base import Section, Table

COMPARED = "student-int8-compared"
VARIANTS = (
    "teacher-torch",
    "teacher-onnx",
    "student-torch",
    "student-onnx",
    "student-int8",
    COMPARED,
)
UNDISTILLED = "student-undistilled"
# Names that a run itself gives.
TAKEN = frozenset(
    {*VARIANTS, UNDISTILLED, "baseline", "control", "data", "run", "result", "settings", "splits"}
)
VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Workload(Table):
    """Texts and batch size that are timed.

    Attributes:
        batch_size: texts per call; the call takes them from raw text to probabilities.
        quantiles: the texts used are those between these quantiles of length in characters.
        texts: how many distinct texts are cycled through, at most.
    """

    batch_size: int = Field(default=1, ge=1)
    quantiles: tuple[float, float] = (0.0, 1.0)
    texts: int = Field(default=64, ge=1)

    @field_validator("quantiles")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 1:
            raise ValueError(f"must rise within [0, 1], not {value}")
        return value


WORKLOADS = {
    "short": Workload(quantiles=(0.0, 0.1)),
    "typical": Workload(quantiles=(0.4, 0.6)),
    "long": Workload(quantiles=(0.9, 1.0)),
    "batch32": Workload(batch_size=32, quantiles=(0.0, 1.0)),
}


class JudgeSettings(Section):
    """``[judge]``: what is measured and how long.

    Attributes:
        variants: names under measurement, in the table's order; those of ``[variants]`` that are
            not among them follow.
        threads: threads of every worker; 0 takes the cores that this process may use.
        split: the split whose accuracy the gates judge.
        workloads: what is timed, by name.
        control: variant that is timed against a second worker of itself.
        blocks: timing blocks in one replicate.
        quick_blocks: the same in quick mode.
        block_ms: least duration of one variant's part of a block.
        budget_s: seconds of timing after which what is undecided stays inconclusive.
        drop_gates: gates by name that this run does without; the report says so.
    """

    variants: tuple[str, ...] = VARIANTS
    threads: int = Field(default=0, ge=0)
    split: Literal["validation", "test"] = "test"
    workloads: dict[str, Workload] = Field(default=WORKLOADS)
    control: str = "student-int8"
    blocks: int = Field(default=8, ge=4)
    quick_blocks: int = Field(default=8, ge=4)
    block_ms: float = Field(default=20.0, gt=0)
    budget_s: float = Field(default=1800.0, gt=0)
    drop_gates: tuple[str, ...] = ()
