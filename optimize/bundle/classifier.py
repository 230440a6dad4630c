"""The model as one deploys it: a bundle folder in, labels and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.encoder import TextEncoder
from optimize.bundle.folder import MODEL_NAME, BundleError, checked_bytes, read_manifest
from optimize.bundle.manifest import Manifest, Prediction
from optimize.bundle.session import checked_facts, open_session
from optimize.machine import available_cores

Logits = NDArray[np.float32]

DEFAULT_BATCH_SIZE = 32


class Classifier:
    """An ONNX text classifier read from a bundle folder.

    Safe to share between threads: onnxruntime sessions and tokenizers are, and nothing else
    changes after construction.

    Args:
        bundle: folder with ``model.onnx``, ``tokenizer.json`` and ``manifest.json``.
        threads: threads of one inference; by default the cores that this process may use.

    Raises:
        BundleError: a file is missing, changed since the bundle was built, or not understood.
    """

    def __init__(self, bundle: str | os.PathLike[str], *, threads: int | None = None) -> None:
        """Check the bundle's digests and load it."""
        folder = Path(bundle)
        self.manifest = read_manifest(folder)
        if self.manifest.format != "onnx":
            raise BundleError(
                f"{folder} holds a {self.manifest.format} model; Classifier reads onnx bundles. "
                "Export it with `optimize build`."
            )
        model = checked_bytes(folder, MODEL_NAME, self.manifest)
        self.facts = checked_facts(model, folder)
        self.encoder = TextEncoder(folder, self.manifest)
        self._session = open_session(model, threads or available_cores(), folder, self.facts)
        self._inputs = {node.name for node in self._session.get_inputs()}
        width = self._session.get_outputs()[0].shape[-1]
        if isinstance(width, int) and width != len(self.labels):
            raise BundleError(
                f"{folder / MODEL_NAME} answers {width} scores, the manifest names "
                f"{len(self.labels)} labels: they are not of the same model. Build it again."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.manifest.labels

    def predict(
        self, texts: Sequence[str], *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> list[Prediction]:
        """The most probable label of each text, with its probability."""
        probabilities = self.predict_proba(texts, batch_size=batch_size)
        best = probabilities.argmax(axis=1)
        return [
            Prediction(self.labels[label], float(row[label]))
            for label, row in zip(best, probabilities, strict=True)
        ]

    def predict_proba(
        self, texts: Sequence[str], *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Logits:
        """Probability of every label for each text, shape (texts, labels)."""
        return probabilities(self.logits(texts, batch_size=batch_size), self.manifest)

    def logits(self, texts: Sequence[str], *, batch_size: int = DEFAULT_BATCH_SIZE) -> Logits:
        """Raw scores before bias, temperature and softmax, shape (texts, labels).

        Texts of similar length share a batch, so little is spent on padding. Under dynamic INT8
        a batch shares its activation scales: batch size 1 makes an answer independent of its
        neighbours.
        """
        scores = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for rows, batch in self.encoder.batches(texts, batch_size):
            feed = {name: array for name, array in batch.items() if name in self._inputs}
            scores[rows] = self._session.run(None, feed)[0]
        return scores


def probabilities(logits: Logits, manifest: Manifest) -> Logits:
    """Logits to probabilities by the manifest's out-of-scope bias and temperature."""
    rule = manifest.out_of_scope
    if rule is not None and rule.bias:
        logits = logits.copy()
        logits[:, manifest.labels.index(rule.label)] += np.float32(rule.bias)
    return softmax(logits / np.float32(manifest.temperature))


def softmax(logits: Logits) -> Logits:
    """Row-wise softmax, shifted by the row's maximum so that it cannot overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)
