"""One run of the judge: kit and settings in, report out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from optimize import __version__
from optimize.bundle.texts import shown
from optimize.judge.checks import check_texts
from optimize.judge.gates.comparisons import compare_all
from optimize.judge.gates.control import control_of
from optimize.judge.gates.evidence import Evidence, Stored
from optimize.judge.gates.rules import decide_all, timing_gates
from optimize.judge.kit import Examples, Kit, KitError, Variant
from optimize.judge.records import (
    BaselineFacts,
    Control,
    Fingerprint,
    Mode,
    Predictions,
    Report,
    Timing,
    VariantFacts,
)
from optimize.judge.statistics.accuracy import differing, distinct_rows, label_changes, score
from optimize.judge.statistics.sequential import LOOKS
from optimize.judge.workers import fingerprint
from optimize.judge.workers.process import (
    WORKER_MODULE,
    WorkerError,
    WorkerProcess,
    WorkerSpec,
    command_of,
)
from optimize.judge.workers.timing import (
    CONTROL,
    Plan,
    Undecided,
    Workers,
    measure,
)
from optimize.judge.workers.workloads import workload_batches
from optimize.machine import available_cores, isa_class
from optimize.settings.gates import BASELINE, GrowthGate, StartupGate, gate_name
from optimize.settings.recipe import Settings
from optimize.workspace import Progress, Tell

EVALUATION_BATCH = 32
Answer = int | Sequence[int]
Named = Callable[[Sequence[Answer]], tuple[int, ...]]


def predict(
    worker: WorkerProcess, texts: Sequence[str], batch_size: int, named: Named | None = None
) -> Predictions:
    """Ask a worker for its answers.

    Args:
        worker: holds a variant.
        texts: to be answered.
        batch_size: of a call.
        named: makes ids of what it answers: class ids, or lists of them; by default they are.

    Raises:
        WorkerError: a probability is not finite.
    """
    answer = worker.ask("predict", texts=list(texts), batch_size=batch_size)
    if not answer["finite"]:
        raise WorkerError(
            f"worker {worker.spec.name} answered a probability that is not finite; the model is "
            "broken, build it again"
        )
    labels = tuple(answer["labels"]) if named is None else named(answer["labels"])
    return Predictions(labels=labels, confidences=tuple(answer["confidences"]))


QUICK_REPLICATES = 3


@dataclass(frozen=True)
class HeldAgainst:
    """The baseline of a run.

    Attributes:
        source: what it is, for the report.
        report: a stored report; without one, the kit holds the variant ``baseline``.
    """

    source: str
    report: Report | None = None


def judge(
    kit: Kit,
    settings: Settings,
    source: str,
    mode: Mode,
    tell: Tell,
    against: HeldAgainst | None = None,
) -> Report:
    """Measure every variant of a kit and decide every gate.

    Args:
        kit: what to judge.
        settings: what to measure, and the gates.
        source: where the settings came from, for the report.
        mode: ``quick`` takes three replicates and says so.
        tell: told the progress.
        against: the baseline, where there is one.

    Raises:
        KitError: its texts cannot decide a gate; see :func:`optimize.judge.checks.check_texts`.
        WorkerError: a variant could not be run.
    """
    check_texts(kit, settings)
    _check_measurable(kit, settings)
    return _Run(kit, settings, source, mode, tell, against).report()


def _check_measurable(kit: Kit, settings: Settings) -> None:
    """Refuse a run without the variant that every time rests on.

    Raises:
        KitError: the control's variant is not in the kit, or cannot be run.
    """
    name = settings.judge.control
    found = kit.variants.get(name)
    why = "the kit does not hold it" if found is None else found.missing
    if why:
        raise KitError(
            f"judge.control {name!r} is not measurable: {why}. It is timed against itself, and "
            "without that no time decides; name another variant"
        )


class _Run:
    """The state of one run."""

    def __init__(
        self,
        kit: Kit,
        settings: Settings,
        source: str,
        mode: Mode,
        tell: Tell,
        against: HeldAgainst | None,
    ) -> None:
        self.kit, self.settings, self.source = kit, settings, source
        self.mode, self.tell, self.against = mode, tell, against
        self.threads = settings.judge.threads or available_cores()
        self.variants: dict[str, Variant] = {
            name: kit.variants[name] for name in settings.judged_variants if name in kit.variants
        }
        self.split = settings.judge.split
        self.examples: dict[str, Examples] = {
            name: kit.examples(name) for name in kit.manifest.splits
        }
        judged = self.examples[self.split]
        self.texts = tuple(map(shown, judged.texts))
        self.distinct = distinct_rows(self.texts, judged.labels)
        self.predictions: dict[str, dict[str, Predictions]] = {}
        self.batch_changes: dict[str, tuple[int, ...]] = {}
        self.about: dict[str, Mapping[str, object]] = {}

    def report(self) -> Report:
        """Measure, decide, and put the report together."""
        settings = self.settings
        workloads = settings.judge.workloads
        texts = self.examples[self.split].texts
        batches = {name: workload_batches(texts, load) for name, load in workloads.items()}
        timing = measure(
            self._specs(), batches, self._plan(), self._undecided, self.tell, self._predict_all
        )
        evidence = self._evidence(timing)
        classes, sets = self.kit.manifest.labels, self.kit.label_sets
        label = settings.data.out_of_scope_label
        outside = classes.index(label) if label in classes else None
        return Report(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            optimize_version=__version__,
            mode=self.mode,
            recipe=settings.name,
            settings_source=self.source,
            settings=settings.model_dump(mode="json"),
            fingerprint=self._fingerprint(),
            split=self.split,
            data_digest=self.kit.manifest.inputs.get("data", ""),
            variants={name: variant.facts_with_sizes for name, variant in self.variants.items()},
            timing=timing,
            controls=tuple(evidence.controls.values()),
            scores={
                split: {
                    name: score(found, self.examples[split], len(classes), outside, sets.members)
                    for name, found in by.items()
                }
                for split, by in self.predictions.items()
            },
            predictions=self.predictions,
            labels=tuple(self.examples[self.split].labels.tolist()),
            batch_agreement={
                name: 1 - len(rows) / len(texts) for name, rows in self.batch_changes.items()
            },
            batch_changes=self.batch_changes,
            texts=self.texts,
            label_names=sets.names,
            label_sets=sets.members,
            class_names=classes if sets.several else (),
            gates=decide_all(settings.active_gates, evidence, tuple(workloads)),
            comparisons=compare_all(
                evidence, timing_gates(settings.active_gates, tuple(workloads))
            ),
            baseline=self._baseline_facts(evidence),
        )

    def _fingerprint(self) -> Fingerprint:
        return fingerprint.take(self.threads, self.about)

    def _specs(self) -> list[WorkerSpec]:
        specs = [
            self._spec(name, variant)
            for name, variant in self.variants.items()
            if variant.missing is None
        ]
        repeated = self.variants[self.settings.judge.control]
        control = replace(self._spec(repeated.name, repeated), name=CONTROL, repeats=repeated.name)
        return [*specs, control]

    def _spec(self, name: str, variant: Variant) -> WorkerSpec:
        kind = variant.manifest.format
        alone = kind != "torch" or name in self._startups_judged()
        # One's own code may hold PyTorch too.
        spins = kind in ("torch", "python")
        spec = WorkerSpec(name, variant.folder, self.threads, starts_alone=alone, spins=spins)
        if variant.python is None:
            return spec
        return replace(spec, command=command_of(variant.python, WORKER_MODULE))

    def _startups_judged(self) -> set[str]:
        """Variants whose start-up a gate decides on, or may when this report is a baseline."""
        judged: set[str] = set()
        for gate in self.settings.active_gates.values():
            growth = isinstance(gate, GrowthGate) and gate.quantity == "startup"
            if growth or isinstance(gate, StartupGate):
                judged.update(gate.variants)
        return judged | {self.settings.regression.candidate}

    def _plan(self) -> Plan:
        judge = self.settings.judge
        quick = self.mode == "quick"
        return Plan(
            looks=(QUICK_REPLICATES,) if quick else LOOKS,
            blocks=judge.quick_blocks if quick else judge.blocks,
            block_s=judge.block_ms / 1000,
            budget_s=judge.budget_s,
        )

    def _undecided(self, timing: Timing) -> Undecided:
        gates = self.settings.active_gates
        results = decide_all(gates, self._evidence(timing), tuple(self.settings.judge.workloads))
        left = [
            result.workload
            for result in results
            if result.verdict == "inconclusive" and gates[result.gate].timed
        ]
        of_memory = any(
            isinstance(gate := gates[result.gate], GrowthGate) and gate.quantity == "memory"
            for result in results
            if result.verdict == "inconclusive"
        )
        if of_memory:  # a peak is that of a worker which had every workload
            return Undecided(frozenset(self.settings.judge.workloads))
        workloads = frozenset(name for name in left if name is not None)
        return Undecided(workloads, starts=None in left)

    def _evidence(self, timing: Timing) -> Evidence:
        variants = {name: variant.facts for name, variant in self.variants.items()}
        predictions = dict(self.predictions.get(self.split, {}))
        stored = self._stored()
        if stored is not None:
            variants[BASELINE] = self._stored_facts(stored.report)
            if variants[BASELINE].missing is None:
                candidate = self.settings.regression.candidate
                found = stored.report.predictions[self.split][candidate]
                predictions[BASELINE] = self._as_here(found, stored.report)
        return Evidence(
            variants=variants,
            timing=timing,
            controls=self._controls(timing),
            predictions=predictions,
            labels=self.examples[self.split].labels,
            isa=isa_class(),
            mode=self.mode,
            batch_changes=self.batch_changes,
            gate_names=tuple(self._own_gate_names()),
            distinct=self.distinct,
            members=self.kit.label_sets.members,
            classes=len(self.kit.manifest.labels),
            stored=stored,
        )

    def _own_gate_names(self) -> Iterator[str]:
        workloads = tuple(self.settings.judge.workloads)
        for name, gate in self.settings.active_gates.items():
            if gate.reference != BASELINE:
                for workload in gate.judged_workloads(workloads):
                    yield gate_name(name, workload)

    def _stored(self) -> Stored | None:
        if self.against is None or self.against.report is None:
            return None
        report = self.against.report
        unlike = self._fingerprint().differences(report.fingerprint)
        if report.mode != self.mode:
            unlike.append(f"mode: {report.mode} → {self.mode}")
        return Stored(report, tuple(unlike))

    def _stored_facts(self, report: Report) -> VariantFacts:
        """The stored candidate, not measurable where it was not judged on these very texts."""
        candidate = self.settings.regression.candidate
        facts = report.variants.get(candidate)
        if facts is None:
            raise KitError(
                f"the baseline's report has no variant {candidate!r} (it has "
                f"{', '.join(report.variants)}); set regression.candidate"
            )
        if unknown := sorted(set(report.class_names) - set(self.kit.manifest.labels)):
            why = f"its report knows the label {unknown[0]!r}, which the kit has not"
            return facts.model_copy(update={"missing": why})
        ours = (self.split, self.kit.manifest.inputs.get("data", ""))
        theirs = (report.split, report.data_digest)
        if ours == theirs and candidate in report.predictions.get(self.split, {}):
            return facts
        why = f"its report judged other texts ({theirs[0]} of data {theirs[1][:10]}, here {ours[0]}"
        return facts.model_copy(update={"missing": f"{why} of {ours[1][:10]})"})

    def _baseline_facts(self, evidence: Evidence) -> BaselineFacts | None:
        if self.against is None:
            return None
        before = evidence.predictions.get(BASELINE)
        after = evidence.predictions.get(self.settings.regression.candidate)
        examples, names = self.examples[self.split], self.kit.label_sets.names
        return BaselineFacts(
            source=self.against.source,
            kind="bundle" if self.against.report is None else "report",
            model_sha256=evidence.variants[BASELINE].model_sha256,
            unlike=evidence.stored.unlike if evidence.stored else (),
            changes=label_changes(before, after, examples, names) if before and after else (),
        )

    def _controls(self, timing: Timing) -> dict[str, Control]:
        repeated = self.settings.judge.control
        return {
            workload: control_of(workload, by[repeated], by[CONTROL], self.mode, len(timing.series))
            for workload, by in timing.series.items()
            if repeated in by and CONTROL in by
        }

    def _predict_all(self, workers: Workers) -> None:
        """Answers to both splits: fp32 in batches, INT8 as it is served, one by one.

        Under dynamic INT8 a batch shares its activation scales, so the
        two differ; by how much is reported as the batch agreement.
        """
        asked = [(name, worker) for name, worker in workers.items() if name != CONTROL]
        for place, (name, worker) in enumerate(asked):
            self.about[name] = worker.about
            self.tell(Progress(f"accuracy: {name}", place / len(asked)))
            int8 = self.variants[name].manifest.quantization is not None
            for split, examples in self.examples.items():
                size = 1 if int8 else EVALUATION_BATCH
                answers = predict(worker, examples.texts, size, self._named(name))
                self.predictions.setdefault(split, {})[name] = answers
                if int8 and split == self.split:
                    named = self._named(name)
                    batched = predict(worker, examples.texts, EVALUATION_BATCH, named)
                    self.batch_changes[name] = differing(answers, batched)
        self.tell(Progress("accuracy: done", 1.0, passing=True))

    def _named(self, variant: str) -> Named:
        """What makes ids of a variant's answers: a model made elsewhere has an order of its own."""
        theirs, ours = self.variants[variant].manifest.labels, self.kit.manifest.labels
        places = [ours.index(label) for label in theirs]

        def ids(answers: Sequence[Answer]) -> tuple[int, ...]:
            return self.kit.label_sets.ids(
                places[each] if isinstance(each, int) else [places[label] for label in each]
                for each in answers
            )

        return ids

    def _as_here(self, answers: Predictions, report: Report) -> Predictions:
        """A stored report's answers with this run's ids: a run numbers sets as it meets them."""
        if report.label_sets is None:
            return answers
        names = report.class_names
        rows = ([names[label] for label in report.label_sets[each]] for each in answers.labels)
        return answers.model_copy(update={"labels": self.kit.label_sets.of_names(rows)})
