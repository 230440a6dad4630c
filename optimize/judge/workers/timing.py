"""Interleaved, randomised, paired timing of workers."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from optimize.judge.records import Timing
from optimize.judge.workers.blocks import Block, block_of, had_to_wait
from optimize.judge.workers.process import WorkerError, WorkerProcess, WorkerSpec
from optimize.judge.workers.recorder import Recorder
from optimize.judge.workers.workloads import Batches, balanced_orders
from optimize.machine import Disturbance, neighbours
from optimize.workspace import Progress

CONTROL = "control"
# Share of a block's wall time that may be stolen by the hypervisor before it is taken again.
STEAL_SHARE = 0.1
# Replicates in which every worker starts alone, whatever its kind.
MEASURED_STARTS = 1
# Rows of a block: more would round up the calls of a model that is little faster than the slowest.
MOST_ROWS = 4
Workers = dict[str, WorkerProcess]


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        looks: numbers of replicates after which one may stop; the last is the most.
        blocks: blocks of every workload in a replicate.
        block_s: least duration of one variant's part of a block.
        warm_s: the longest that calls go on before the first block, per variant and workload; they
            end earlier where they take the same time as those before.
        budget_s: no replicate is started that would end later than this.
        seed: of the orders.
    """

    looks: tuple[int, ...]
    blocks: int
    block_s: float = 0.02
    warm_s: float = 0.15
    budget_s: float = 1800.0
    seed: int = 0


def measure(
    specs: Sequence[WorkerSpec],
    batches: Mapping[str, Batches],
    plan: Plan,
    undecided: Callable[[Timing], Undecided],
    tell: Callable[[str], None],
    first: Callable[[Workers], None],
) -> Timing:
    """Time every worker, replicate by replicate, until all is decided.

    A workload on which every gate is decided drops out of the replicates after that look.

    Args:
        specs: what to time; a spec named ``control`` must follow the one that it repeats.
        batches: texts of each workload, call by call.
        plan: how long.
        undecided: asked at every look which workloads more replicates could decide.
        tell: told the progress.
        first: given the workers of the first replicate after their times were taken, to ask
            them for predictions while they live.
    """
    recorder = Recorder({name: len(calls[0]) for name, calls in batches.items()})
    order = random.Random(plan.seed)
    blocks = _Blocks(plan, order, recorder)
    clock = _Clock(plan, tell)
    left = list(batches)
    for replicate in range(plan.looks[-1]):
        clock.begin()
        with _workers(specs, batches, recorder, order) as workers:
            for name in left:
                blocks.replicate(name, workers)
            if len(left) == len(batches):  # else a worker has done less than its peak is for
                for name, worker in workers.items():
                    recorder.peak(name, worker.ask("memory")["peak_rss_bytes"])
            recorder.replicates += 1
            clock.end()
            if replicate == 0:
                with recorder.spending("answers"):
                    first(workers)
        if recorder.replicates in plan.looks:
            found = undecided(recorder.timing())
            left = [name for name in left if name in found.workloads]
            if not left and not found.starts:
                break
        if not clock.goes_on(recorder.replicates):
            break
    return recorder.timing()


class Undecided(NamedTuple):
    """What further replicates could decide.

    Attributes:
        workloads: those on which a gate is undecided.
        starts: whether a gate on start-up is.
    """

    workloads: frozenset[str] = frozenset()
    starts: bool = False


class _Clock:
    """How long replicates last, and whether there is time for another."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan, self._tell = plan, tell
        self._begun = time.monotonic()
        self._lasted: list[float] = []

    def begin(self) -> None:
        """A replicate begins."""
        self._begun = time.monotonic()

    def end(self) -> None:
        """It ends; what the workers are asked for afterwards is not its."""
        self._lasted.append(time.monotonic() - self._begun)

    def goes_on(self, replicates: int) -> bool:
        """Whether another replicate fits into the budget; tells how much there is to come."""
        # Answers come once, however many there are, and are not timed.
        if sum(self._lasted) + self._lasted[-1] > self._plan.budget_s:
            self._tell(f"timing: the budget of {self._plan.budget_s:.0f} s is spent")
            return False
        goal = next(look for look in self._plan.looks if look >= replicates)
        left = (goal - replicates) * sum(self._lasted) / len(self._lasted)
        words = f"timing: replicate {replicates} of {goal}, {left:.0f} s left"
        self._tell(Progress(words, replicates / goal))
        return True


@contextmanager
def _workers(
    specs: Sequence[WorkerSpec],
    batches: Mapping[str, Batches],
    recorder: Recorder,
    order: random.Random,
) -> Iterator[Workers]:
    """Fresh workers, started in random order and one by one, so that each has the cores alone.

    Where no gate asks how long a start takes, that is measured in the first replicate; later these
    workers start side by side.
    """
    text = next(iter(batches.values()))[0][0]
    measured = recorder.replicates < MEASURED_STARTS
    crowd = [] if measured else [spec for spec in specs if not spec.starts_alone]
    alone = [spec for spec in specs if spec not in crowd]
    with ExitStack() as stack:
        with recorder.spending("starting"):
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
        self._rows: dict[str, int] = {}
        self._next: dict[str, int] = defaultdict(int)

    def replicate(self, workload: str, workers: Workers) -> None:
        """One workload in one replicate: warm up, then blocks in balanced random order."""
        wanted = {}
        with self._recorder.spending("warming up"):
            for name, worker in workers.items():
                answer = worker.ask("warm", name=workload, seconds=self._plan.warm_s)
                wanted[name] = max(1, round(self._plan.block_s / answer["mean_s"] + 0.5))
        if workload not in self._rows:  # held from the first replicate on
            self._share_rows(workload, wanted, workers)
        for worker in workers.values():
            worker.settle()
        with self._recorder.spending("blocks"):
            kept = self._kept(workload, workers)
        for name in workers:
            blocks = [taken[name] for taken in kept]
            self._recorder.blocks(workload, name, blocks, self._calls[workload, name])

    def _share_rows(self, workload: str, wanted: Mapping[str, int], workers: Workers) -> None:
        """How many rows a block has: what the slowest has calls for, and each goes round them.

        So a block holds all workers against each other on the same texts. If each took as many
        rows as it has calls, one of five calls and one of six would differ by a text, the same one
        in every replicate, and a model that is 7 % slower could be measured as 3 % faster.
        """
        rows = self._rows[workload] = min(MOST_ROWS, *wanted.values())
        for name, calls in wanted.items():
            self._calls[workload, name] = rows * math.ceil(calls / rows)
        if CONTROL in workers:
            # It does as many calls as what it repeats, to be its equal.
            repeated = str(workers[CONTROL].spec.repeats)
            self._calls[workload, CONTROL] = self._calls[workload, repeated]

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
            taken, disturbed = self._take(workload, workers, names, self._next[workload])
            # On over the replicates, so that what hangs on the texts is scatter and no bias.
            self._next[workload] += self._rows[workload]
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
            answers[name] = workers[name].ask(
                "block",
                name=workload,
                offset=offset,
                rows=self._rows[workload],
                calls=self._calls[workload, name],
            )
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
        rows = self._rows[workload]
        taken = {
            name: block_of(answer, workers[name].spec, rows, away_s)
            for name, answer in answers.items()
        }
        return taken, disturbed
