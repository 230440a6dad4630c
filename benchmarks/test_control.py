"""Can this run be trusted? One variant against a second worker of itself must give 1."""

import math
import warnings

from optimize.judge.gates.control import widening_of
from optimize.judge.reports.tables import control_words


def test_control(report, undecided):
    assert report.controls, "the A/A control was not measured"
    for control in report.controls:
        if not math.isfinite(widening_of(control)):
            undecided(control_words(control))
        elif not control.holds:
            warnings.warn(control_words(control), stacklevel=1)
