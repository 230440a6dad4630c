"""A small suite that pytester runs over a canned report: nothing is measured."""

from own_process import run_pytest

RECIPE = """
[judge]
variants = ["teacher-torch", "student-int8"]
[judge.workloads.typical]
[gates.size]
kind = "size"
min_reduction_pct = 50.0
[gates.speed]
kind = "speedup"
min_ratio = 2.0
"""
GATES = """
import pytest
from own_process import run_pytest

@pytest.mark.gates("size", "speedup")
def test_gate(gate, gate_case):
    gate(gate_case)
"""
TIMES = """
import pytest

@pytest.mark.workloads(batched=False)
def test_latency(replay, workload, variant):
    replay(workload, variant)
"""
CONFTEST = """
import pathlib, pytest, types
import optimize.judge.request
from optimize.judge.stored import read_report

optimize.judge.request.judge = lambda *_: read_report(
    pathlib.Path(__file__).parent / "canned.json"
)
optimize.judge.request.read_kit = lambda folder: types.SimpleNamespace(trusting=lambda own: None)
optimize.judge.request.check_kit = lambda kit, settings: None
"""


def run_suite(pytester, suite, report, *options, recipe=RECIPE, conftest=""):
    """Run a suite under the plugin in a process of its own, as if it had measured ``report``."""
    pytester.makefile(".toml", recipe=recipe)
    pytester.makepyfile(conftest=CONFTEST + conftest, test_suite=suite)
    (pytester.path / "canned.json").write_text(report.model_dump_json())
    return run_pytest(pytester, "--recipe", "recipe.toml", "--kit", "kit", *options)
