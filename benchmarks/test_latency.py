"""Is one answer fast enough? Batch 1, on short, typical and long texts."""

import pytest


@pytest.mark.workloads(batched=False)
def test_latency(replay, workload, variant):
    replay(workload, variant)


@pytest.mark.gates("speedup", batched=False)
def test_speedup(gate, gate_case):
    gate(gate_case)
