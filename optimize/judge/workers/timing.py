"""Interleaved, randomised, paired timing of workers."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from optimize.judge.records import Series, Timing
from optimize.judge.workers.blocks import Block, block_of, had_to_wait
from optimize.judge.workers.process import WorkerError, WorkerProcess, WorkerSpec
from optimize.judge.workers.workloads import Batches, balanced_orders
from optimize.machine import Disturbance, neighbours

CONTROL = "control"
# Share of a block's wall time that may be stolen by the hypervisor before it is taken again.
STEAL_SHARE = 0.1
# Share of looks at which others wanted the cores, from which a workload counts as beside
# neighbours.
NEIGHBOURS_SHARE = 0.1
# Replicates in which every worker starts alone, whatever its kind: as many as quick mode takes.
MEASURED_STARTS = 3
Workers = dict[str, WorkerProcess]


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        looks: numbers of replicates after which one may stop; the last is the most.
        blocks: blocks of every workload in a replicate.
        block_s: least duration of one variant's part of a block.
        warm_s: calls before the first block, per variant and workload.
        budget_s: no replicate is started that would end later than this.
        seed: of the orders.
    """

    looks: tuple[int, ...]
    blocks: int
    block_s: float = 0.02
    warm_s: float = 0.15
    budget_s: float = 1800.0
    seed: int = 0


class Recorder:
    """Collects what the replicates of a run measure."""

    def __init__(self, batch_sizes: dict[str, int]) -> None:
        self._batch_sizes = batch_sizes
        self._blocks: dict[tuple[str, str], list[list[Block]]] = defaultdict(list)
        self._per_block: dict[tuple[str, str], int] = {}
        self._looks: dict[str, list[bool]] = defaultdict(list)
        self._startup: dict[str, list[float]] = defaultdict(list)
        self._peak: dict[str, list[int]] = defaultdict(list)
        self._start = time.monotonic()
        self.replicates = 0
        self.dropped = 0
        self.disturbed = 0
        self.kept = 0
        self._priority: list[bool] = []

    def startup(self, variant: str, seconds: float) -> None:
        """Note a start-up."""
        self._startup[variant].append(seconds)

    def priority(self, has: bool) -> None:
        """Note whether a worker runs before other processes."""
        self._priority.append(has)

    def peak(self, variant: str, peak_bytes: int) -> None:
        """Note a worker's peak memory."""
        self._peak[variant].append(peak_bytes)

    def look(self, workload: str, others: int) -> None:
        """Note how many others wanted the cores while no worker did."""
        self._looks[workload].append(others > 0)

    def blocks(self, workload: str, variant: str, blocks: Sequence[Block], calls: int) -> None:
        """Note one replicate's blocks, of so many calls each."""
        self._blocks[workload, variant].append(list(blocks))
        self._per_block[workload, variant] = calls

    def timing(self) -> Timing:
        """All that was noted so far."""
        series: dict[str, dict[str, Series]] = defaultdict(dict)
        for (workload, variant), replicates in self._blocks.items():
            every = [block for blocks in replicates for block in blocks]
            calls_ms = np.concatenate([block.calls_ns for block in every]) / 1e6
            points = all(block.least_s == block.most_s for block in every)
            series[workload][variant] = Series(
                blocks_s=tuple(tuple(block.most_s for block in blocks) for blocks in replicates),
                least_s=None
                if points
                else tuple(tuple(block.least_s for block in blocks) for blocks in replicates),
                beside_neighbours=float(np.mean(self._looks[workload])) > NEIGHBOURS_SHARE,
                calls=self._per_block[workload, variant],
                p50_ms=float(np.median(calls_ms)),
                p95_ms=float(np.percentile(calls_ms, 95)),
            )
        return Timing(
            series=dict(series),
            batch_sizes=self._batch_sizes,
            startup_s={name: tuple(values) for name, values in self._startup.items()},
            peak_rss_bytes={name: tuple(values) for name, values in self._peak.items()},
            replicates=self.replicates,
            dropped_blocks=self.dropped,
            disturbed_blocks=self.disturbed,
            kept_blocks=self.kept,
            priority=all(self._priority),
            seconds=time.monotonic() - self._start,
        )


def measure(
    specs: Sequence[WorkerSpec],
    batches: Mapping[str, Batches],
    plan: Plan,
    decided: Callable[[Timing], bool],
    tell: Callable[[str], None],
    first: Callable[[Workers], None],
) -> Timing:
    """Time every worker on every workload, replicate by replicate, until all is decided.

    Args:
        specs: what to time; a spec named ``control`` must follow the one that it repeats.
        batches: texts of each workload, call by call.
        plan: how long.
        decided: asked at every look whether more would change nothing.
        tell: told the progress.
        first: given the workers of the first replicate after their times were taken, to ask
            them for predictions while they live.
    """
    recorder = Recorder({name: len(calls[0]) for name, calls in batches.items()})
    order = random.Random(plan.seed)
    blocks = _Blocks(plan, order, recorder)
    started = time.monotonic()
    spent_at_first = 0.0
    for replicate in range(plan.looks[-1]):
        begun = time.monotonic()
        with _workers(specs, batches, recorder, order) as workers:
            for name in batches:
                blocks.replicate(name, workers)
            for name, worker in workers.items():
                recorder.peak(name, worker.ask("memory")["peak_rss_bytes"])
            recorder.replicates += 1
            lasted = time.monotonic() - begun
            if replicate == 0:
                first(workers)
                spent_at_first = time.monotonic() - begun - lasted
        if recorder.replicates in plan.looks and decided(recorder.timing()):
            break
        spent = time.monotonic() - started
        if spent + lasted > plan.budget_s:
            tell(f"timing: the budget of {plan.budget_s:.0f} s is spent")
            break
        goal = next(look for look in plan.looks if look >= recorder.replicates)
        mean = (spent - spent_at_first) / recorder.replicates
        left = (goal - recorder.replicates) * mean
        tell(f"timing: replicate {recorder.replicates} of {goal}, {left:.0f} s left")
    return recorder.timing()


