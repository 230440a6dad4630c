"""Which workers a run starts, and which of their starts it measures every time."""

import pytest
import two_runs

from optimize.judge.gates.evidence import Stored
from optimize.judge.kit import read_kit
from optimize.judge.run import _Run
from optimize.judge.workers.timing import CONTROL
from optimize.settings.load import against_baseline, parse

VARIANTS = ["teacher-torch", "student-torch", "student-int8"]


def crowd(kit, **table):
    """Names of the workers that may start side by side."""
    judge = {"variants": VARIANTS} | table.pop("judge", {})
    run = _Run(
        read_kit(kit), parse({"judge": judge, **table}, "test"), "t", "full", lambda _: None, None
    )
    return {spec.name for spec in run._specs() if not spec.starts_alone}


@pytest.mark.torch
def test_starts_that_no_gate_judges_need_not_be_alone(tiny_kit):
    assert crowd(tiny_kit) == {"teacher-torch", "student-torch"}
    with_onnx = {"variants": [*VARIANTS, "student-onnx"]}
    assert crowd(tiny_kit, judge=with_onnx) == {"teacher-torch", "student-torch", "student-onnx"}


@pytest.mark.torch
def test_a_start_that_is_judged_is_alone_each_time(tiny_kit):
    gate = {"kind": "startup", "candidate": "student-torch", "max_startup_s": 9.0}
    assert crowd(tiny_kit, gates={"start": gate}) == {"teacher-torch"}
    other = crowd(tiny_kit, regression={"candidate": "student-torch"})
    assert other == {"teacher-torch", "student-int8", CONTROL}


@pytest.mark.torch
def test_a_control_starts_as_its_twin_does(tiny_kit):
    repeated = {"control": "teacher-torch"}
    assert crowd(tiny_kit, judge=repeated) == {"teacher-torch", "student-torch", CONTROL}


def test_no_worker_has_more_threads_than_there_are_cores(tiny_kit, monkeypatch):
    """PyTorch would take all that it is given, and be held against ONNX Runtime on the cores."""
    monkeypatch.setattr("optimize.judge.run.available_cores", lambda: 2)
    judge, told = {"variants": VARIANTS}, []
    for threads, (used, lines) in {8: (2, 1), 1: (1, 0), 0: (2, 0)}.items():
        chosen = parse({"judge": judge | {"threads": threads}}, "test")
        run = _Run(read_kit(tiny_kit), chosen, "t", "full", told.append, None)
        assert {spec.threads for spec in run._specs()} == {used}
        assert len(told) == lines
        told.clear()


@pytest.mark.parametrize("unlike", [(), ("cpu: a → b",)])
def test_times_of_another_machine_are_not_measured_for(tiny_kit, unlike, monkeypatch):
    """Only what further replicates can decide keeps a run going."""
    chosen = against_baseline(two_runs.SETTINGS, stored=True)
    run = _Run(read_kit(tiny_kit), chosen, "t", "full", lambda _: None, None)
    seen = two_runs.evidence(0.5 * 1.05, stored=Stored(two_runs.report(), unlike))
    monkeypatch.setattr(run, "_evidence", lambda timing: seen)
    assert bool(run._undecided(seen.timing).workloads) == (not unlike)
