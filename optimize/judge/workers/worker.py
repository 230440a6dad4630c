"""The child process that holds one model and answers over a pipe: one JSON object a line.

Runs under any interpreter that has the base layer
(``python -m optimize.judge.workers.worker``). torch is imported only to load a PyTorch variant.

Protocol 2. First line in: ``folder``, ``threads``, ``text``. The child loads the model, answers
that text and reports ``ready``. Then one answer a request: ``workload``, ``warm``, ``block``,
``predict``, ``memory``. An answer with ``error`` ends the child.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Protocol, TextIO

import numpy as np

from optimize.bundle.classifier import Classifier, Logits, given_labels, probabilities
from optimize.bundle.encoder import TextEncoder
from optimize.bundle.folder import check_files, read_manifest
from optimize.bundle.manifest import Manifest
from optimize.judge.workers.others import LinearClassifier, PythonClassifier
from optimize.machine import peak_rss_bytes, run_queue_wait_s
from optimize.placement import apart
from optimize.priority import real_time, take_priority

PROTOCOL = 2
# Libraries whose versions a verdict may hang on.
ABOUT = ("onnxruntime", "tokenizers", "numpy", "torch", "transformers", "sklearn", "scipy")
# Calls before the first block: so many at least, and this share of the time that they may take.
LEAST_CALLS = 3
LEAST_WARM_SHARE = 0.25
WARM_TOLERANCE = 0.03


class Model(Protocol):
    """What a worker asks of the model that it holds."""

    def predict_proba(self, texts: Sequence[str], *, batch_size: int) -> Logits:
        """Probabilities of shape (texts, labels)."""


class TorchClassifier:
    """A PyTorch variant of a kit, as one would serve it: eval, inference mode, its own threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        # Model types that transformers lacks; they need torch, as all of this class does.
        from optimize.models import own_types  # noqa: F401

        torch.set_num_threads(threads)
        self._manifest = read_manifest(folder)
        check_files(folder, self._manifest)
        self._encoder = TextEncoder(folder, self._manifest)
        self._torch = torch
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            local_files_only=True,
        ).eval()
        self._inputs = set(inspect.signature(self._model.forward).parameters)

    def predict_proba(self, texts: Sequence[str], *, batch_size: int) -> Logits:
        """Probabilities of shape (texts, labels)."""
        scores = np.empty((len(texts), len(self._manifest.labels)), dtype=np.float32)
        for rows, batch in self._encoder.batches(texts, batch_size):
            with self._torch.inference_mode():
                feed = {
                    name: self._torch.from_numpy(array)
                    for name, array in batch.items()
                    if name in self._inputs
                }
                scores[rows] = self._model(**feed).logits.numpy()
        return probabilities(scores, self._manifest)