@contextmanager
def _workers(
    specs: Sequence[WorkerSpec],
    batches: Mapping[str, Batches],
    recorder: Recorder,
    order: random.Random,
) -> Iterator[Workers]:
    """Fresh workers, started in random order and one by one, so that each has the cores alone.

    PyTorch takes seconds to start. Where no gate asks how many, that is measured in the first
    replicates; later these workers start side by side.
    """
    text = next(iter(batches.values()))[0][0]
    measured = recorder.replicates < MEASURED_STARTS
    crowd = [] if measured else [spec for spec in specs if not spec.starts_alone]
    alone = [spec for spec in specs if spec not in crowd]
    with ExitStack() as stack:
        started = _side_by_side(order.sample(crowd, len(crowd)), text, stack)
        for spec in order.sample(alone, len(alone)):
            worker = stack.enter_context(WorkerProcess(spec, text))
            recorder.startup(spec.name, worker.startup_s)
            started[spec.name] = worker
        for worker in started.values():
            recorder.priority(bool(worker.about.get("priority")))
            for name, calls in batches.items():
                worker.ask("workload", name=name, batches=calls)
        yield {spec.name: started[spec.name] for spec in specs}


def _side_by_side(specs: Sequence[WorkerSpec], text: str, stack: ExitStack) -> Workers:
    """Workers started at once; where one fails, the stack ends the others."""
    if not specs:
        return {}
    with ThreadPoolExecutor(len(specs)) as pool:
        begun = [pool.submit(WorkerProcess, spec, text) for spec in specs]
    workers = [stack.enter_context(each.result()) for each in begun if not each.exception()]
    if failures := [str(each.exception()) for each in begun if each.exception()]:
        raise WorkerError("\n".join(failures))
    return {worker.spec.name: worker for worker in workers}


class _Blocks:
    """Takes the blocks of one replicate after another."""

    def __init__(self, plan: Plan, order: random.Random, recorder: Recorder) -> None:
        self._plan = plan
        self._order = order
        self._recorder = recorder
        self._disturbance = Disturbance()
        self._calls: dict[tuple[str, str], int] = {}

    def replicate(self, workload: str, workers: Workers) -> None:
        """One workload in one replicate: warm up, then blocks in balanced random order."""
        for name, worker in workers.items():
            mean_s = worker.ask("warm", name=workload, seconds=self._plan.warm_s)["mean_s"]
            # Held from the first replicate on.
            wanted = max(1, round(self._plan.block_s / mean_s + 0.5))
            self._calls.setdefault((workload, name), wanted)
        if CONTROL in workers:
            # It does as many calls as what it repeats, to be its equal.
            repeated = str(workers[CONTROL].spec.repeats)
            self._calls[workload, CONTROL] = self._calls[workload, repeated]
        for worker in workers.values():
            worker.settle()
        kept = self._kept(workload, workers)
        for name in workers:
            blocks = [taken[name] for taken in kept]
            self._recorder.blocks(workload, name, blocks, self._calls[workload, name])

    def _kept(self, workload: str, workers: Workers) -> list[dict[str, Block]]:
        """Undisturbed blocks, or all where those are not to be had.

        A disturbed block is taken again while a third of the blocks are not: then the machine is
        one that leaves a worker alone. On another no number of blocks would do: all are kept, as
        intervals.
        """
        wanted = self._plan.blocks
        points: list[dict[str, Block]] = []
        every: list[dict[str, Block]] = []
        rows = balanced_orders(list(workers), self._order)
        while len(every) < 2 * wanted and len(points) < wanted:
            if len(every) >= wanted and 3 * len(points) < len(every):
                break
            names = next(rows)
            taken, disturbed = self._take(workload, workers, names, offset=7 * len(every))
            every.append(taken)
            if not disturbed:
                points.append(taken)
        enough = 2 * len(points) >= wanted
        chosen = points if enough else every
        self._recorder.kept += len(chosen)
        self._recorder.dropped += len(every) - len(chosen)
        self._recorder.disturbed += 0 if enough else len(chosen) - len(points)
        return chosen

    def _take(
        self, workload: str, workers: Workers, names: Sequence[str], offset: int
    ) -> tuple[dict[str, Block], bool]:
        """One block, a part a worker in this order, and whether others disturbed it."""
        self._disturbance.since_last()
        begun = time.monotonic()
        answers = {}
        for name in names:
            calls = self._calls[workload, name]
            answers[name] = workers[name].ask("block", name=workload, offset=offset, calls=calls)
            workers[name].settle()
            self._recorder.look(workload, neighbours())
        lasted = time.monotonic() - begun
        stolen, throttled = self._disturbance.since_last()
        disturbed = (
            throttled > 0
            or stolen > STEAL_SHARE * lasted
            or any(map(had_to_wait, answers.values()))
        )
        away_s = stolen + throttled if disturbed else None
        taken = {
            name: block_of(answer, workers[name].spec, away_s) for name, answer in answers.items()
        }
        return taken, disturbed
