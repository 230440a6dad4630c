"""What the child does before its first block."""

from contextlib import contextmanager

import numpy as np
import pytest

from optimize.judge.workers import worker as module
from optimize.judge.workers.worker import LEAST_CALLS, Worker, _warmed


@pytest.mark.parametrize(
    ("durations", "lasted_s", "warm"),
    [
        ([100] * (LEAST_CALLS - 1), 9.0, False),  # too few calls, however long they took
        ([100] * LEAST_CALLS, 9.0, True),  # time is up
        ([100] * 100, 0.01, False),  # a quarter of the time at least
        ([100] * 100, 0.06, True),
        (list(range(300, 100, -2)), 0.06, False),  # still becoming faster
    ],
)
def test_calls_go_on_until_they_take_the_same_time(durations, lasted_s, warm):
    assert _warmed(durations, lasted_s, 0.15) is warm


class Watched:
    """A model that notes what it was called in."""

    def __init__(self, allowed):
        self.allowed = allowed
        self.within = []
        self.seen = set()

    @contextmanager
    def real_time(self):
        with self._noted("real time" if self.allowed else ""):
            yield self.allowed

    @contextmanager
    def apart(self, threads):
        with self._noted(f"{threads} threads apart"):
            yield True

    @contextmanager
    def _noted(self, what):
        self.within.append(what)
        yield
        self.within.pop()

    def predict_proba(self, texts, *, batch_size):
        self.seen.add("".join(self.within))
        return np.ones((len(texts), 1), dtype=np.float32)


@pytest.mark.parametrize(("allowed", "within"), [(True, "real time"), (False, "2 threads apart")])
@pytest.mark.parametrize(
    ("request_", "timed"),
    [
        ({"op": "warm", "name": "short", "seconds": 0.01}, True),
        ({"op": "block", "name": "short", "offset": 0, "rows": 1, "calls": 3}, True),
        # It may last for minutes, and no time is taken.
        ({"op": "predict", "texts": ["a", "b"], "batch_size": 1}, False),
    ],
)
def test_what_is_timed_is_undisturbed_and_nothing_else(
    request_, timed, allowed, within, monkeypatch
):
    """In real time, and where that is refused with a core for each thread."""
    model = Watched(allowed)
    monkeypatch.setattr(module, "real_time", model.real_time)
    monkeypatch.setattr(module, "apart", model.apart)
    worker = Worker(model, 2)
    worker.answer({"op": "workload", "name": "short", "batches": [["a"]]})
    worker.answer(dict(request_))
    assert model.seen == {within if timed else ""}
    assert not model.within
