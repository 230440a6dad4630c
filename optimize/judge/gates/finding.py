"""What a rule is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from optimize.judge.records import Span, Verdict

BUSY = "others wanted the cores, and waiting only adds time"
ON_IDLE = "run on an idle machine"
MORE_REPLICATES = "run without --quick, on an idle machine; or raise judge.budget_s"


@dataclass(frozen=True)
class Question:
    """One decision of one gate.

    Attributes:
        workload: what it is decided on; ``None`` where the gate has no workloads.
        limit: the limit that holds there on this machine.
        timing_gates: decisions on times among which the error rate is shared.
    """

    workload: str | None
    limit: float
    timing_gates: int


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        verdict: pass, fail or inconclusive.
        measured: the quantity, in words with its unit.
        reason: why the verdict is what it is; for a failure, by how much.
        value: the quantity as a number, where there is one.
        interval: its interval, where there is one.
        remedy: what to try, where the rule knows better than the gate's table.
    """

    verdict: Verdict
    measured: str
    reason: str
    value: float | None = None
    interval: Span | None = None
    remedy: str | None = None


def failed(reason: str, remedy: str) -> Finding:
    """A gate that nothing was measured for."""
    return Finding("fail", "—", reason, remedy=remedy)
