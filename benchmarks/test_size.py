"""Is the bundle small enough? Bytes of every file that one ships, exact."""

import pytest


@pytest.mark.gates("size")
def test_size(gate, gate_case):
    gate(gate_case)
