"""Is it still right? Paired against the teacher and against the fp32 student."""

import pytest


@pytest.mark.gates("accuracy", "fidelity")
def test_accuracy(gate, gate_case):
    gate(gate_case)
