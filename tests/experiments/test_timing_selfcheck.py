"""The check of this machine's own error rates."""

import numpy as np
import pytest

from optimize.experiments import timing_selfcheck as selfcheck
from optimize.experiments.timing_selfcheck import (
    SLOWER,
    Pair,
    SlowModel,
    Tally,
    equal_runs,
    main,
    neighbour,
    one_run,
)
from optimize.judge.kit import read_kit
from optimize.judge.records import Series, Timing


def timing(ratio, scatter=0.0):
    rng = np.random.default_rng(0)

    def series(seconds):
        noise = np.exp(scatter * rng.standard_normal((3, 8)))
        blocks = tuple(tuple(row) for row in (seconds * noise).tolist())
        return Series(blocks_s=blocks, calls=1, p50_ms=1.0, p95_ms=1.0)

    return Timing(
        series={"short": {selfcheck.OURS: series(1.0), selfcheck.THEIRS: series(ratio)}},
        batch_sizes={"short": 1},
        startup_s={},
        peak_rss_bytes={},
        replicates=3,
        dropped_blocks=0,
        seconds=1.0,
    )


@pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "pass"), (1.5, "fail"), (1.05, "pass")])
def test_tally_counts_what_the_gate_says(ratio, verdict):
    tally = Tally()
    pair = Pair(None, {"short": []}, 1)
    for _ in range(2):
        tally.add(pair, timing(ratio))
    assert tally.verdicts["short"][verdict] == 2
    assert tally.failures == (2 if verdict == "fail" else 0)
    assert len(tally.replicates["short"]) == 6
    assert "replicate SD" in tally.lines()[0]


def test_slow_model_gives_the_same_answers_later(monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr(selfcheck.time, "perf_counter", clock)

    class Model:
        def predict_proba(self, texts, *, batch_size):
            now[0] += 1.0
            return np.ones((len(texts), 2))

    started = now[0]
    answer = SlowModel(Model(), SLOWER).predict_proba(["a", "b"], batch_size=2)
    assert answer.shape == (2, 2)
    assert now[0] - started == pytest.approx(SLOWER, abs=0.01)


def test_runs_of_real_workers(tiny_kit, monkeypatch):
    monkeypatch.setattr(selfcheck, "QUICK_REPLICATES", 1)
    pair = Pair.of(read_kit(tiny_kit), ["short"], 1)
    tally = equal_runs(pair, 2, "quick", lambda line: None)
    assert sum(tally.verdicts["short"].values()) == 2
    assert len(tally.replicates["short"]) == 2


def test_a_full_run_looks_until_it_decides(monkeypatch):
    looks = []

    def measure(pair, plan, undecided):
        looks.extend(undecided(timing(1.0)).workloads for _ in plan.looks)
        return timing(1.0)

    monkeypatch.setattr(Pair, "measure", measure)
    one_run(Pair(None, {"short": []}, 1), "full")
    # Three replicates decide nothing in full mode.
    assert looks == [{"short"}] * len(selfcheck.LOOKS)
    looks.clear()
    one_run(Pair(None, {"short": []}, 1), "quick")
    assert looks == [frozenset()]


def test_slow_worker_answers_like_any_other(tiny_kit):
    """In its own process, over the same protocol; how much slower it is, is no test's business."""
    from optimize.judge.workers.timing import Plan, Undecided

    pair = Pair.of(read_kit(tiny_kit), ["short"], 1)
    pair.slow = True
    found = pair.measure(Plan(looks=(1,), blocks=2), lambda timing: Undecided())
    series = found.series["short"]
    assert series[selfcheck.THEIRS].blocks_s
    assert set(series) == {selfcheck.OURS, selfcheck.THEIRS}


def test_neighbour_lives_as_long_as_the_run(monkeypatch):
    started = []
    popen = selfcheck.subprocess.Popen

    def noted(*arguments, **more):
        started.append(popen(*arguments, **more))
        return started[-1]

    monkeypatch.setattr(selfcheck.subprocess, "Popen", noted)
    with neighbour(wanted=False):
        assert started == []
    with neighbour(wanted=True):
        assert started[0].poll() is None
    assert started[0].poll() is not None


def test_command_prints_the_table(tiny_kit, monkeypatch, capsys):
    monkeypatch.setattr(selfcheck, "QUICK_REPLICATES", 1)
    code = main([str(tiny_kit), "--runs", "1", "--workloads", "short", "--threads", "1"])
    told = capsys.readouterr().out
    assert "replicate SD" in told
    assert code in (0, 1)
