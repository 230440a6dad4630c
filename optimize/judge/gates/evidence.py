"""What gates are decided on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from optimize.judge.label_sets import indicators, rows_without
from optimize.judge.records import Control, Mode, Predictions, Report, Timing, VariantFacts
from optimize.judge.statistics.accuracy import PairedCounts, compare, distinct_rows
from optimize.judge.statistics.label_f1 import F1Drop, paired_drop
from optimize.settings.gates import BASELINE


@dataclass(frozen=True)
class Stored:
    """A stored report as a baseline.

    Attributes:
        report: the report.
        unlike: why its times cannot be compared with this run's; empty when they can.
    """

    report: Report
    unlike: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What the gates are decided on.

    Attributes:
        variants: facts by variant.
        timing: all times.
        controls: the A/A control, by workload.
        predictions: answers of each variant to the judged split.
        labels: true labels of that split, as ids of the report's.
        isa: instruction-set class of this machine.
        mode: ``quick`` decides timings by the central 80 % of block ratios.
        batch_changes: rows whose label changes in batches, by INT8 variant.
        gate_names: gates and workloads of this run, those against a baseline aside.
        distinct: rows of that split that repeat no other; all when absent.
        members: class ids in each set that an id stands for, where a text may have several labels.
        classes: number of classes.
        stored: the report that stands in for the variant ``baseline``, if one does.
        shared: rows of texts whose labels the variant ``baseline`` knows; all when absent.
    """

    variants: Mapping[str, VariantFacts]
    timing: Timing
    controls: Mapping[str, Control]
    predictions: Mapping[str, Predictions]
    labels: NDArray[np.int64]
    isa: str
    mode: Mode
    batch_changes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    gate_names: tuple[str, ...] = ()
    distinct: NDArray[np.int64] | None = None
    members: tuple[tuple[int, ...], ...] | None = None
    classes: int = 0
    stored: Stored | None = None
    shared: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, report: Report) -> Evidence:
        """What a stored report's gates were decided on, a stored baseline aside."""
        labels = np.asarray(report.labels, dtype=np.int64)
        known = len(report.texts) == len(labels)
        lacks = () if report.baseline is None else report.baseline.lacks
        names = report.class_names if report.label_sets is not None else report.label_names
        return cls(
            variants=report.variants,
            timing=report.timing,
            controls={control.workload: control for control in report.controls},
            predictions=report.predictions.get(report.split, {}),
            labels=labels,
            isa=report.fingerprint.isa_class,
            mode=report.mode,
            batch_changes=report.batch_changes,
            distinct=distinct_rows(report.texts, labels) if known else None,
            members=report.label_sets,
            classes=len(report.class_names),
            shared=rows_without(labels, lacks, names, report.label_sets) if lacks else None,
        )

    def comparable(self, reference: str, candidate: str) -> NDArray[np.int64]:
        """The texts that two variants are held against each other on: each knows their labels."""
        if self.shared is not None and BASELINE in (reference, candidate):
            return self.shared
        return np.arange(len(self.labels))

    def _distinct(self, reference: str, candidate: str) -> NDArray[np.int64]:
        """Those of them that repeat no other."""
        rows = self.comparable(reference, candidate)
        return rows if self.distinct is None else rows[np.isin(rows, self.distinct)]

    def paired(self, reference: str, candidate: str) -> PairedCounts:
        """What two variants answer to the texts that repeat no other."""
        rows = self._distinct(reference, candidate)
        return compare(self.predictions[reference], self.predictions[candidate], self.labels, rows)

    def paired_f1(self, reference: str, candidate: str) -> F1Drop:
        """The drop of micro F1 over the same texts, where a text may have several labels."""
        rows = self._distinct(reference, candidate)

        def has(ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
            return indicators(np.asarray(ids)[rows], self.members or (), self.classes)

        theirs, ours = (self.predictions[name].labels for name in (reference, candidate))
        return paired_drop(has(self.labels), has(theirs), has(ours))
