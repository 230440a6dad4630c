"""What a recipe may say: one frozen table a section, unknown keys refused."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from optimize.settings.base import Section
from optimize.settings.data import DataSettings
from optimize.settings.gates import Gate, Regression
from optimize.settings.judging import TAKEN, UNDISTILLED, VARIANTS, JudgeSettings, VariantName
from optimize.settings.quantization import ExportSettings, QuantizeSettings
from optimize.settings.search import SearchSettings
from optimize.settings.training import (
    CalibrateSettings,
    DistillSettings,
    GenerateSettings,
    StudentSettings,
    TeacherSettings,
    TuneSettings,
)
from optimize.settings.variants import VariantSettings


class Settings(Section):
    """A whole recipe."""

    name: str = Field(default="unnamed", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataSettings = DataSettings()
    teacher: TeacherSettings = TeacherSettings()
    student: StudentSettings = StudentSettings()
    distill: DistillSettings = DistillSettings()
    generate: GenerateSettings = GenerateSettings()
    export: ExportSettings = ExportSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    tune: TuneSettings = TuneSettings()
    search: SearchSettings = SearchSettings()
    quantize: QuantizeSettings = QuantizeSettings()
    variants: dict[VariantName, VariantSettings] = Field(default={})
    judge: JudgeSettings = JudgeSettings()
    gates: dict[str, Gate] = Field(default={})
    regression: Regression = Regression()

    @model_validator(mode="before")
    @classmethod
    def _of_own_variants_the_last_is_shipped(cls, table: Any) -> Any:
        """Where nothing is built, the last variant is what one ships, unless it is said."""
        judge = table.get("judge") if isinstance(table, dict) else None
        if not isinstance(judge, dict):
            return table
        named = judge.get("variants")
        if not isinstance(named, list | tuple) or not named or {*named} & {*VARIANTS, UNDISTILLED}:
            return table
        regression = table.get("regression", {})
        if not isinstance(regression, dict):
            return table
        return {
            **table,
            "judge": {"control": named[-1], **judge},
            "regression": {"candidate": named[-1], **regression},
        }

    @model_validator(mode="after")
    def _gates_name_what_is_measured(self) -> Settings:
        """A gate on a variant or workload that nobody measures would be silently off."""
        known = (*self.gates, *self.regression.gates())
        for name in self.judge.drop_gates:
            if name not in known:
                raise ValueError(
                    f"judge.drop_gates {name!r} is not one of the gates {', '.join(known)}"
                )
        if self.distill.folds and (self.teacher.logits or not self.teacher.fine_tune):
            raise ValueError(
                "distill.folds trains teachers of its own, and this one is given: set "
                "distill.folds = 0, or teacher.fine_tune = true and no teacher.logits"
            )
        if self.teacher.logits and self.distill.reads_representations:
            raise ValueError(
                "distill.pooled, cosine, hidden and relations need the teacher's states, and "
                "teacher.logits holds logits alone; set them to 0, or leave teacher.logits out"
            )
        if self.student.vocabulary and (self.distill.hidden or self.distill.relations):
            raise ValueError(
                "student.vocabulary changes the tokens, and distill.hidden and distill.relations "
                "compare token by token; leave out one of the two"
            )
        self._check_static()
        self._check_problem()
        for name, gate in self.active_gates.items():
            gate.check_names(name, self.judged_variants, tuple(self.judge.workloads))
        if self.judge.control not in self.judged_variants:
            raise ValueError(f"judge.control {self.judge.control!r} is not one of judge.variants")
        return self

    def _check_static(self) -> None:
        """What a student without layers cannot have."""
        if self.student.shape != "static":
            return
        if self.distill.hidden or self.distill.relations or self.distill.layer_decay != 1:
            raise ValueError(
                'student.shape = "static" has no layers: set distill.hidden = 0, '
                "distill.relations = 0 and distill.layer_decay = 1"
            )
        for name in ("feed_forward", "heads"):
            if getattr(self.student, name) is not None:
                raise ValueError(
                    f'student.shape = "static" has no layers to cut: set student.{name} = "all"'
                )

    def _check_problem(self) -> None:
        """What is not for several labels a text, or for pairs."""
        distill, data, generate = self.distill, self.data, self.generate.checkpoint
        several, pairs = data.multi_label, data.text_pair_column is not None
        refused = (
            (several, "several labels a text", "distill.decoupled", distill.decoupled, "0"),
            (several, "several labels a text", "generate.checkpoint", generate, "nothing"),
            (pairs, "pairs of texts", "generate.checkpoint", generate, "nothing"),
            (pairs, "pairs of texts", "distill.transfer", distill.transfer, "nothing"),
            (pairs, "pairs of texts", "student.shape", self.student.shape == "static", '"encoder"'),
        )
        for asked, what, name, used, instead in refused:
            if asked and used:
                raise ValueError(f"{name} is not for {what}; set it to {instead}")

    @model_validator(mode="after")
    def _own_variants_have_names_of_their_own(self) -> Settings:
        for name in self.variants:
            if name in TAKEN:
                raise ValueError(f"variants.{name} has a name that is taken; rename it")
        return self

    @property
    def judged_variants(self) -> tuple[str, ...]:
        """The variants under measurement.

        Those named, the control of distillation if it is built, and those of ``[variants]``.
        """
        named = self.judge.variants
        more = [UNDISTILLED] if self.distill.control and self.builds_chain else []
        return (*named, *(name for name in (*more, *self.variants) if name not in named))

    @property
    def builds_chain(self) -> bool:
        """Whether a teacher is distilled and quantized, and not only judged what is there."""
        return any(name in (*VARIANTS, UNDISTILLED) for name in self.judge.variants)

    @property
    def active_gates(self) -> dict[str, Gate]:
        """The gates that are decided: all but those dropped by name."""
        return {n: gate for n, gate in self.gates.items() if n not in self.judge.drop_gates}
