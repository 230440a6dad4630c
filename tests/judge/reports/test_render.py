"""The verdict on one screen: what failed, line by line, and each remedy once."""

import re

import pytest

from conftest import make_report
from optimize.judge.reports.render import markdown, svg, terminal


def several(*remedies):
    report = make_report("fail")
    failed = next(gate for gate in report.gates if gate.verdict == "fail")
    gates = [
        failed.model_copy(update={"gate": f"gate{n}", "remedy": remedy})
        for n, remedy in enumerate(remedies)
    ]
    return report.model_copy(update={"gates": tuple(gates)})


def test_a_remedy_that_all_share_is_told_once():
    shown = terminal(several("fewer layers", "fewer layers"), 160, colour=False).splitlines()
    assert shown[-4].startswith("FAIL gate0[typical]: 1.5×, limit min")
    assert shown[-3].startswith("FAIL gate1[typical]: ")
    assert shown[-2:] == ["Try: fewer layers.", "FAIL: 0 of 2 gates passed"]


def test_several_remedies_name_their_gates():
    report = several("fewer layers", "more texts", "fewer layers")
    lines = [
        "Try, for gate0[typical], gate2[typical]: fewer layers.",
        "Try, for gate1[typical]: more texts.",
    ]
    shown = terminal(report, 160, colour=False).splitlines()
    assert shown[-3:-1] == lines
    for line in lines:
        assert f"- {line}" in markdown(report).splitlines()


@pytest.mark.parametrize(
    ("priority", "beside", "told"),
    [(False, True, True), (True, True, False), (False, False, False), (None, True, False)],
)
def test_workers_that_were_not_served_first_are_told_where_it_mattered(priority, beside, told):
    report = make_report("pass")
    series = {
        workload: {
            name: each.model_copy(update={"beside_neighbours": beside})
            for name, each in variants.items()
        }
        for workload, variants in report.timing.series.items()
    }
    timing = report.timing.model_copy(update={"series": series, "priority": priority})
    shown = terminal(report.model_copy(update={"timing": timing}), 160, colour=False)
    assert ("others wanted the cores" in shown) is beside
    assert ("sudo prlimit --pid $$ --nice=40" in shown) is told


def test_a_pass_has_no_remedy():
    assert "Try" not in terminal(make_report("pass"), 160, colour=False)


@pytest.mark.parametrize("width", [30, 80, 120, 400])
def test_no_figure_and_no_verdict_is_cut(canned_report, width):
    """As a table where it has room, as lines where not; a file takes any width."""
    report = canned_report("pass")
    long = "at most " + 300 * "9"
    gates = tuple(gate.model_copy(update={"limit": long}) for gate in report.gates)
    report = report.model_copy(update={"gates": gates})
    for colour in (True, False):
        told = re.sub("\x1b\\[[0-9;]*m", "", terminal(report, width, colour=colour))
        assert "…" not in told
        assert told.count("9") >= 600
        assert told.count("PASS") == 4
        if colour:
            assert max(map(len, told.splitlines())) <= width
    assert "…" not in svg(report)


@pytest.mark.parametrize(
    ("replicates", "told"),
    [(3, "three replicates"), (1, "1 of three replicates, since judge.budget_s was spent")],
)
def test_quick_mode_says_how_many_replicates_it_took(replicates, told):
    report = make_report("pass")
    timing = report.timing.model_copy(update={"replicates": replicates})
    quick = report.model_copy(update={"timing": timing, "mode": "quick"})
    assert f"quick mode: {told}; brackets" in terminal(quick, 400, colour=False)
