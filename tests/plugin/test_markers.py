"""A marker's word that the suite does not know would turn a gate off: it is refused."""

import pytest
from own_process import run_pytest

from optimize.plugin.markers import KINDS

pytest_plugins = "pytester"

SUITE = """
import pytest

@pytest.mark.{mark}
def test_it({fixture}):
    pass
"""


@pytest.mark.parametrize(
    ("mark", "fixture", "words"),
    [
        ('gates("sise")', "gate_case", "gates('sise'): no such kind of gate; there are accuracy"),
        ('gates("size", basline=True)', "gate_case", "gates(basline=…): no such option"),
        (
            "workloads(batch=True)",
            "workload",
            "workloads(batch=…): no such option; there are batched",
        ),
        ("workloads(True)", "workload", "workloads() takes batched=True or batched=False"),
    ],
)
def test_an_unknown_word_is_a_mistake_of_usage(pytester, mark, fixture, words):
    pytester.makepyfile(test_suite=SUITE.format(mark=mark, fixture=fixture))
    result = run_pytest(pytester, "--collect-only")
    assert result.ret != 0
    assert words in result.stdout.str() + result.stderr.str()


def test_kinds_are_those_of_the_gates():
    assert {"size", "speedup", "accuracy", "labels", "entries"} <= KINDS
    assert len(KINDS) == 9
