"""What the judge measures and decides, and the report it is stored as.

History of the report schema:

* report 1: first version.
* report 2: what the run was held against (``baseline``).
* report 3: the judged texts, the class names, and the rows whose label hangs on the batch
  (``texts``, ``label_names``, ``batch_changes``), and out-of-scope recall.
* report 4: every comparison that tables show (``comparisons``).
* report 5: CPU seconds beside the wall's (``cpu_s``), and further runs of the same models
  (``runs``).
* report 6: several labels a text (``label_sets``, ``class_names``, ``micro_f1``), and where a
  model's bytes are (``bytes_by_operator``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from optimize.settings.gates import gate_name

REPORT_SCHEMAS = (1, 2, 3, 4, 5, 6)
Verdict = Literal["pass", "fail", "inconclusive"]
Mode = Literal["full", "quick"]
QUICK_REPLICATES = 3  # what quick mode takes


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of several: fail if one is, else inconclusive if one is; of none, fail."""
    found = set(verdicts)
    if "fail" in found or not found:
        return "fail"
    return "inconclusive" if "inconclusive" in found else "pass"


class Record(BaseModel):
    """Base of every value of a report: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(Record):
    """An interval of a quantity in the unit of its owner; ``None`` is an end without bound."""

    low: float | None
    high: float | None


class Fingerprint(Record):
    """Where a run took place. Reports with unlike fingerprints are not compared as if alike.

    Attributes:
        cpu: the CPU's own name.
        isa: instruction sets that INT8 kernels choose by, widest first.
        isa_class: the widest of them; limits can be keyed by it.
        cores: cores that the run was allowed to use.
        threads: threads of every worker.
        system: operating system, kernel release and architecture.
        libraries: versions in the workers, by ``VARIANT/LIBRARY`` where variants differ.
    """

    cpu: str
    isa: tuple[str, ...]
    isa_class: str
    cores: int
    threads: int
    system: str
    libraries: dict[str, str]

    def differences(self, other: Fingerprint) -> list[str]:
        """One line a differing key, with both values; libraries are told one by one."""
        ours, theirs = _flat(self), _flat(other)
        return [
            f"{key}: {theirs.get(key, 'absent')} → {ours.get(key, 'absent')}"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]


def _flat(fingerprint: Fingerprint) -> dict[str, Any]:
    fields: dict[str, Any] = fingerprint.model_dump()
    libraries: dict[str, Any] = fields.pop("libraries")
    return fields | libraries


class Series(Record):
    """Times of one variant on one workload.

    Attributes:
        blocks_s: seconds per call, the mean of a block, by replicate; the same blocks for every
            variant. A replicate has those that were not disturbed, or where they are too few, all.
        least_s: the least that each can have taken undisturbed, where some were disturbed: less all
            waits for a core, steal and throttling. Absent where none was.
        beside_neighbours: whether other processes wanted the same cores meanwhile. Caches and clock
            rates are then shared too, whether or not a worker had to wait.
        calls: calls in a block.
        p50_ms: median of the single calls, in milliseconds.
        p95_ms: their 95th percentile.
        cpu_s: seconds per call that all threads of the worker ran, the median of a replicate's
            blocks; absent in older reports.
    """

    blocks_s: tuple[tuple[float, ...], ...]
    least_s: tuple[tuple[float, ...], ...] | None = None
    beside_neighbours: bool = False
    calls: int
    p50_ms: float | None
    p95_ms: float | None
    cpu_s: tuple[float, ...] | None = None

    @property
    def lows_s(self) -> tuple[tuple[float, ...], ...]:
        """The least that each block can have taken undisturbed."""
        return self.blocks_s if self.least_s is None else self.least_s


class Timing(Record):
    """All times of a run.

    Attributes:
        series: by workload, then by variant; the control is one of them.
        batch_sizes: texts per call of each workload.
        startup_s: process start to first prediction, by variant: one value a replicate, or of the
            first for a PyTorch variant whose start-up no gate judges.
        peak_rss_bytes: peak memory of the worker after its workloads, one value a replicate in
            which it had all of them.
        replicates: how many were taken.
        dropped_blocks: blocks dropped for all variants, because steal, throttling or a wait for a
            core hit one.
        disturbed_blocks: blocks that were hit and kept, as intervals, since too few were not.
        kept_blocks: all that were kept.
        priority: whether every worker ran before other processes: in real time, or in earlier
            reports by its nice value; absent in older ones.
        seconds: wall time of the measurement.
        spent_s: what it was spent on: starting workers, warming up, blocks, answers; absent in
            older reports.
    """

    series: dict[str, dict[str, Series]]
    batch_sizes: dict[str, int]
    startup_s: dict[str, tuple[float, ...]]
    peak_rss_bytes: dict[str, tuple[int, ...]]
    replicates: int
    dropped_blocks: int
    disturbed_blocks: int = 0
    kept_blocks: int = 0
    priority: bool | None = None
    seconds: float
    spent_s: dict[str, float] = {}

    @property
    def beside_neighbours(self) -> bool:
        """Whether other processes wanted the same cores in any workload."""
        return any(
            series.beside_neighbours
            for variants in self.series.values()
            for series in variants.values()
        )


class Predictions(Record):
    """Answers of one variant to one split, row by row.

    Attributes:
        labels: class ids; where a text may have several labels, ids of the report's sets.
        confidences: probability of each answer; of a set, the product over all labels.
    """

    labels: tuple[int, ...]
    confidences: tuple[float, ...]


class Scores(Record):
    """How right one variant is on one split.

    Attributes:
        examples: n.
        correct: right answers.
        accuracy_interval: Wilson's, 95 %.
        macro_f1: mean F1 over classes.
        macro_f1_interval: BCa bootstrap, 95 %.
        micro_f1: F1 over all labels of all texts together, where a text may have several; then
            ``correct`` counts the texts whose labels are all right and no others.
        micro_f1_interval: BCa bootstrap, 95 %.
        calibration_error: expected calibration error over 15 bins.
        out_of_scope_recall: share of out-of-scope texts that are answered so, where there are any.
    """

    examples: int
    correct: int
    accuracy_interval: Span
    macro_f1: float
    macro_f1_interval: Span
    micro_f1: float | None = None
    micro_f1_interval: Span | None = None
    calibration_error: float
    out_of_scope_recall: float | None = None

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.correct / self.examples

    @property
    def headline(self) -> tuple[str, float, Span]:
        """What gates on accuracy hold: its name, the share, and its interval."""
        if self.micro_f1 is None or self.micro_f1_interval is None:
            return "accuracy", self.accuracy, self.accuracy_interval
        return "micro F1", self.micro_f1, self.micro_f1_interval


class VariantFacts(Record):
    """What is known of a variant without measuring.

    Attributes:
        size_bytes: bytes of every file that one ships.
        parameters: number of weights before quantization.
        model_sha256: digest of its weights.
        manifest_sha256: of its manifest, which holds the digest of each file; older reports have
            none.
        missing: why it could not be measured, if so.
        bytes_by_operator: of an ONNX model, bytes of the stored tensors by the operator that reads
            them, the most first; empty in older reports.
    """

    size_bytes: int
    parameters: int
    model_sha256: str
    manifest_sha256: str | None = None
    missing: str | None = None
    bytes_by_operator: dict[str, int] = {}


class GateResult(Record):
    """What one gate says.

    Attributes:
        gate: its name in the recipe.
        workload: the workload it was decided on, where it has one.
        verdict: ``pass``, ``fail`` or ``inconclusive``.
        measured: the quantity, in words with its unit.
        limit: the limit, as the recipe has it.
        reason: why the verdict is what it is; for a failure, by how much.
        remedy: what to try; empty for a pass.
        value: the quantity as a number, where there is one.
        interval: its interval, where there is one.
        limit_value: the limit as a number.
    """

    gate: str
    kind: str
    candidate: str
    reference: str | None = None
    workload: str | None = None
    verdict: Verdict
    measured: str
    limit: str
    reason: str
    remedy: str = ""
    value: float | None = None
    interval: Span | None = None
    limit_value: float

    @property
    def name(self) -> str:
        """Gate and workload, as test ids and tables show them."""
        return gate_name(self.gate, self.workload)


class Control(Record):
    """The A/A control on one workload: a variant against a second worker of itself."""

    workload: str
    ratio: float
    interval: Span
    holds: bool


class LabelChange(Record):
    """A text to which baseline and candidate give other labels, with their probabilities."""

    text: str
    truth: str
    before: str
    after: str
    before_confidence: float
    after_confidence: float


class BaselineFacts(Record):
    """What a run was held against.

    Attributes:
        source: as the user named it; for a revision with its commit.
        kind: a ``bundle`` was timed in the same run, a ``report`` was read.
        model_sha256: digest of its weights.
        unlike: why the times of a stored report cannot be compared with this run's.
        changes: texts whose label changed, worst first.
        lacks: labels of this run's texts that it does not know. It is held against on the texts
            that have none of them.
        shared: how many those are.
    """

    source: str
    kind: Literal["bundle", "report"]
    model_sha256: str
    unlike: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    shared: int | None = None
    changes: tuple[LabelChange, ...] = ()


class Speedup(Record):
    """Time of the reference over time of a candidate on one workload.

    Attributes:
        candidate: a variant.
        workload: name of the workload.
        ratio: above 1, the candidate is faster; ``None`` where every block was disturbed.
        interval: of the ratio, at the level and with the widening that the gates decide with.
    """

    candidate: str
    workload: str
    ratio: float | None
    interval: Span


class Drop(Record):
    """Accuracy of the reference less that of a candidate, on the judged split.

    Attributes:
        candidate: a variant.
        drop_pp: in percentage points; below 0, the candidate is right more often. Of micro F1,
            where a text may have several labels.
        interval: of the drop, 90 %, as the accuracy gate decides: by Tango's score test, or of
            micro F1 by a paired BCa bootstrap.
    """

    candidate: str
    drop_pp: float
    interval: Span


class Comparisons(Record):
    """Every variant against one, as tables show it.

    Attributes:
        reference: the PyTorch teacher where it was run, else the first variant that was.
        speedups: by candidate and workload.
        drops: by candidate.
    """

    reference: str
    speedups: tuple[Speedup, ...]
    drops: tuple[Drop, ...]

    def speedup(self, candidate: str, workload: str) -> Speedup | None:
        """That of one variant on one workload, if both were timed."""
        for each in self.speedups:
            if (each.candidate, each.workload) == (candidate, workload):
                return each
        return None

    def drop(self, candidate: str) -> Drop | None:
        """That of one variant, if it answered."""
        return next((each for each in self.drops if each.candidate == candidate), None)


class Report(Record):
    """A whole run."""

    schema_version: Literal[1, 2, 3, 4, 5, 6] = 6
    created: str
    optimize_version: str
    mode: Mode
    recipe: str
    settings_source: str
    settings: dict[str, Any]
    fingerprint: Fingerprint
    split: str
    data_digest: str
    variants: dict[str, VariantFacts]
    timing: Timing
    controls: tuple[Control, ...]
    scores: dict[str, dict[str, Scores]]
    predictions: dict[str, dict[str, Predictions]]
    labels: tuple[int, ...] = Field(description="true class ids of the judged split")
    batch_agreement: dict[str, float] = Field(
        description="share of answers that stay the same in batches of 32, by INT8 variant"
    )
    batch_changes: dict[str, tuple[int, ...]] = Field(
        default={}, description="rows whose answer changes in batches of 32, by INT8 variant"
    )
    texts: tuple[str, ...] = Field(default=(), description="the judged split, row by row")
    label_names: tuple[str, ...] = Field(
        default=(), description="names of labels by their id; of sets, where a text has several"
    )
    label_sets: tuple[tuple[int, ...], ...] | None = Field(
        default=None, description="class ids in each set, where a text may have several labels"
    )
    class_names: tuple[str, ...] = Field(
        default=(), description="class names, by the class ids of label_sets"
    )
    gates: tuple[GateResult, ...]
    failure: str = Field(
        default="", description="why the run that judged failed, where its gates do not say so"
    )
    comparisons: Comparisons | None = Field(
        default=None, description="every variant against one; what tables show"
    )
    baseline: BaselineFacts | None = None
    runs: tuple[Timing, ...] = Field(
        default=(), description="times of further runs of the same models on the same machine"
    )
    content_sha256: str | None = Field(
        default=None, description="SHA-256 of all else; a guard against accidents, no signature"
    )

    def control(self, workload: str) -> Control | None:
        """The A/A control of a workload, if it was measured."""
        return next((each for each in self.controls if each.workload == workload), None)

    @property
    def verdict(self) -> Verdict:
        """The verdict of all gates together; fail where the run failed by something else."""
        return "fail" if self.failure else overall(result.verdict for result in self.gates)
