"""Is it still right? Paired against the teacher and against the fp32 student."""

import pytest


@pytest.mark.gates("accuracy", "fidelity", "labels", "entries")
def test_accuracy(gate, gate_case):
    gate(gate_case)


def test_classifier_answers_as_judged(deployed_labels, judged_labels, shipped):
    """What one deploys, in a process of its own, gives the very labels that were scored."""
    assert deployed_labels(shipped) == judged_labels(shipped)
