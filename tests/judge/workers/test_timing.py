"""Orders, texts and blocks; that real workers are timed, and that disturbed blocks go for all."""

import random
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optimize.judge.workers import blocks, timing
from optimize.judge.workers.process import WorkerError, WorkerSpec
from optimize.judge.workers.timing import (
    CONTROL,
    MEASURED_STARTS,
    Plan,
    Undecided,
    measure,
)
from optimize.judge.workers.workloads import balanced_orders, spread, workload_batches
from optimize.settings.judging import Workload


@given(st.integers(2, 8), st.integers(0, 9))
def test_each_name_stands_everywhere_and_after_each_other_equally_often(size, seed):
    names = [str(number) for number in range(size)]
    rows = balanced_orders(names, random.Random(seed))
    square = [next(rows) for _ in range(size if size % 2 == 0 else 2 * size)]
    for place in range(size):
        assert len(set(Counter(row[place] for row in square).values())) == 1
    followers = Counter(pair for row in square for pair in pairwise(row))
    assert len(followers) == size * (size - 1)
    assert len(set(followers.values())) == 1


@given(
    st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=100),
    st.integers(1, 40),
    st.tuples(st.floats(0, 0.9), st.floats(0.05, 1)).map(
        lambda pair: (pair[0], min(1.0, pair[0] + pair[1]))
    ),
)
def test_a_workload_has_whole_batches_of_its_texts(texts, batch_size, quantiles):
    workload = Workload(batch_size=batch_size, quantiles=quantiles)
    batches = workload_batches(texts, workload)
    assert batches
    assert all(len(batch) == batch_size for batch in batches)
    assert {text for batch in batches for text in batch} <= set(texts)
    assert batches == workload_batches(texts, workload)


@given(st.integers(1, 700), st.sampled_from([1, 32]))
def test_the_texts_span_their_quantiles(count, batch_size):
    """The longest ones too, which set a batch's padding."""
    assume(batch_size == 1 or count >= 128)  # else a last batch may not be whole
    texts = ["x" * length for length in range(1, count + 1)]
    batches = workload_batches(texts, Workload(batch_size=batch_size, texts=64))
    chosen = {len(text) for batch in batches for text in batch}
    assert min(chosen) <= 1 + count / 16
    assert max(chosen) >= count * 15 / 16 - 2


def test_longer_quantiles_have_longer_texts():
    texts = ["x" * length for length in range(1, 101)]
    short = workload_batches(texts, Workload(quantiles=(0.0, 0.1)))
    long = workload_batches(texts, Workload(quantiles=(0.9, 1.0)))
    assert max(len(batch[0]) for batch in short) < min(len(batch[0]) for batch in long)


@given(st.integers(1, 64), st.integers(1, 12))
def test_a_few_rows_in_a_row_span_all_lengths(count, few):
    batches = [[str(place)] for place in range(count)]
    order = spread(batches)
    assert sorted(order) == sorted(batches)
    ranks = [int(batch[0]) for batch in order]
    gaps = [
        gap
        for start in range(count - few)
        for low, high in pairwise(sorted({-1, *ranks[start : start + few], count}))
        for gap in [high - low]
    ]
    # Points of the golden ratio leave no gap above 1 + φ times an even one.
    assert all(gap <= 2.7 * count / few + 1 for gap in gaps)


