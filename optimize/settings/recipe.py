"""What a recipe may say: one frozen table a section, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from optimize.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType
from optimize.settings.base import Section, Table
from optimize.settings.gates import Gate, Regression
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


Share = Annotated[float, Field(gt=0, lt=1)]
QuantizationRecipe = Literal["ort-dynamic", "ort-static", "optimum-dynamic"]
CalibrationMethod = Literal["minmax", "percentile", "entropy"]

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
WORKLOADS = {
    "short": Workload(quantiles=(0.0, 0.1)),
    "typical": Workload(quantiles=(0.4, 0.6)),
    "long": Workload(quantiles=(0.9, 1.0)),
    "batch32": Workload(batch_size=32, quantiles=(0.0, 1.0)),
}


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


class ExportSettings(Section):
    """``[export]``: opset and IR version bound the oldest onnxruntime that loads the bundle.

    Attributes:
        opset: of the default domain.
        ir_version: of the file format.
        fuse: whether attention is fused, where the family allows it.
        parity_tolerance: most by which a logit may differ from PyTorch's.
    """

    opset: int = Field(default=17, ge=14, le=20)
    ir_version: int = Field(default=8, ge=7, le=10)
    fuse: bool = True
    parity_tolerance: float = Field(default=1e-3, gt=0)


class QuantizeSettings(Section):
    """``[quantize]``: the INT8 recipe shipped, and one measured beside it for comparison.

    Attributes:
        recipe: of the bundle that is shipped.
        exclude: names of nodes that stay in fp32 under ``ort-dynamic``; ``optimize sensitivity``
            tells which are worth it.
        embeddings: bits of a token's vector under ``ort-dynamic``; ``int4`` halves what is half
            of a small model.
        calibration: how ``ort-static`` takes an activation's range from what it was on texts.
        calibration_texts: training texts that it reads for that.
        compare: one that is measured beside it, or ``none``.
    """

    recipe: QuantizationRecipe = "ort-dynamic"
    exclude: tuple[str, ...] = ()
    embeddings: Literal["int8", "int4"] = "int8"
    calibration: CalibrationMethod = "minmax"
    calibration_texts: int = Field(default=256, ge=1)
    compare: QuantizationRecipe | Literal["none"] = "optimum-dynamic"

    @model_validator(mode="after")
    def _four_bits_are_ours(self) -> QuantizeSettings:
        if self.embeddings == "int4" and self.recipe != "ort-dynamic":
            raise ValueError(
                f'embeddings = "int4" is for recipe = "ort-dynamic", not {self.recipe!r}'
            )
        return self


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
    blocks: int = Field(default=12, ge=4)
    quick_blocks: int = Field(default=8, ge=4)
    block_ms: float = Field(default=20.0, gt=0)
    budget_s: float = Field(default=1800.0, gt=0)
    drop_gates: tuple[str, ...] = ()


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
        inner = [name for name in ("hidden", "relations") if getattr(self.distill, name)]
        if self.student.shape == "static" and (inner or self.distill.layer_decay != 1):
            raise ValueError(
                'student.shape = "static" has no layers: set distill.hidden = 0, '
                "distill.relations = 0 and distill.layer_decay = 1"
            )
        if self.student.vocabulary and (self.distill.hidden or self.distill.relations):
            raise ValueError(
                "student.vocabulary changes the tokens, and distill.hidden and distill.relations "
                "compare token by token; leave out one of the two"
            )
        self._check_problem()
        for name, gate in self.active_gates.items():
            gate.check_names(name, self.judged_variants, tuple(self.judge.workloads))
        if self.judge.control not in self.judged_variants:
            raise ValueError(f"judge.control {self.judge.control!r} is not one of judge.variants")
        return self

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
