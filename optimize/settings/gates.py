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

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from typing_extensions import Self

from optimize.machine import ISA_CLASSES, OTHER_ISA
from optimize.settings.base import Table

Limit = Annotated[float, Field(allow_inf_nan=False)]
# The variant that `--baseline` adds to a run; no recipe can name one of its own so.
BASELINE = "baseline"


class GateTable(Table):
    """What every gate has: the variant it judges, and limits by workload and ISA.

    Attributes:
        candidate: variant under judgement.
        reference: variant that it is held against, where the kind has one.
        by: other limits, keyed ``WORKLOAD``, ``@ISA`` or ``WORKLOAD@ISA``.
        remedy: what to try where it fails, instead of the suite's own words.
    """

    limit_name: ClassVar[str]
    timed: ClassVar[bool] = False

    candidate: str = "student-int8"
    reference: str | None = None
    by: dict[str, Limit] = Field(default={})
    remedy: str | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants that it speaks of."""
        return (self.candidate,) if self.reference is None else (self.candidate, self.reference)

    @model_validator(mode="after")
    def _by_within_the_limits_range(self) -> Self:
        """Every limit of the table ``by`` must be one that the gate itself could have."""
        field = type(self).model_fields[self.limit_name]
        allowed: TypeAdapter[float] = TypeAdapter(Annotated[(float, *field.metadata)])
        for key, value in self.by.items():
            _refuse_limit(allowed, f"by.{key}", value, self.limit_name)
        return self

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
        if self.candidate == self.reference:
            raise ValueError(
                f"gates.{name}: candidate and reference are both {self.candidate!r}; a variant "
                "held against itself always passes"
            )
        for role, word in (("candidate", self.candidate), ("reference", self.reference)):
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


def _refuse_limit(allowed: TypeAdapter[float], key: str, value: float, name: str) -> None:
    try:
        allowed.validate_python(value)
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise ValueError(f"{key} = {value:g} cannot be a {name}: {why}") from None


class SizeGate(GateTable):
    """Bytes of every shipped file, against the reference's: exact integers.

    Attributes:
        min_reduction_pct: least share of the bytes that must be gone; below 0, the candidate may be
            larger.
    """

    limit_name = "min_reduction_pct"
    kind: Literal["size"]
    reference: str = "teacher-torch"
    min_reduction_pct: float = Field(ge=-1000, le=100)


class SpeedupGate(GateTable):
    """Time of the reference over time of the candidate, per workload, from paired blocks.

    Attributes:
        min_ratio: least speedup.
        workloads: those that it is decided on; all when absent.
    """

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
    """Non-inferiority of accuracy at a margin in percentage points, by Tango's score test.

    Attributes:
        max_drop_pp: the margin; of micro F1, where a text may have several labels.
    """

    limit_name = "max_drop_pp"
    kind: Literal["accuracy"]
    reference: str = "teacher-torch"
    max_drop_pp: float = Field(gt=0, lt=100)


class FidelityGate(GateTable):
    """Share of examples to which candidate and reference give the same label.

    Attributes:
        min_agreement_pct: least share.
    """

    limit_name = "min_agreement_pct"
    kind: Literal["fidelity"]
    reference: str = "student-onnx"
    min_agreement_pct: float = Field(ge=0, le=100)


class StartupGate(GateTable):
    """Process start to first prediction: median of fresh workers.

    Attributes:
        max_startup_s: most seconds.
    """

    limit_name = "max_startup_s"
    timed = True
    kind: Literal["startup"]
    reference: None = None
    max_startup_s: float = Field(gt=0, allow_inf_nan=False)


class MemoryGate(GateTable):
    """Peak resident memory of the worker: median of fresh workers.

    Attributes:
        max_peak_mib: most mebibytes.
    """

    limit_name = "max_peak_mib"
    kind: Literal["memory"]
    reference: None = None
    max_peak_mib: float = Field(gt=0, allow_inf_nan=False)


class GrowthGate(GateTable):
    """Start-up time or peak memory of the candidate over the reference's, in fresh workers.

    Attributes:
        quantity: which of the two.
        max_growth_pct: most growth.
    """

    limit_name = "max_growth_pct"
    timed = True
    kind: Literal["growth"]
    quantity: Literal["startup", "memory"]
    reference: str = BASELINE
    max_growth_pct: float = Field(gt=-100, allow_inf_nan=False)


class EntriesGate(GateTable):
    """A stored baseline and this run must have decided the very same gates and workloads.

    Attributes:
        max_differences: gates and workloads that only one of them has.
    """

    limit_name = "max_differences"
    kind: Literal["entries"]
    reference: str = BASELINE
    max_differences: int = Field(default=0, ge=0)


class LabelsGate(GateTable):
    """Labels that differ from the reference's, those aside that differ by batch alone.

    Under dynamic INT8 a text's label can hang on its neighbours in a batch. Texts near such an edge
    say nothing of a runtime.

    Attributes:
        max_changes: most texts whose label differs.
    """

    limit_name = "max_changes"
    kind: Literal["labels"]
    reference: str
    max_changes: int = Field(default=0, ge=0)


Gate = Annotated[
    SizeGate
    | SpeedupGate
    | AccuracyGate
    | FidelityGate
    | StartupGate
    | MemoryGate
    | GrowthGate
    | EntriesGate
    | LabelsGate,
    Field(discriminator="kind"),
]


class Regression(Table):
    """``[regression]``: how much worse than the baseline the candidate may be.

    Attributes:
        candidate: the variant under judgement, held against the baseline's of the same name.
        max_size_growth_pct: more bytes, in percent.
        max_slowdown_pct: more time per call, in percent, on every workload.
        by: another slowdown for a workload or instruction set, as in a gate's table.
        max_drop_pp: lost accuracy, in percentage points (a non-inferiority margin).
        max_startup_growth_pct: more time from process start to first prediction, in percent.
        max_memory_growth_pct: more peak memory, in percent.
    """

    candidate: str = "student-int8"
    max_size_growth_pct: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    max_slowdown_pct: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    by: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default={})
    max_drop_pp: float = Field(default=1.0, gt=0, lt=100)
    max_startup_growth_pct: float = Field(default=25.0, gt=0, allow_inf_nan=False)
    max_memory_growth_pct: float = Field(default=10.0, gt=0, allow_inf_nan=False)

    def gates(self) -> dict[str, Gate]:
        """The same limits as ordinary gates against the variant ``baseline``."""
        both = {"candidate": self.candidate, "reference": BASELINE}
        ratios = {key: 100 / (100 + slowdown) for key, slowdown in self.by.items()}
        startup, memory = self.max_startup_growth_pct, self.max_memory_growth_pct
        return {
            "regression-size": SizeGate(
                kind="size", min_reduction_pct=-self.max_size_growth_pct, **both
            ),
            "regression-speed": SpeedupGate(
                kind="speedup", min_ratio=100 / (100 + self.max_slowdown_pct), by=ratios, **both
            ),
            "regression-accuracy": AccuracyGate(
                kind="accuracy", max_drop_pp=self.max_drop_pp, **both
            ),
            "regression-startup": GrowthGate(
                kind="growth", quantity="startup", max_growth_pct=startup, **both
            ),
            "regression-memory": GrowthGate(
                kind="growth", quantity="memory", max_growth_pct=memory, **both
            ),
            "regression-entries": EntriesGate(kind="entries", **both),
        }


def limit_words(gate: GateTable, workload: str | None, isa: str) -> str:
    """The limit as it is written in the recipe, e.g. ``min_ratio = 5``."""
    return f"{gate.limit_name} = {gate.limit(workload, isa):g}"


def gate_name(gate: str, workload: str | None) -> str:
    """A gate on a workload, as tables, test ids and messages have it."""
    return gate if workload is None else f"{gate}[{workload}]"
