"""What the child does before its first block."""

import pytest

from optimize.judge.workers.worker import LEAST_CALLS, _warmed


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
