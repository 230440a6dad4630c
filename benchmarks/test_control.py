"""Can this run be trusted? One variant against a second worker of itself must give 1."""


def test_control(check_controls, undecided):
    check_controls(undecided)