class Worker:
    """One model, its threads, and the workloads that it was told."""

    def __init__(self, model: Model, threads: int, manifest: Manifest | None = None) -> None:
        self._model = model
        self._threads = threads
        self._manifest = manifest
        self._workloads: dict[str, list[list[str]]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request."""
        operation = getattr(self, f"_{request.pop('op')}")
        result: dict[str, Any] = operation(**request)
        return result

    def _workload(self, name: str, batches: list[list[str]]) -> dict[str, Any]:
        self._workloads[name] = batches
        return {}

    def _warm(self, name: str, seconds: float) -> dict[str, Any]:
        """Call until calls take the same time as those before, or time is up.

        Tells the mean duration of the later half of the calls.
        """
        durations: list[int] = []
        started = time.perf_counter()
        with undisturbed(self._threads):
            while not _warmed(durations, time.perf_counter() - started, seconds):
                durations += self._timed(name, len(durations), 1, 1)
        later = durations[len(durations) // 2 :]
        return {"mean_s": sum(later) / len(later) / 1e9}

    def _block(self, name: str, offset: int, rows: int, calls: int) -> dict[str, Any]:
        """Durations of so many calls in nanoseconds; no garbage is collected in between.

        The calls go round so many rows of the workload, from the offset on. Also the seconds that
        the threads waited for a core, which others had, and those that they ran.
        """
        gc.collect()
        gc.disable()
        try:
            with undisturbed(self._threads):
                waited, ran = run_queue_wait_s(), time.process_time()
                return {
                    "ns": self._timed(name, offset, rows, calls),
                    # A thread that has waited may end meanwhile, and its waits with it.
                    "waited_s": max(0.0, run_queue_wait_s() - waited),
                    "ran_s": time.process_time() - ran,
                }
        finally:
            gc.enable()

    def _timed(self, name: str, offset: int, rows: int, calls: int) -> list[int]:
        batches = self._workloads[name]
        durations = []
        for call in range(calls):
            batch = batches[(offset + call % rows) % len(batches)]
            start = time.perf_counter_ns()
            self._model.predict_proba(batch, batch_size=len(batch))
            durations.append(time.perf_counter_ns() - start)
        return durations

    def _predict(self, texts: list[str], batch_size: int) -> dict[str, Any]:
        rows = self._model.predict_proba(texts, batch_size=batch_size)
        labels: list[int] | list[tuple[int, ...]]
        if self._manifest is not None and self._manifest.multi_label:
            labels, sure = _sets(rows, self._manifest)
        else:
            best = rows.argmax(axis=1)
            labels, sure = best.tolist(), rows[np.arange(len(best)), best]
        return {
            "labels": labels,
            "confidences": [float(value) for value in sure],
            "finite": bool(np.isfinite(rows).all()),
        }

    def _memory(self) -> dict[str, Any]:
        return {"peak_rss_bytes": peak_rss_bytes()}


@contextmanager
def undisturbed(threads: int) -> Iterator[None]:
    """Within it others take no core from this process, and its threads none from each other.

    As far as the system lets it: in real time, or at least with the threads apart.
    """
    with real_time() as has:
        if has:
            yield
            return
        with apart(threads):
            yield


def _sets(rows: Logits, manifest: Manifest) -> tuple[list[tuple[int, ...]], Logits]:
    """The labels of each text, and the probability that all are right, each taken for itself."""
    given = given_labels(rows, manifest)
    has = np.zeros(rows.shape, dtype=bool)
    for row, labels in enumerate(given):
        has[row, list(labels)] = True
    return given, np.where(has, rows, 1 - rows).prod(axis=1)


def _warmed(durations_ns: Sequence[int], lasted_s: float, most_s: float) -> bool:
    """Whether the medians of the last two quarters of the calls differ by little."""
    if len(durations_ns) < LEAST_CALLS:
        return False
    if lasted_s >= most_s:
        return True
    if lasted_s < most_s * LEAST_WARM_SHARE or len(durations_ns) < 4 * LEAST_CALLS:
        return False
    quarter = len(durations_ns) // 4
    before, last = durations_ns[-2 * quarter : -quarter], durations_ns[-quarter:]
    return abs(median(last) / median(before) - 1) < WARM_TOLERANCE


def load(folder: Path, threads: int) -> Model:
    """The model in a variant's folder."""
    kind = read_manifest(folder).format
    if kind == "torch":
        return TorchClassifier(folder, threads)
    if kind == "linear":
        return LinearClassifier(folder)
    return PythonClassifier(folder) if kind == "python" else Classifier(folder, threads=threads)


def serve(requests: TextIO, answers: TextIO) -> None:
    """Load the model named in the first line, then answer line by line until there are no more."""

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        # Before any library starts a thread, which then has it too.
        take_priority()
        first = json.loads(requests.readline())
        folder = Path(first["folder"])
        model = load(folder, first["threads"])
        model.predict_proba([first["text"]], batch_size=1)
        # What is loaded now stays: without this, every collection before a block looks through
        # all of torch again, for 0.15 s.
        gc.freeze()
        with real_time() as first_served:
            about = {"peak_rss_bytes": peak_rss_bytes(), "priority": first_served, **_about()}
        say({"ready": True, "protocol": PROTOCOL, **about})
        worker = Worker(model, first["threads"], read_manifest(folder))
        for line in requests:
            say(worker.answer(json.loads(line)))
    except Exception as error:  # whatever it is, the parent has to hear of it
        say({"error": f"{type(error).__name__}: {error}"})
        raise SystemExit(1) from error


def _about() -> dict[str, Any]:
    """Versions of what answers here."""
    about = {"python": platform.python_version()}
    for library in ABOUT:
        module = sys.modules.get(library)
        if module is not None:
            about[library] = str(module.__version__)
    return about


def main() -> None:
    """Keep standard output for the protocol: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
