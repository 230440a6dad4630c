"""The model as one deploys it: a bundle folder in, labels and probabilities out.

Needs numpy, onnxruntime, tokenizers and msgspec, and no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimize.machine import available_cores, multiplies_u8s8_exactly
from optimize.onnxfile import OnnxFacts, OnnxFileError, read_facts
from optimize.records import (
    BUNDLE_SCHEMAS,
    MANIFEST_NAME,
    Manifest,
    Prediction,
    StoredError,
    read_record,
)

Logits = NDArray[np.float32]
Batch = dict[str, NDArray[np.int64]]

MODEL_NAME = "model.onnx"
TOKENIZER_NAME = "tokenizer.json"
DEFAULT_BATCH_SIZE = 32
# Protobuf's own limit for one message; no file of a bundle can be larger and be read.
LARGEST_BYTES = 2**31
# The onnxruntime that first had an operator set, or a version of the file format (tried).
FIRST_WITH_OPSET = {21: (1, 18), 22: (1, 21), 23: (1, 23), 25: (1, 24)}
FIRST_WITH_IR = {10: (1, 18), 11: (1, 23), 13: (1, 24)}
# Graph rewrites whose fused kernel is slower on the CPU than what it replaces.
SLOW_FUSIONS = ("SkipLayerNormFusion", "BiasSkipLayerNormFusion")


class BundleError(ValueError):
    """A bundle that cannot be used; the message gives the fact, the values and the remedy."""


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


class TextEncoder:
    """Texts to padded arrays of token ids, with the tokenizer of a model folder."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Read ``tokenizer.json`` and fix truncation to the manifest's ``max_length``."""
        from tokenizers import Tokenizer

        content = checked_bytes(folder, TOKENIZER_NAME, manifest)
        try:
            self._tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # tokenizers raises bare Exception
            raise BundleError(f"{folder / TOKENIZER_NAME} is not a tokenizer: {error}") from error
        padding = self._tokenizer.padding or {}
        self._pad_id = int(padding.get("pad_id", 0))
        self._pad_type_id = int(padding.get("pad_type_id", 0))
        # Padding is done per batch below; the tokenizer would pad all texts to the longest.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=manifest.max_length)

    def batches(self, texts: Sequence[str], batch_size: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield (positions in ``texts``, arrays of shape (batch, longest)) by rising length."""
        if isinstance(texts, str):
            raise TypeError("texts is one string; pass a list of strings, e.g. [text]")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        encodings = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield rows, self._pad([encodings[row] for row in rows])

    def _pad(self, encodings: list[Any]) -> Batch:
        shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        types = np.full(shape, self._pad_type_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            ids[row, :length] = encoding.ids
            types[row, :length] = encoding.type_ids
            mask[row, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


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


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder.

    Raises:
        BundleError: it is missing, of another schema version, or malformed.
    """
    again = "`optimize build --out DIR` leaves a bundle in DIR/student-int8."
    try:
        return read_record(folder / MANIFEST_NAME, Manifest, BUNDLE_SCHEMAS, again)
    except StoredError as error:
        raise BundleError(f"not a bundle: {error}") from error


def checked_bytes(folder: Path, name: str, manifest: Manifest) -> bytes:
    """The content of a file whose size and digest agree with the manifest.

    Raises:
        BundleError: the file is missing or not the one that the manifest was written for.
    """
    path = folder / name
    entry = manifest.files.get(name)
    if entry is None:
        raise BundleError(f"{folder / MANIFEST_NAME} lists no {name}; build the bundle again")
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise BundleError(f"{path} has {size:,} bytes, above the {LARGEST_BYTES:,} allowed")
        content = path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path} is missing; the manifest lists it. Copy it again.") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise BundleError(
            f"{path} has SHA-256 {digest} and {len(content)} bytes, the manifest says "
            f"{entry.sha256} and {entry.size_bytes}: it was changed or cut short. Copy it again."
        )
    return content


def checked_facts(model: bytes, folder: Path) -> OnnxFacts:
    """What the model asks for, where that is nothing that a bundle may not ask for.

    Raises:
        BundleError: it is no ONNX model, needs a library of custom operators, or reads its tensors
            from other files, which no digest here vouches for.
    """
    path = folder / MODEL_NAME
    try:
        facts = read_facts(model)
    except OnnxFileError as error:
        raise BundleError(f"{path} is not an ONNX model: {error}") from error
    if facts.custom_operators:
        raise BundleError(
            f"{path} needs the custom operators {', '.join(facts.custom_operators)}; a bundle runs "
            "on onnxruntime's own. Export it without them."
        )
    if facts.external:
        raise BundleError(
            f"{path} keeps tensors in {', '.join(sorted(facts.external))}; a bundle has them all "
            "in its model. Save it without external data."
        )
    return facts


def open_session(model: bytes, threads: int, folder: Path, facts: OnnxFacts) -> Any:
    """An inference session on the CPU; ``threads`` 0 leaves the count to onnxruntime.

    Raises:
        BundleError: this onnxruntime cannot load the model; where that is too old, says which can.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    if not multiplies_u8s8_exactly():
        # Without VNNI, U8S8 kernels saturate; this keeps one answer on every x86-64 CPU
        # (onnxruntime issues 5849, 6004). With VNNI it would only take the kernels away that
        # use it: 2.9 times the time at batch 32 here.
        options.add_session_config_entry("session.x64quantprecision", "1")
    # An idle session must not burn the cores that its neighbours are measured on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(SLOW_FUSIONS),
        )
    except Exception as error:  # onnxruntime's exceptions have no public base class
        raise BundleError(
            f"onnxruntime {ort.__version__} cannot load {folder / MODEL_NAME}: "
            f"{_too_new(facts, ort.__version__) or error}"
        ) from error


def _too_new(facts: OnnxFacts, version: str) -> str | None:
    """In words, why this onnxruntime is too old for the model, if that is so."""
    ours = tuple(int(part) for part in version.split(".")[:2])
    opset = facts.opsets.get("", 0)
    for what, value, first in (
        ("opset", opset, FIRST_WITH_OPSET),
        ("IR version", facts.ir_version, FIRST_WITH_IR),
    ):
        needed = next((minor for known, minor in first.items() if value <= known), None)
        if needed is None:
            return (
                f"{what} {value} is newer than this version of optimize knows; this is "
                f"{version}. Upgrade onnxruntime, or export with a lower one"
            )
        if needed > ours:
            return (
                f"{what} {value} needs onnxruntime ≥ {needed[0]}.{needed[1]}; this is {version}. "
                "Upgrade it, or build with a lower export.opset or export.ir_version"
            )
    return None
