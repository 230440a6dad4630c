"""Does it start fast and stay small? Process start to first prediction, peak memory."""

import pytest


@pytest.mark.gates("startup", "memory", "growth")
def test_startup(gate, gate_case):
    gate(gate_case)
