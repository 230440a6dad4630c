"""Gates as they are written in a recipe: named limits, and the workloads they speak of.

A gate is a table ``[gates.NAME]`` with a ``kind``. Its limit may differ by workload or by
instruction set, in the table ``by`` of the same gate; the narrower entry wins:

    [gates.speedup-torch]
    kind = "speedup"
    candidate = "student-int8"
    reference = "teacher-torch"
    min_ratio = 5.0
    by = { long = 4.0, "@avx2" = 3.0, "long@avx2" = 2.5 }
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from optimize.machine import ISA_CLASSES, OTHER_ISA

Limit = Annotated[float, Field(allow_inf_nan=False)]


class Table(BaseModel):
    """Frozen, and a misspelt key is an error, never a gate that is silently off."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class GateTable(Table):
    """What every gate has: the variant it judges, and limits by workload and ISA.

    Attributes:
        candidate: variant under judgement.
        by: other limits, keyed ``WORKLOAD``, ``@ISA`` or ``WORKLOAD@ISA``.
    """

    limit_name: ClassVar[str]
    timed: ClassVar[bool] = False

    candidate: str = "student-int8"
    by: dict[str, Limit] = {}

    def limit(self, workload: str | None, isa: str) -> float:
        """The limit that holds for a workload on a machine, the narrowest entry first."""
        for key in (f"{workload}@{isa}", workload, f"@{isa}"):
            if key is not None and key in self.by:
                return self.by[key]
        return float(getattr(self, self.limit_name))

    def judged_workloads(self, workloads: tuple[str, ...]) -> tuple[str | None, ...]:
        """The workloads that this gate decides on one by one; ``(None,)`` where it has none."""
        return (None,)

    def check_names(self, name: str, variants: tuple[str, ...], workloads: tuple[str, ...]) -> None:
        """Refuse a variant, workload or ISA that does not exist.

        Raises:
            ValueError: naming the gate, the word and the words there are.
        """
        for role in ("candidate", "reference"):
            word = getattr(self, role, None)
            if word is not None and word not in variants:
                raise ValueError(
                    f"gates.{name}.{role} {word!r} is not one of {', '.join(variants)}"
                )
        judged = self.judged_workloads(workloads)
        for key in self.by:
            workload, _, isa = key.partition("@")
            if workload and workload not in judged:
                known = ", ".join(word for word in judged if word) or "no workload"
                raise ValueError(f"gates.{name}.by {key!r}: this gate judges {known}")
            if isa and isa not in (*ISA_CLASSES, OTHER_ISA):
                raise ValueError(
                    f"gates.{name}.by {key!r}: {isa!r} is not one of "
                    f"{', '.join((*ISA_CLASSES, OTHER_ISA))}"
                )


class SizeGate(GateTable):
    """Bytes of every shipped file, against the reference's: exact integers."""

    limit_name = "min_reduction_pct"
    kind: Literal["size"]
    reference: str = "teacher-torch"
    min_reduction_pct: float = Field(ge=0, le=100)


class SpeedupGate(GateTable):
    """Time of the reference over time of the candidate, per workload, from paired blocks."""

    limit_name = "min_ratio"
    timed = True
    kind: Literal["speedup"]
    reference: str = "teacher-torch"
    min_ratio: float = Field(gt=0, allow_inf_nan=False)
    workloads: tuple[str, ...] | None = None

    def judged_workloads(self, workloads: tuple[str, ...]) -> tuple[str | None, ...]:
        """Those named, or all."""
        return workloads if self.workloads is None else self.workloads

    def check_names(self, name: str, variants: tuple[str, ...], workloads: tuple[str, ...]) -> None:
        """Refuse a workload that is not measured, beside what every gate refuses."""
        super().check_names(name, variants, workloads)
        if self.workloads is not None and not self.workloads:
            raise ValueError(f"gates.{name}.workloads is empty: the gate would never be decided")
        for word in self.workloads or ():
            if word not in workloads:
                raise ValueError(
                    f"gates.{name}.workloads {word!r} is not one of {', '.join(workloads)}"
                )


class AccuracyGate(GateTable):
    """Non-inferiority of accuracy at a margin in percentage points, by Tango's score test."""

    limit_name = "max_drop_pp"
    kind: Literal["accuracy"]
    reference: str = "teacher-torch"
    max_drop_pp: float = Field(gt=0, lt=100)


class FidelityGate(GateTable):
    """Share of examples to which candidate and reference give the same label."""

    limit_name = "min_agreement_pct"
    kind: Literal["fidelity"]
    reference: str = "student-onnx"
    min_agreement_pct: float = Field(ge=0, le=100)


class StartupGate(GateTable):
    """Process start to first prediction: median of fresh workers."""

    limit_name = "max_startup_s"
    timed = True
    kind: Literal["startup"]
    max_startup_s: float = Field(gt=0, allow_inf_nan=False)


class MemoryGate(GateTable):
    """Peak resident memory of the worker: median of fresh workers."""

    limit_name = "max_peak_mib"
    kind: Literal["memory"]
    max_peak_mib: float = Field(gt=0, allow_inf_nan=False)


Gate = Annotated[
    SizeGate | SpeedupGate | AccuracyGate | FidelityGate | StartupGate | MemoryGate,
    Field(discriminator="kind"),
]


def limit_words(gate: Any, workload: str | None, isa: str) -> str:
    """The limit as it is written in the recipe, e.g. ``min_ratio = 5``."""
    return f"{gate.limit_name} = {gate.limit(workload, isa):g}"
