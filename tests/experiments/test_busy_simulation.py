"""Beside busy neighbours no run is wrong, and far from the limit one decides."""

import pytest

from optimize.experiments.busy_simulation import (
    NEIGHBOURS,
    RATIOS,
    Neighbour,
    main,
    simulate,
    table_lines,
)


@pytest.mark.parametrize("slows", ["either", "reference", "candidate"])
def test_requirements_hold_in_20_quick_runs(slows):
    outcome = simulate(Neighbour(0.5, slows), "quick", runs=20, seed=1)
    assert outcome.unmet() == []
    assert set(outcome.verdicts) == set(RATIOS)


@pytest.mark.slow
def test_requirements_hold_in_1000_runs(capsys):
    status = main(["--runs", "1000"])
    assert status == 0, capsys.readouterr().out


def test_table_names_what_is_not_met():
    outcome = simulate(NEIGHBOURS[0], "quick", runs=2, seed=0)
    outcome.verdicts[0.95]["pass"] += 1
    assert table_lines([outcome])[1].endswith("1 wrong at 0.95 times the limit")
