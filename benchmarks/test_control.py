"""Can this run be trusted? One variant against a second worker of itself must give 1."""


def test_control(report):
    assert report.controls, "the A/A control was not measured"
    for control in report.controls:
        assert control.holds, f"{control.workload}: {control.ratio:.3f}×, {control.interval}"
