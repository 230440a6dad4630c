"""The model as one deploys it: a bundle folder in, labels and probabilities out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.encoder import INPUTS, Batch, TextEncoder
from optimize.bundle.folder import MODEL_NAME, BundleError, checked_bytes, read_manifest
from optimize.bundle.fork import survive_fork
from optimize.bundle.manifest import DEFAULT_THRESHOLD, LabelSet, Manifest, Prediction
from optimize.bundle.remote import folder_of
from optimize.bundle.session import checked_facts, open_session
from optimize.bundle.texts import Text, checked_texts
from optimize.machine import available_cores

Logits = NDArray[np.float32]

DEFAULT_BATCH_SIZE = 32


class AnswerError(BundleError):
    """A bundle that was loaded and cannot answer; the message says what its model did."""


class Classifier:
    """An ONNX text classifier read from a bundle folder.

    A text is a string; where the bundle takes pairs (``manifest.text_pair``), two strings, as
    ``(first, second)``.

    Safe to share between threads: onnxruntime sessions and tokenizers are, and nothing else
    changes after construction. A process that was forked opens the bundle again at its first use;
    another process gets it pickled by its path.

    Args:
        bundle: folder with ``model.onnx``, ``tokenizer.json`` and ``manifest.json``; or with a
            revision, ``OWNER/NAME`` of a repository of the Hub that has them.
        revision: commit, branch or tag of the repository; pin a commit.
        threads: threads of one inference; by default, and at most, the cores that this process
            may use.

    Raises:
        BundleError: a file is missing, changed since the bundle was built, or not understood; the
            model's inputs and outputs are not a text classifier's.
        ValueError: ``threads`` is below 1.
    """

    # As :func:`optimize.bundle.session.session_options` takes it.
    _guarded: bool | None = None

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        threads: int | None = None,
        revision: str | None = None,
    ) -> None:
        """Check the bundle's digests and load it."""
        folder = folder_of(bundle, revision)
        self.manifest = read_manifest(folder)
        if self.manifest.format != "onnx":
            raise BundleError(
                f"{folder} holds a {self.manifest.format} model; Classifier reads onnx bundles. "
                "Export it with `optimize build`."
            )
        self._folder, self._asked = folder.absolute(), threads
        self._path = folder / MODEL_NAME
        self._threads = _bounded(threads)
        self.encoder = TextEncoder(folder, self.manifest)
        self._session, self._process = self._opened(), os.getpid()
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._check_signature()

    def _opened(self) -> Any:
        """A session of this process, of the file that the manifest was written for."""
        model = checked_bytes(self._folder, MODEL_NAME, self.manifest)
        self.facts = checked_facts(model, self._folder)
        session = open_session(
            model, self._threads, self._folder, self.facts, guarded=self._guarded
        )
        survive_fork(session)  # one that was opened after a fork may see the next
        return session

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its path: another process opens the bundle itself."""
        return partial(Classifier, threads=self._asked), (self._folder,)

    def _check_signature(self) -> None:
        """Refuse a model that is fed with anything else, or that answers with anything else."""
        if unknown := sorted(self._inputs - INPUTS):
            raise BundleError(
                f"{self._path} wants the input {unknown[0]!r}; a bundle is fed with "
                f"{', '.join(sorted(INPUTS))}. Export it again."
            )
        outputs = self._session.get_outputs()
        shape = outputs[0].shape if outputs else []
        if len(shape) != 2 or outputs[0].type != "tensor(float)":
            told = f"{outputs[0].type} of shape {shape}" if outputs else "nothing"
            raise BundleError(
                f"{self._path} answers {told}; a bundle's model answers tensor(float) of shape "
                "(texts, labels). Export it again."
            )
        if isinstance(shape[-1], int) and shape[-1] != len(self.labels):
            raise BundleError(
                f"{self._path} answers {shape[-1]} scores, the manifest names "
                f"{len(self.labels)} labels: they are not of the same model. Build it again."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.manifest.labels

    def predict(
        self, texts: Iterable[Text], *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> list[Prediction]:
        """The most probable label of each text, with its probability.

        Raises:
            TypeError: the bundle gives a text several labels, or an element is no text.
        """
        if self.manifest.multi_label:
            raise TypeError(
                f"{self._folder} gives a text several labels, or none: ask predict_sets()"
            )
        probabilities = self.predict_proba(texts, batch_size=batch_size)
        best = probabilities.argmax(axis=1)
        return [
            Prediction(self.labels[label], float(row[label]))
            for label, row in zip(best, probabilities, strict=True)
        ]

    def predict_sets(
        self, texts: Iterable[Text], *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> list[LabelSet]:
        """The labels of each text, with their probabilities; one where a text has only one."""
        if not self.manifest.multi_label:
            found = self.predict(texts, batch_size=batch_size)
            return [LabelSet((each.label,), (each.probability,)) for each in found]
        rows = self.predict_proba(texts, batch_size=batch_size)
        return [
            LabelSet(
                tuple(self.labels[label] for label in given),
                tuple(float(row[label]) for label in given),
            )
            for row, given in zip(rows, given_labels(rows, self.manifest), strict=True)
        ]

    def predict_proba(
        self, texts: Iterable[Text], *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Logits:
        """Probability of every label for each text, shape (texts, labels).

        A row sums to 1, but where a text may have several labels: each is then asked for alone.
        """
        return probabilities(self.logits(texts, batch_size=batch_size), self.manifest)

    def logits(self, texts: Iterable[Text], *, batch_size: int = DEFAULT_BATCH_SIZE) -> Logits:
        """Raw scores before bias, temperature and softmax, shape (texts, labels).

        Texts of similar length share a batch, so little is spent on padding. Under dynamic INT8
        a batch shares its activation scales: batch size 1 makes an answer independent of its
        neighbours.

        Raises:
            AnswerError: the model fails, or its scores are not finite.
            TypeError: an element is no string, or no pair of them; names its position.
            ValueError: one holds half a character, or ``batch_size`` is below 1.
        """
        checked = checked_texts(texts, pairs=self.manifest.text_pair)
        if self._process != os.getpid():
            # A fork has the session and none of its threads, for which it would wait for ever.
            self._session, self._process = self._opened(), os.getpid()
        scores = np.empty((len(checked), len(self.labels)), dtype=np.float32)
        for rows, batch in self.encoder.batches(checked, batch_size):
            scores[rows] = self._answer(batch)
        return scores

    def _answer(self, batch: Batch) -> Logits:
        """Finite scores of one batch, shape (texts, labels)."""
        feed = {name: array for name, array in batch.items() if name in self._inputs}
        try:
            scores: Logits = self._session.run(None, feed)[0]
        except Exception as error:  # onnxruntime's exceptions have no public base class
            raise AnswerError(f"{self._path} cannot answer: {error}") from error
        expected = (len(batch["input_ids"]), len(self.labels))
        if scores.shape != expected:
            raise AnswerError(
                f"{self._path} answers scores of shape {scores.shape}, and {expected} were asked "
                "for: it is not a text classifier of these labels. Export it again."
            )
        # NaN and infinity pass through a maximum; a label may have -inf, which is probability 0.
        if not np.isfinite(scores.max(axis=1)).all():
            raise AnswerError(
                f"{self._path} answers scores that are not finite; no label can be told from "
                "them. Build it again, and look at its training for a loss of NaN."
            )
        return scores


def _bounded(threads: int | None) -> int:
    """Threads of one inference: more than there are cores wait for each other."""
    cores = available_cores()
    if threads is None:
        return cores
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    if threads > cores:
        warnings.warn(
            f"threads is {threads}, and this process may use {cores} cores: {cores} are used",
            stacklevel=3,
        )
    return min(threads, cores)


def probabilities(logits: Logits, manifest: Manifest) -> Logits:
    """Logits to probabilities by the manifest's out-of-scope bias and temperature."""
    if manifest.multi_label:
        return sigmoid(logits / np.float32(manifest.temperature))
    rule = manifest.out_of_scope
    if rule is not None and rule.bias:
        logits = logits.copy()
        logits[:, manifest.labels.index(rule.label)] += np.float32(rule.bias)
    return softmax(logits / np.float32(manifest.temperature))


def given_labels(probabilities: Logits, manifest: Manifest) -> list[tuple[int, ...]]:
    """Class ids that each text is given: those above their thresholds.

    Args:
        probabilities: shape (texts, labels), of a model that gives several labels a text.
        manifest: has the thresholds.
    """
    thresholds = manifest.thresholds or (DEFAULT_THRESHOLD,) * len(manifest.labels)
    above = probabilities > np.asarray(thresholds, dtype=np.float32)
    return [tuple(np.flatnonzero(row).tolist()) for row in above]


def sigmoid(logits: Logits) -> Logits:
    """Element-wise logistic function; ``exp`` is only taken of what is at most 0."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), dtype=np.float32)


def softmax(logits: Logits) -> Logits:
    """Row-wise softmax, shifted by the row's maximum so that it cannot overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)
