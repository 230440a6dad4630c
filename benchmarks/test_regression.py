"""Is it as good as before? Against ``--baseline FILE|BUNDLE|git:REV``, within [regression]."""

import pytest


@pytest.mark.gates(baseline=True)
def test_regression(gate, gate_case):
    gate(gate_case)
