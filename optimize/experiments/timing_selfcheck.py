"""How far the timing gates can be trusted on this machine: measured, not simulated.

    python -m optimize.experiments.timing_selfcheck KIT [--runs 100] [--full] [--neighbour]
    python -m optimize.experiments.timing_selfcheck KIT --decide

The first times a bundle against a second worker of itself, in so many runs, and counts what the
gate of at most 5 % more time says: with equal models every failure is a false one. Runs are quick
ones; with ``--full`` they look until they decide. It also prints the scatter of a replicate,
workload by workload; the full mode's looks are sized for 4.4 %. With ``--neighbour`` another
process keeps one core busy meanwhile.

The second takes the full mode's looks until they decide, for an unchanged bundle and for one that
takes 10 % more time, and prints how long that took. Exits 1 on a wrong verdict.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from optimize.bundle.classifier import Logits
from optimize.judge.gates.control import replicate_bounds, timing_verdict
from optimize.judge.kit import Kit, read_kit
from optimize.judge.records import QUICK_REPLICATES, Mode, Timing, Verdict
from optimize.judge.statistics.sequential import LOOKS, SequentialVerdict
from optimize.judge.workers import worker as worker_module
from optimize.judge.workers.process import WorkerSpec
from optimize.judge.workers.timing import Plan, Undecided, measure
from optimize.judge.workers.workloads import Batches, workload_batches
from optimize.machine import available_cores
from optimize.settings.judging import JudgeSettings

LIMIT_LOG = math.log(1 / 1.05)
SLOWER = 1.10
OURS, THEIRS = "reference", "candidate"
VARIANT = "student-int8"
SLOW_WORKER = "--slow-worker"
NEIGHBOUR = "import numpy as n\na = n.ones((512, 512))\nwhile True: a @ a"


class SlowModel:
    """A model whose every call takes some more time: what it took, times the excess.

    Args:
        model: does the work.
        slowdown: time of a call over the model's own, above 1.
    """

    def __init__(self, model: worker_module.Model, slowdown: float) -> None:
        self._model, self._excess = model, slowdown - 1

    def predict_proba(self, texts: Sequence[str], *, batch_size: int) -> Logits:
        """The model's answer, later."""
        started = time.perf_counter()
        answer = self._model.predict_proba(texts, batch_size=batch_size)
        now = time.perf_counter()
        end = now + self._excess * (now - started)
        while time.perf_counter() < end:
            pass
        return answer


def serve_slowly() -> None:
    """A worker like any other, but slower."""
    load = worker_module.load
    worker_module.load = lambda folder, threads: SlowModel(load(folder, threads), SLOWER)
    worker_module.main()


@dataclass
class Pair:
    """Two workers of one bundle, and the texts that they are timed on.

    Attributes:
        folder: the bundle's.
        batches: texts of each workload, call by call.
        threads: of both.
        slow: whether the candidate is the slower worker.
    """

    folder: Path
    batches: dict[str, Batches]
    threads: int
    slow: bool = False

    @classmethod
    def of(cls, kit: Kit, workloads: Sequence[str], threads: int) -> Pair:
        """The kit's INT8 bundle on some of the standard workloads."""
        known = JudgeSettings().workloads
        texts = kit.examples("test").texts
        batches = {name: workload_batches(texts, known[name]) for name in workloads}
        return cls(kit.variants[VARIANT].folder, batches, threads or available_cores())

    def measure(self, plan: Plan, undecided: Callable[[Timing], Undecided]) -> Timing:
        """All times of one run."""
        first = WorkerSpec(OURS, self.folder, self.threads)
        second = WorkerSpec(THEIRS, self.folder, self.threads)
        if self.slow:
            command = (sys.executable, "-m", __spec__.name, SLOW_WORKER)
            second = WorkerSpec(THEIRS, self.folder, self.threads, command)
        return measure(
            [first, second], self.batches, plan, undecided, lambda line: None, lambda workers: None
        )

    def verdicts(self, timing: Timing, mode: Mode) -> dict[str, SequentialVerdict]:
        """What the gate says of each workload."""
        return {
            name: timing_verdict(series[OURS], series[THEIRS], LIMIT_LOG, mode, len(self.batches))
            for name, series in timing.series.items()
        }


