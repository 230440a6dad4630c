"""How often two threads of one worker share a core while another is free, on this machine.

    python -m optimize.experiments.placement KIT [--blocks 300]

Blocks of short calls after a pause, as a worker has them between those of others: with the threads
where the system puts them, with each held on a core of its own, and in real time. A process for
each way, one after the other. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from optimize.bundle.classifier import Classifier
from optimize.judge.kit import read_kit
from optimize.machine import available_cores, run_queue_wait_s
from optimize.placement import apart
from optimize.priority import real_time, take_priority

WAYS = ("free", "apart", "real-time")
Way = Callable[[], AbstractContextManager[object]]
CALLS, WARM_UP = 17, 20
PAUSE_S = 0.15
# Share of a block's time that its threads wait for a core, from which on it counts.
WAITED = 0.2


def blocks_that_waited(call: Callable[[], object], within: Way, blocks: int) -> int:
    """In how many blocks the threads waited for a core for more than :data:`WAITED` of its time.

    Args:
        call: what a block does :data:`CALLS` times.
        within: each block runs within one of these.
        blocks: how many.
    """
    waited = 0
    for _ in range(blocks):
        time.sleep(PAUSE_S)
        with within():
            before, started = run_queue_wait_s(), time.perf_counter()
            for _ in range(CALLS):
                call()
            lasted = time.perf_counter() - started
            waited += run_queue_wait_s() - before > WAITED * lasted
    return waited


def _one_way(folder: Path, way: str, blocks: int) -> None:
    take_priority()
    kit, threads = read_kit(folder), available_cores()
    text = kit.examples("test").texts[0]
    model = Classifier(kit.variants["student-int8"].folder, threads=threads)

    def call() -> None:
        model.predict_proba([text], batch_size=1)

    for _ in range(WARM_UP):
        call()
    ways: dict[str, Way] = {
        "free": nullcontext,
        "apart": partial(apart, threads),
        "real-time": real_time,
    }
    within = ways[way]
    with within() as has:
        if has is False:
            sys.stdout.write(f"{way:<10} cannot be had here\n")
            return
    waited = blocks_that_waited(call, within, blocks)
    sys.stdout.write(
        f"{way:<10} {waited} of {blocks} blocks waited over {WAITED:.0%} of their time\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kit", type=Path)
    parser.add_argument("--blocks", type=int, default=300)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.way:
        _one_way(chosen.kit, chosen.way, chosen.blocks)
        return 0
    command = [sys.executable, "-m", __spec__.name, str(chosen.kit)]
    for way in WAYS:
        asked = [*command, "--blocks", str(chosen.blocks), "--way", way]
        if code := subprocess.run(asked, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
