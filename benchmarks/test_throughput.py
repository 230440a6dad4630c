"""Are many answers fast enough? Batches of 32."""

import pytest


@pytest.mark.workloads(batched=True)
def test_throughput(replay, workload, variant):
    replay(workload, variant)


@pytest.mark.gates("speedup", batched=True)
def test_speedup(gate, gate_case):
    gate(gate_case)
