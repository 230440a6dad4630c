"""What one deploys, asked in a process of its own, as where it is deployed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from optimize.judge.kit import Variant
from optimize.judge.workers.process import BORROW, WorkerError, child_environment

# Beside the start, and of each text: a long one on a slow core.
TIMEOUT_S, TEXT_TIMEOUT_S = 900.0, 2.0
SCRIPT = """
import json, sys
from optimize import Classifier
folder, threads = sys.argv[1:]
texts = json.load(sys.stdin)
answers = Classifier(folder, threads=int(threads)).predict_sets(texts, batch_size=1)
print(json.dumps([" + ".join(sorted(answer.labels)) or "(none)" for answer in answers]))
"""


def labels_of(variant: Variant, texts: Sequence[str], threads: int) -> list[str]:
    """The label of each text, by :class:`optimize.Classifier` in a fresh process, one by one.

    Where a text has several, they are joined by ``+``.

    Args:
        variant: an ONNX variant; its interpreter answers.
        texts: to be labelled.
        threads: of every inference.

    Raises:
        WorkerError: the process failed; with what it wrote to standard error.
    """
    python = variant.python or sys.executable
    timeout_s = TIMEOUT_S + TEXT_TIMEOUT_S * len(texts)
    try:
        done = subprocess.run(
            [python, "-c", f"{BORROW}\n{SCRIPT}", str(variant.folder.resolve()), str(threads)],
            input=json.dumps(list(texts)),
            env=child_environment(python, threads),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkerError(
            f"{variant.name} under {python} did not answer {len(texts):,} texts in {timeout_s:g} s"
        ) from error
    if done.returncode:
        raise WorkerError(f"{variant.name} under {python} failed: {done.stderr.strip()[-2000:]}")
    labels: list[str] = json.loads(done.stdout.splitlines()[-1])
    return labels
