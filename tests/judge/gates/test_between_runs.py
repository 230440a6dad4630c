"""What several runs of a baseline tell of the next one."""

import math

import numpy as np
import pytest
from two_runs import evidence, report, results, timing

from optimize.judge.gates.between_runs import spread_of
from optimize.judge.gates.evidence import Stored
from optimize.judge.records import Series, Timing
from optimize.judge.statistics.sequential import Interval

WORKLOADS = ("short", "typical", "long", "batch32")


def run(rng, spread, workloads=WORKLOADS, replicates=12):
    """A run whose log ratio is off by its own draw, the same in every replicate."""
    found = {}
    for name in workloads:
        off = rng.normal(0.0, spread)
        blocks = [
            tuple(np.exp(math.log(2.0) + off + rng.normal(0, 0.005, 4))) for _ in range(replicates)
        ]
        found[name] = {
            "student-onnx": Series(blocks_s=tuple(blocks), calls=1, p50_ms=1, p95_ms=1),
            "student-int8": Series(
                blocks_s=((1.0,) * 4,) * replicates, calls=1, p50_ms=1, p95_ms=1
            ),
        }
    return Timing(
        series=found,
        batch_sizes=dict.fromkeys(workloads, 1),
        startup_s={},
        peak_rss_bytes={},
        replicates=replicates,
        dropped_blocks=0,
        seconds=1.0,
    )


def test_the_next_run_lies_within_the_interval():
    """Of 400 next runs some 1 % each side fall out at that level, each run on its own draw."""
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(400):
        runs = [run(rng, 0.02, replicates=2) for _ in range(5)]
        found = spread_of(runs, "typical", "student-onnx", "student-int8", 0.01)
        ahead = math.log(2.0) + rng.normal(0.0, 0.02)
        outside += abs(ahead - found.mean) > found.half_width
    assert outside <= 16  # 8 expected; the interval never goes below a workload's own spread


def test_a_wide_workload_keeps_its_own_spread():
    rng = np.random.default_rng(1)
    quiet = [run(rng, 0.001) for _ in range(3)]
    runs = []
    for off, base in zip((-0.2, 0.0, 0.2), quiet, strict=True):
        slow = base.series["batch32"]["student-onnx"]
        blocks = tuple(tuple(t * math.exp(off) for t in row) for row in slow.blocks_s)
        pair = base.series["batch32"] | {
            "student-onnx": slow.model_copy(update={"blocks_s": blocks})
        }
        runs.append(base.model_copy(update={"series": base.series | {"batch32": pair}}))
    wide = spread_of(runs, "batch32", "student-onnx", "student-int8", 0.01)
    narrow = spread_of(quiet, "batch32", "student-onnx", "student-int8", 0.01)
    assert wide.half_width > 0.2 > 10 * narrow.half_width


def test_a_run_without_times_decides_nothing():
    rng = np.random.default_rng(2)
    runs = [run(rng, 0.01), run(rng, 0.01, replicates=0)]
    found = spread_of(runs, "typical", "student-onnx", "student-int8", 0.01)
    assert all(map(math.isnan, found.change(Interval(0.0, 0.1))))


SPREADS = {  # seconds of the candidate in the further runs, and the verdict at 0.5 s and at 0.65 s
    "runs alike": ((0.5, 0.5001, 0.4999, 0.5), "pass", "fail"),
    "runs far apart": ((0.42, 0.6, 0.45, 0.55), "inconclusive", "inconclusive"),
}


@pytest.mark.parametrize(("further", "same", "slower"), SPREADS.values(), ids=SPREADS)
def test_what_runs_differ_by_is_in_the_verdict(further, same, slower):
    stored = Stored(report(runs=tuple(timing(seconds) for seconds in further)), ())
    for seconds, verdict in ((0.5, same), (0.65, slower)):
        found = results(evidence(seconds, stored=stored))["regression-speed"]
        assert found.verdict == verdict, found
        assert "over 5 runs" in found.reason


def test_one_run_says_that_it_is_one():
    found = results(evidence(stored=Stored(report(), ())))["regression-speed"]
    assert "the baseline is one run" in found.reason
