"""What gates are decided on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from optimize.judge.records import Control, Mode, Predictions, Report, Timing, VariantFacts


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
        labels: true class ids of that split.
        isa: instruction-set class of this machine.
        mode: ``quick`` decides timings by the central 80 % of block ratios.
        batch_changes: rows whose label changes in batches, by INT8 variant.
        gate_names: gates and workloads of this run, those against a baseline aside.
        stored: the report that stands in for the variant ``baseline``, if one does.
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
    stored: Stored | None = None