class Paced:
    """A worker whose calls take what their texts' lengths say, times its folder's name."""

    def __init__(self, spec, text):
        self.spec, self.startup_s, self.about, self.batches = spec, 0.1, {}, []
        self.pace = float(spec.folder.name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def settle(self):
        return None

    def _ns(self, row):
        return self.pace * (20 + len(self.batches[row % len(self.batches)][0])) * 1e4

    def ask(self, what, **given):
        if what == "workload":
            self.batches = given["batches"]
        if what == "warm":
            return {"mean_s": sum(map(self._ns, range(3))) / 3e9}
        if what == "block":
            rows = [given["offset"] + call % given["rows"] for call in range(given["calls"])]
            return {"ns": list(map(self._ns, rows)), "waited_s": 0.0, "ran_s": 0.0}
        return {"peak_rss_bytes": 1}


@given(
    st.lists(st.integers(1, 400), min_size=4, max_size=80),
    st.lists(st.floats(0.2, 90), min_size=2, max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_the_texts_of_a_workload_are_no_part_of_a_ratio(lengths, paces):
    """Whatever number of calls fits into a block: each pair of blocks is of the same texts."""
    batches = {"long": workload_batches(["x" * length for length in lengths], Workload())}
    chosen = [WorkerSpec(f"v{place}", Path(str(pace)), 1) for place, pace in enumerate(paces)]
    chosen.append(WorkerSpec(CONTROL, chosen[0].folder, 1, repeats="v0"))
    plan = Plan(looks=(3,), blocks=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "WorkerProcess", Paced)
        patch.setattr(timing, "neighbours", lambda: 0)
        found = measure(chosen, batches, plan, lambda t: OPEN, lambda line: None, lambda all_: None)
    first = found.series["long"]["v0"]
    for place, pace in enumerate(paces):
        series = found.series["long"][f"v{place}"]
        for ours, theirs in zip(series.blocks_s, first.blocks_s, strict=True):
            assert np.array(ours) / np.array(theirs) == pytest.approx(pace / paces[0], rel=1e-6)


def test_every_text_of_a_workload_is_timed_in_the_end():
    asked = []

    class Listening(Paced):
        def ask(self, what, **given):
            if what == "block":
                asked.append((given["offset"] % 16, given["rows"]))
            return super().ask(what, **given)

    batches = {"long": workload_batches(["x" * length for length in range(1, 17)], Workload())}
    slow = [WorkerSpec("slow", Path("100"), 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "WorkerProcess", Listening)
        patch.setattr(timing, "neighbours", lambda: 0)
        plan = Plan(looks=(2,), blocks=8)
        measure(slow, batches, plan, lambda t: OPEN, lambda line: None, lambda all_: None)
    assert {rows for _, rows in asked} == {1}
    assert {offset for offset, _ in asked} == set(range(16))


def specs(kit, *names):
    chosen = [WorkerSpec(name, kit / name, 1) for name in names]
    return [*chosen, WorkerSpec(CONTROL, kit / names[-1], 1, repeats=names[-1])]


BATCHES = {"typical": [["please track my order"], ["refund"]]}
OPEN = Undecided(frozenset(BATCHES))
PLAN = Plan(looks=(2, 4), blocks=4, block_s=0.001, warm_s=0.01)


def measured(kit, plan=PLAN, undecided=lambda timing: OPEN, **change):
    arguments = {"tell": lambda line: None, "first": lambda workers: None} | change
    chosen = specs(kit, "student-onnx", "student-int8")
    return measure(chosen, BATCHES, plan, undecided, **arguments)


def test_every_variant_has_every_block_of_every_replicate(tiny_kit):
    seen = []
    found = measured(tiny_kit, first=lambda workers: seen.append(sorted(workers)))
    assert seen == [["control", "student-int8", "student-onnx"]]
    assert found.replicates == 4
    for series in found.series["typical"].values():
        assert [len(blocks) for blocks in series.blocks_s] == [4] * 4
        assert all(second > 0 for blocks in series.blocks_s for second in blocks)
    repeated, control = (found.series["typical"][name] for name in ("student-int8", "control"))
    assert repeated.calls == control.calls
    assert {len(v) for v in found.startup_s.values()} == {4}
    assert {len(v) for v in found.peak_rss_bytes.values()} == {4}


def test_a_decided_workload_drops_out_of_later_replicates(tiny_kit):
    """And peaks are of workers that had every workload, so that medians compare like with like."""
    plan, both = replace(PLAN, looks=(1, 2)), BATCHES | {"short": [["refund"]]}
    chosen = specs(tiny_kit, "student-onnx", "student-int8")
    still = Undecided(frozenset({"short"}))
    found = measure(chosen, both, plan, lambda timing: still, lambda line: None, lambda all_: None)
    taken = {name: len(by["control"].blocks_s) for name, by in found.series.items()}
    assert (found.replicates, taken) == (2, {"typical": 1, "short": 2})
    assert {len(peaks) for peaks in found.peak_rss_bytes.values()} == {1}
    assert {len(starts) for starts in found.startup_s.values()} == {2}


def test_undecided_starts_alone_go_on_without_blocks(tiny_kit):
    plan = replace(PLAN, looks=(1, 2))
    found = measured(tiny_kit, plan, lambda timing: Undecided(starts=True))
    assert found.replicates == 2
    assert {len(series.blocks_s) for series in found.series["typical"].values()} == {1}


def test_starts_that_no_gate_judges_are_measured_first_and_then_side_by_side(tiny_kit):
    """Nobody waits for PyTorch twelve times; the bundle's starts are all its own."""
    slow, judged, control = specs(tiny_kit, "student-onnx", "student-int8")
    crowd = [replace(slow, starts_alone=False), judged, control]
    plan = replace(PLAN, looks=(MEASURED_STARTS + 1,))
    found = measure(crowd, BATCHES, plan, lambda timing: OPEN, lambda line: None, lambda all_: None)
    assert len(found.startup_s["student-onnx"]) == MEASURED_STARTS
    assert len(found.startup_s["student-int8"]) == MEASURED_STARTS + 1
    assert len(found.series["typical"]["student-onnx"].blocks_s) == MEASURED_STARTS + 1


def test_side_by_side_is_at_once(tiny_kit, monkeypatch):
    """Two constructors meet before either goes on: one after the other, they would wait in vain."""
    meeting = threading.Barrier(2, timeout=60)

    class Meeting(timing.WorkerProcess):
        def __init__(self, *arguments):
            meeting.wait()
            super().__init__(*arguments)

    monkeypatch.setattr(timing, "WorkerProcess", Meeting)
    first, second, _ = specs(tiny_kit, "student-onnx", "student-int8")
    with ExitStack() as stack:
        assert set(timing._side_by_side([first, second], "text", stack)) == {
            "student-onnx",
            "student-int8",
        }


def test_a_worker_that_fails_beside_others_is_told_and_ends_them(tiny_kit, tmp_path, monkeypatch):
    begun = []

    class Seen(timing.WorkerProcess):
        def __init__(self, *arguments):
            begun.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(timing, "WorkerProcess", Seen)
    good, *_ = specs(tiny_kit, "student-int8")
    with ExitStack() as stack, pytest.raises(WorkerError, match="worker bad"):
        timing._side_by_side([WorkerSpec("bad", tmp_path, 1), good], "text", stack)
    assert [worker._process.poll() is None for worker in begun] == [False, False]


def test_sampling_stops_at_the_look_that_decides(tiny_kit):
    assert measured(tiny_kit, undecided=lambda timing: Undecided()).replicates == 2


def test_the_budget_ends_the_run(tiny_kit):
    told = []
    plan = Plan(looks=(2, 4), blocks=4, block_s=0.001, warm_s=0.01, budget_s=0.0)
    assert measured(tiny_kit, plan, tell=told.append).replicates == 1
    assert told == ["timing: the budget of 0 s is spent"]


class Disturbed:
    """Every second block was throttled."""

    def __init__(self):
        self.calls = 0

    def since_last(self):
        self.calls += 1
        return 0.0, 0.1 if self.calls % 4 == 0 else 0.0


def test_a_disturbed_block_is_dropped_for_all_where_others_are_to_be_had(tiny_kit, monkeypatch):
    disturbed = Disturbed()
    monkeypatch.setattr(timing, "Disturbance", lambda: disturbed)
    # What else runs on the machine must not drop more.
    monkeypatch.setattr(timing, "had_to_wait", lambda answer: False)
    found = measured(tiny_kit, undecided=lambda timing: Undecided())
    lengths = {len(b) for s in found.series["typical"].values() for b in s.blocks_s}
    assert lengths == {4}
    assert found.dropped_blocks == 7
    assert (found.disturbed_blocks, found.kept_blocks) == (0, 8)
    assert all(series.least_s is None for series in found.series["typical"].values())


def test_where_every_block_is_disturbed_all_are_kept_as_intervals(tiny_kit, monkeypatch):
    disturbed = Disturbed()
    disturbed.since_last = lambda: (0.0, 0.1)
    monkeypatch.setattr(timing, "Disturbance", lambda: disturbed)
    found = measured(tiny_kit, undecided=lambda timing: Undecided())
    assert (found.dropped_blocks, found.disturbed_blocks, found.kept_blocks) == (0, 8, 8)
    for series in found.series["typical"].values():
        assert [len(blocks) for blocks in series.blocks_s] == [4, 4]
        pairs = zip(chain(*series.lows_s), chain(*series.blocks_s), strict=True)
        assert all(0 < least <= most for least, most in pairs)
        assert series.p50_ms > 0


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=30),
    st.floats(0, 10),
    st.integers(1, 8),
)
def test_bounds_hold_the_undisturbed_time_between_them(calls_ns, waited_s, spinning):
    most, least = blocks.bounds_s(calls_ns, waited_s, 0.0, spinning)
    assert 0 < least <= most


@given(st.integers(1, 40), st.integers(0, 19), st.floats(0.003, 0.012))
def test_a_slice_that_hits_few_of_many_calls_leaves_the_most_as_it_is(call_ms, hit, slice_s):
    """Twenty equal calls, some of which wait: the true time is between the two."""
    hit = min(hit, 9)
    true_s = call_ms / 1e3
    calls_ns = [round(1e9 * (true_s + (slice_s if n < hit else 0.0))) for n in range(20)]
    most, least = blocks.bounds_s(calls_ns, hit * slice_s)
    assert most == pytest.approx(true_s)
    assert least == pytest.approx(true_s)


@pytest.mark.parametrize(
    ("waited_s", "had_to"), [(0.0, False), (0.003, False), (0.005, True), (float("inf"), True)]
)
def test_a_worker_that_waited_for_a_core_was_disturbed(waited_s, had_to):
    """Its two calls took 20 ms; a fifth of that is allowed."""
    answer = {"ns": [12_000_000, 8_000_000], "waited_s": waited_s}
    assert blocks.had_to_wait(answer) is had_to


def test_beside_a_busy_neighbour_times_are_kept_and_shown(tiny_kit, monkeypatch):
    monkeypatch.setattr(timing, "had_to_wait", lambda answer: True)
    found = measured(tiny_kit, undecided=lambda timing: Undecided())
    assert found.disturbed_blocks == found.kept_blocks > 0
    for series in found.series["typical"].values():
        assert all(series.blocks_s)


@pytest.mark.parametrize(("others", "beside"), [(0, False), (1, True)])
def test_neighbours_that_want_the_cores_are_noted(tiny_kit, monkeypatch, others, beside):
    monkeypatch.setattr(timing, "neighbours", lambda: others)
    found = measured(tiny_kit, undecided=lambda timing: Undecided())
    assert found.beside_neighbours is beside
    assert all(series.beside_neighbours is beside for series in found.series["typical"].values())
    assert found.priority in (True, False)


def test_a_neighbour_now_and_then_is_none(tiny_kit, monkeypatch):
    looks = iter([1] + [0] * 1000)
    monkeypatch.setattr(timing, "neighbours", lambda: next(looks))
    assert not measured(tiny_kit, undecided=lambda timing: Undecided()).beside_neighbours


@given(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=4), st.integers(1, 4), st.data())
def test_rows_of_unlike_lengths_are_all_in_the_most(rows_s, rounds, data):
    """Whatever waits where: a median over all calls would leave out the longest row."""
    waits = [data.draw(st.floats(0, 0.01)) for _ in range(rounds * len(rows_s))]
    calls_ns = [round(1e9 * (rows_s[call % len(rows_s)] + wait)) for call, wait in enumerate(waits)]
    most, least = blocks.bounds_s(calls_ns, sum(waits), rows=len(rows_s))
    true_s = sum(rows_s) / len(rows_s)
    assert least * (1 - 1e-5) <= true_s <= most * (1 + 1e-5)
    assert least < most  # a disturbed block is never taken for an undisturbed one


def test_answers_are_no_part_of_the_budget(monkeypatch):
    now = iter([0.0, 0.0, 10.0, 1000.0, 1010.0])
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(now))
    told = []
    clock = timing._Clock(Plan(looks=(2,), blocks=4, budget_s=25.0), told.append)
    clock.begin()
    clock.end()
    assert clock.goes_on(1), told
    clock.begin()  # after 990 s of answers
    clock.end()
    assert not clock.goes_on(2)


def test_few_waits_among_spinning_threads_leave_much_known():
    """The undisturbed time of 20 ms with 2 ms of waits is near 18, not half of it."""
    _, least = blocks.bounds_s([20_000_000], 0.002, 0.0, spinning=2)
    assert least == pytest.approx(0.0175)
    _, least = blocks.bounds_s([20_000_000], 0.018, 0.0, spinning=2)
    assert least == pytest.approx(0.001)
