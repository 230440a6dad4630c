"""Is it still right? Paired against the teacher and against the fp32 student."""

import pytest

from optimize import Classifier


@pytest.mark.gates("accuracy", "fidelity")
def test_accuracy(gate, gate_case):
    gate(gate_case)


def test_classifier_answers_as_judged(kit, report):
    """What one deploys gives the very labels that were scored, text by text."""
    judged = report.predictions[report.split]["student-int8"].labels
    classifier = Classifier(kit.variants["student-int8"].folder, threads=report.fingerprint.threads)
    texts = kit.examples(report.split).texts
    answers = classifier.predict(texts, batch_size=1)
    assert [answer.label for answer in answers] == [classifier.labels[label] for label in judged]
