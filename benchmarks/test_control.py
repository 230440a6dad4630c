"""Can this run be trusted? One variant against a second worker of itself must give 1."""

from optimize.judge.report import control_words


def test_control(report, undecided):
    assert report.controls, "the A/A control was not measured"
    for control in report.controls:
        if not control.holds:
            undecided(control_words(control))
