"""The script that counts blocks whose threads waited for a core."""

from contextlib import nullcontext

import pytest

from optimize.experiments import placement
from optimize.experiments.placement import WAYS, blocks_that_waited, main


def test_a_line_for_each_way(tiny_kit, capfd):
    assert main([str(tiny_kit), "--blocks", "2"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(WAYS)
    assert " of 2 blocks waited over 20% of their time" in lines[0]
    for line in lines[1:]:  # whether they can be had depends on who runs this, and beside what
        assert " of 2 blocks " in line or line.endswith(" cannot be had here")


@pytest.mark.parametrize(("waits", "counted"), [(0.0, 0), (3600.0, 3)])
def test_a_block_that_waited_counts(monkeypatch, waits, counted):
    """The threads' wait is read before and after each block."""
    told = iter(waits * number for number in range(6))
    monkeypatch.setattr(placement, "run_queue_wait_s", lambda: next(told))
    monkeypatch.setattr(placement, "PAUSE_S", 0.0)
    calls, entered = [], []

    def within():
        entered.append(1)
        return nullcontext()

    assert blocks_that_waited(lambda: calls.append(1), within, 3) == counted
    assert (len(calls), len(entered)) == (3 * placement.CALLS, 3)
