"""Is it still right? Paired against the teacher and against the fp32 student."""

import json
import subprocess
import sys

import pytest

from optimize.judge.workers.process import child_environment

DEPLOYED = """
import json, sys
from optimize import Classifier
folder, threads = sys.argv[1:]
texts = json.load(sys.stdin)
answers = Classifier(folder, threads=int(threads)).predict(texts, batch_size=1)
print(json.dumps([answer.label for answer in answers]))
"""


@pytest.mark.gates("accuracy", "fidelity")
def test_accuracy(gate, gate_case):
    gate(gate_case)


def test_classifier_answers_as_judged(kit, report):
    """What one deploys, in a process of its own, gives the very labels that were scored."""
    deployed = kit.variants["student-int8"]
    python, threads = deployed.python or sys.executable, report.fingerprint.threads
    done = subprocess.run(
        [python, "-c", DEPLOYED, str(deployed.folder.resolve()), str(threads)],
        input=json.dumps(kit.examples(report.split).texts),
        env=child_environment(python, threads),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    judged = report.predictions[report.split]["student-int8"].labels
    assert json.loads(done.stdout.splitlines()[-1]) == [
        report.label_names[label] for label in judged
    ]
