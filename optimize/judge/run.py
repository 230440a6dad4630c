"""One run of the judge: kit and settings in, report out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from optimize import __version__
from optimize.bundle.texts import shown
from optimize.judge.answers import Answers
from optimize.judge.checks import check_kit
from optimize.judge.gates.comparisons import compare_all
from optimize.judge.gates.control import control_of
from optimize.judge.gates.evidence import Evidence
from optimize.judge.gates.regression import has_too_few
from optimize.judge.gates.rules import decide_all, timing_gates
from optimize.judge.held_against import HeldAgainst, as_here, stored_facts
from optimize.judge.kit import Examples, Kit, KitError, Variant
from optimize.judge.label_sets import rows_without
from optimize.judge.records import (
    QUICK_REPLICATES,
    BaselineFacts,
    Control,
    Fingerprint,
    Mode,
    Report,
    Timing,
)
from optimize.judge.statistics.accuracy import distinct_rows, score
from optimize.judge.statistics.sequential import LOOKS
from optimize.judge.workers import fingerprint
from optimize.judge.workers.process import (
    WORKER_MODULE,
    WorkerSpec,
    command_of,
)
from optimize.judge.workers.timing import (
    CONTROL,
    Plan,
    Undecided,
    measure,
)
from optimize.judge.workers.workloads import workload_batches
from optimize.machine import available_cores, isa_class
from optimize.settings.gates import BASELINE, GrowthGate, StartupGate, gate_name
from optimize.settings.recipe import Settings
from optimize.workspace import Tell


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
        KitError: it cannot decide a gate; see :func:`optimize.judge.checks.check_kit`.
        WorkerError: a variant could not be run.
    """
    check_kit(kit, settings)
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
        if self.threads > available_cores():
            # PyTorch would take them all and wait for itself, ONNX Runtime is cut to the cores.
            tell(
                f"judge.threads is {self.threads}, and this process may use {available_cores()} "
                f"cores: each worker has {available_cores()} threads"
            )
            self.threads = available_cores()
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
        self.shared = self._shared_rows()
        self.answers = Answers(kit, self.variants, self.examples, self.split, tell)

    def report(self) -> Report:
        """Measure, decide, and put the report together."""
        settings, answers = self.settings, self.answers
        workloads = settings.judge.workloads
        texts = self.examples[self.split].texts
        batches = {name: workload_batches(texts, load) for name, load in workloads.items()}
        timing = measure(
            self._specs(), batches, self._plan(), self._undecided, self.tell, answers.ask
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
                for split, by in answers.predictions.items()
            },
            predictions=answers.predictions,
            labels=tuple(self.examples[self.split].labels.tolist()),
            batch_agreement={
                name: 1 - len(rows) / len(texts) for name, rows in answers.batch_changes.items()
            },
            batch_changes=answers.batch_changes,
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

    def _baseline_facts(self, evidence: Evidence) -> BaselineFacts | None:
        if self.against is None:
            return None
        candidate = self.settings.regression.candidate
        return self.against.facts(candidate, self.examples[self.split], evidence, self.kit)

    def _fingerprint(self) -> Fingerprint:
        return fingerprint.take(self.threads, self.answers.about)

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
        alone = name in self._startups_judged()
        # One's own code may hold PyTorch too.
        spins = variant.manifest.format in ("torch", "python")
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
        seen = self._evidence(timing)
        results = decide_all(gates, seen, tuple(self.settings.judge.workloads))
        # Another machine's times decide nothing, however often these are measured; nor do few.
        timed = timing_gates(gates, tuple(self.settings.judge.workloads))
        never = seen.stored is not None and (
            bool(seen.stored.unlike) or has_too_few(seen.stored, timed)
        )
        open_ = [
            result
            for result in results
            if result.verdict == "inconclusive" and not (never and result.reference == BASELINE)
        ]
        left = [result.workload for result in open_ if gates[result.gate].timed]
        of_memory = any(
            isinstance(gate := gates[result.gate], GrowthGate) and gate.quantity == "memory"
            for result in open_
        )
        if of_memory:  # a peak is that of a worker which had every workload
            return Undecided(frozenset(self.settings.judge.workloads))
        workloads = frozenset(name for name in left if name is not None)
        return Undecided(workloads, starts=None in left)

    def _evidence(self, timing: Timing) -> Evidence:
        variants = {name: variant.facts for name, variant in self.variants.items()}
        predictions = dict(self.answers.predictions.get(self.split, {}))
        held = self.against
        stored = (
            None if held is None else held.stored(self._fingerprint(), self.mode, self.settings)
        )
        if stored is not None:
            candidate = self.settings.regression.candidate
            variants[BASELINE] = stored_facts(stored.report, candidate, self.kit, self.split)
            if variants[BASELINE].missing is None:
                found = stored.report.predictions[self.split][candidate]
                predictions[BASELINE] = as_here(found, stored.report, self.kit)
        return Evidence(
            variants=variants,
            timing=timing,
            controls=self._controls(timing),
            predictions=predictions,
            labels=self.examples[self.split].labels,
            isa=isa_class(),
            mode=self.mode,
            batch_changes=self.answers.batch_changes,
            gate_names=tuple(self._own_gate_names()),
            distinct=self.distinct,
            members=self.kit.label_sets.members,
            classes=len(self.kit.manifest.labels),
            stored=stored,
            shared=self.shared,
        )

    def _shared_rows(self) -> NDArray[np.int64] | None:
        """Rows of the judged split whose labels the baseline knows, where it lacks some."""
        if self.against is None or self.against.report is not None:
            return None
        if not (lacks := self.kit.lacks(BASELINE)):
            return None
        sets = self.kit.label_sets
        return rows_without(self.examples[self.split].labels, lacks, sets.classes, sets.members)

    def _own_gate_names(self) -> Iterator[str]:
        workloads = tuple(self.settings.judge.workloads)
        for name, gate in self.settings.active_gates.items():
            if gate.reference != BASELINE:
                for workload in gate.judged_workloads(workloads):
                    yield gate_name(name, workload)

    def _controls(self, timing: Timing) -> dict[str, Control]:
        repeated = self.settings.judge.control
        return {
            workload: control_of(workload, by[repeated], by[CONTROL], self.mode, len(timing.series))
            for workload, by in timing.series.items()
            if repeated in by and CONTROL in by
        }