@dataclass
class Tally:
    """Verdicts and replicates of many runs, by workload."""

    mode: Mode = "quick"
    verdicts: dict[str, Counter[Verdict]] = field(default_factory=dict)
    replicates: dict[str, list[float]] = field(default_factory=dict)

    def add(self, pair: Pair, timing: Timing) -> None:
        """Take in one run."""
        for name, outcome in pair.verdicts(timing, self.mode).items():
            self.verdicts.setdefault(name, Counter())[outcome.verdict] += 1
            series = timing.series[name]
            found = replicate_bounds(series[OURS], series[THEIRS]).centres
            self.replicates.setdefault(name, []).extend(found)

    @property
    def failures(self) -> int:
        """Verdicts that say slower of equal models."""
        return sum(counts["fail"] for counts in self.verdicts.values())

    def lines(self) -> list[str]:
        """The table."""
        lines = [f"{'workload':12}{'replicate SD':>13}{'pass':>7}{'fail':>7}{'undecided':>11}"]
        for name, counts in self.verdicts.items():
            # A replicate in which every block was disturbed has no figure.
            known = [figure for figure in self.replicates[name] if math.isfinite(figure)]
            scatter = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
            lines.append(
                f"{name:12}{scatter:13.2%}{counts['pass']:7}{counts['fail']:7}"
                f"{counts['inconclusive']:11}"
            )
        return lines


def equal_runs(pair: Pair, runs: int, mode: Mode, tell: Callable[[str], None]) -> Tally:
    """So many runs of equal workers."""
    tally = Tally(mode)
    for run in range(runs):
        tally.add(pair, one_run(pair, mode, seed=run))
        if (run + 1) % 10 == 0:
            tell(f"{run + 1} of {runs} runs, {tally.failures} failures")
    return tally


def one_run(pair: Pair, mode: Mode, seed: int = 0) -> Timing:
    """One run as the judge would take it; in full mode until every workload is decided."""

    def undecided(timing: Timing) -> Undecided:
        found = pair.verdicts(timing, mode).items()
        return Undecided(
            frozenset(name for name, outcome in found if outcome.verdict == "inconclusive")
        )

    judge = JudgeSettings()
    if mode == "quick":
        plan = Plan(looks=(QUICK_REPLICATES,), blocks=judge.quick_blocks, seed=seed)
    else:
        plan = Plan(looks=LOOKS, blocks=judge.blocks, seed=seed)
    return pair.measure(plan, undecided)


@contextmanager
def neighbour(wanted: bool) -> Iterator[None]:
    """A process that keeps one core busy, if wanted."""
    if not wanted:
        yield
        return
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR], env=environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 on a wrong verdict."""
    parser = argparse.ArgumentParser(description="How far the timing gates can be trusted here.")
    parser.add_argument("kit", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--full", action="store_true", help="runs of the full mode, not quick ones")
    parser.add_argument("--neighbour", action="store_true", help="beside a busy process")
    parser.add_argument("--decide", action="store_true", help="time to decision instead")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workloads", nargs="+", default=["short", "typical", "long"])
    arguments = parser.parse_args(argv)
    pair = Pair.of(read_kit(arguments.kit), arguments.workloads, arguments.threads)

    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    with neighbour(arguments.neighbour):
        if arguments.decide:
            return _decide(pair, tell)
        mode: Mode = "full" if arguments.full else "quick"
        tally = equal_runs(pair, arguments.runs, mode, tell)
    tell("\n".join(tally.lines()))
    return 1 if tally.failures else 0


def _decide(pair: Pair, tell: Callable[[str], None]) -> int:
    wrong = 0
    for slow, bad in ((False, "fail"), (True, "pass")):
        pair.slow = slow
        timing = one_run(pair, "full")
        found = pair.verdicts(timing, "full")
        words = ", ".join(
            f"{name} {outcome.verdict} at {math.exp(-outcome.estimate_log):.3f} of the time"
            for name, outcome in found.items()
        )
        what = "10 % more time" if slow else "no change"
        tell(f"{what}: {timing.seconds:.0f} s, {timing.replicates} replicates; {words}")
        wrong += sum(outcome.verdict == bad for outcome in found.values())
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == [SLOW_WORKER]:
        serve_slowly()
        raise SystemExit(0)
    raise SystemExit(main())
