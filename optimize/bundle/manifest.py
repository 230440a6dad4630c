"""The frozen values that stages hand on, and the JSON they are stored as.

History of the schema versions:

* bundle 1: first version.
* bundle 2: the out-of-scope rule (``out_of_scope``); later also the formats ``python`` and
  ``linear``, which are no bundles and only a kit's variants.
* bundle 3: several labels a text (``problem_type``, ``thresholds``) and pairs of texts
  (``text_pair``).
* kit 1: first version.
* kit 2: several labels a text, and pairs of texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from optimize.disk import read_regular
from optimize.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType

BUNDLE_SCHEMAS = (1, 2, 3)
KIT_SCHEMAS = (1, 2)
MANIFEST_NAME = "manifest.json"
KIT_NAME = "kit.json"
# Beyond these, logits of the usual size overflow float32, or every answer is the same.
LEAST_TEMPERATURE = 1e-6
LARGEST_BIAS = 1e6
# A manifest of a million labels has a tenth of it.
LARGEST_RECORD_BYTES = 2**28


class Prediction(NamedTuple):
    """One answer of a classifier.

    Attributes:
        label: the name of the most probable class.
        probability: its softmax probability, in [0, 1].
    """

    label: str
    probability: float


class LabelSet(NamedTuple):
    """One answer of a classifier that gives a text several labels, or none.

    Attributes:
        labels: names of the labels that are above their thresholds, in the model's order.
        probabilities: of each, in [0, 1].
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


# Above it a label is given, where nothing else was fitted.
DEFAULT_THRESHOLD = 0.5


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every stored value here: frozen, and unknown keys are refused.

    msgspec's, not pydantic's: a deployed classifier reads one manifest, and pydantic was a quarter
    of its cold start, 0.28 s against 0.21 in turn.
    """


def _inside(path: str) -> None:
    """Refuse a stored path that could point outside its folder."""
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError(f"path {path!r} must be relative and stay inside its folder")


# Digests by device, inode, size and time of change.
_DIGESTS: dict[tuple[int, int, int, int], str] = {}
SETTLED_NS = 1_000_000_000


class FileEntry(Record, frozen=True, kw_only=True):
    """Size and SHA-256 of one file."""

    size_bytes: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, path: Path) -> FileEntry:
        """Read the entry off the file at ``path``.

        A file that has not changed since is read once a process, under whatever name: a kit of
        hard links is hundreds of megabytes.
        """
        with path.open("rb") as stream:
            stat = os.fstat(stream.fileno())
            seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen in _DIGESTS:
                return cls(size_bytes=stat.st_size, sha256=_DIGESTS[seen])
            # hashlib.file_digest needs Python 3.11; the base layer supports 3.10.
            digest, size = hashlib.sha256(), 0
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
        # A file system's clock is coarse: one written just now may change without a sign of it.
        if time.time_ns() - stat.st_mtime_ns > SETTLED_NS:
            _DIGESTS[seen] = digest.hexdigest()
        return cls(size_bytes=size, sha256=digest.hexdigest())


class OutOfScope(Record, frozen=True, kw_only=True):
    """The rule for texts that are none of a classifier's business.

    Attributes:
        label: the label that says so.
        bias: added to its logit; above 0, more texts are called so.
    """

    label: str
    bias: float

    def __post_init__(self) -> None:
        """Refuse a bias that would make every probability NaN."""
        if not abs(self.bias) <= LARGEST_BIAS:
            raise ValueError(
                f"out_of_scope.bias is {self.bias}; it must be -{LARGEST_BIAS:g} to "
                f"{LARGEST_BIAS:g}"
            )


class Manifest(Record, frozen=True, kw_only=True):
    """What is in a model folder: a bundle that one ships, or a PyTorch variant of a kit.

    Attributes:
        format: ``onnx`` folders are read by :class:`optimize.Classifier`; ``torch``, ``linear``
            (word counts) and ``python`` (a function of one's own) only by the judge's worker.
        labels: class names in the order of the model's logits.
        max_length: longest input in tokens; longer texts are truncated. Of ``onnx`` and ``torch``.
        parameters: number of weights of the model before quantization; 0 where nobody knows.
        opset: ONNX opset of the default domain (``onnx`` only).
        ir_version: ONNX IR version (``onnx`` only).
        quantization: name of the INT8 recipe, or ``None`` for fp32.
        problem_type: ``single_label_classification``: softmax, and the most probable label; or
            ``multi_label_classification``: a sigmoid a label, and all that are above a threshold.
        text_pair: whether an input is a pair of texts.
        temperature: the logits are divided by it before the softmax or sigmoid.
        thresholds: of each label's probability, where a text has several; ``None`` is 0.5 for all.
        out_of_scope: a bias added to one label's logit before that; ``None`` adds none.
        files: every file of the folder but the manifest and the model card.
        inputs: digests of what the model was made from (data, teacher, student).
        libraries: versions of the libraries that made it.
        recipe: the settings that it was built with.
    """

    schema_version: Literal[1, 2, 3] = 3
    format: Literal["onnx", "torch", "linear", "python"]
    labels: Annotated[tuple[str, ...], Meta(min_length=2)]
    max_length: Annotated[int, Meta(gt=2)]  # the two special tokens, and one of the text
    parameters: Annotated[int, Meta(ge=0)]
    opset: int | None = None
    ir_version: int | None = None
    quantization: str | None = None
    problem_type: ProblemType = SINGLE_LABEL
    text_pair: bool = False
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    thresholds: tuple[Annotated[float, Meta(ge=0, le=1)], ...] | None = None
    out_of_scope: OutOfScope | None = None
    files: dict[str, FileEntry]
    inputs: dict[str, str] = {}
    libraries: dict[str, str] = {}
    recipe: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Refuse values that no answer could be made from."""
        if len(set(self.labels)) < len(self.labels):
            twice, _ = Counter(self.labels).most_common(1)[0]
            raise ValueError(f"label {twice!r} is there more than once")
        if not LEAST_TEMPERATURE <= self.temperature <= 1 / LEAST_TEMPERATURE:
            raise ValueError(
                f"temperature is {self.temperature}; it must be {LEAST_TEMPERATURE:g} to "
                f"{1 / LEAST_TEMPERATURE:g}"
            )
        if self.out_of_scope is not None and self.out_of_scope.label not in self.labels:
            raise ValueError(f"out_of_scope.label {self.out_of_scope.label!r} is not one of labels")
        if self.thresholds is not None and len(self.thresholds) != len(self.labels):
            raise ValueError(
                f"thresholds has {len(self.thresholds)} values for {len(self.labels)} labels"
            )
        if not self.multi_label and self.thresholds is not None:
            raise ValueError(f"thresholds are for problem_type {MULTI_LABEL!r} alone")
        if self.multi_label and self.out_of_scope is not None:
            raise ValueError("out_of_scope is for one label a text; here a text may have none")
        for path in self.files:
            _inside(path)

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels, or none."""
        return self.problem_type == MULTI_LABEL

    @property
    def size_bytes(self) -> int:
        """Bytes of every file that a user would ship, the manifest aside."""
        return sum(entry.size_bytes for entry in self.files.values())


class KitManifest(Record, frozen=True, kw_only=True):
    """What is in a kit: every variant's folder and the texts they are judged on.

    Attributes:
        recipe: name of the recipe that built the kit.
        settings: its settings, resolved.
        labels: class names; the label column of the split files holds these names.
        variants: folder of each variant, by the variant's name.
        manifests: SHA-256 of each variant's ``manifest.json``, which in turn holds its files'.
        problem_type: one label a text, or several.
        text_pair: whether each text is a pair.
        splits: JSON Lines file of each split, rows ``{"text": …, "label": …}``; where a text has
            several, with ``labels``, a list; a pair has its second text in ``text_pair``.
        inputs: digests of what the kit was built from.
        libraries: versions of the libraries that built it.
    """

    schema_version: Literal[1, 2] = 2
    recipe: str
    settings: dict[str, Any]
    labels: tuple[str, ...]
    problem_type: ProblemType = SINGLE_LABEL
    text_pair: bool = False
    variants: dict[str, str]
    manifests: dict[str, str]
    splits: dict[str, str]
    files: dict[str, FileEntry]
    inputs: dict[str, str]
    libraries: dict[str, str]

    def __post_init__(self) -> None:
        """Refuse paths that lead out of the kit."""
        for path in (*self.variants.values(), *self.splits.values(), *self.files):
            _inside(path)


def write_json(record: Record, path: Path) -> None:
    """Write a record as indented JSON, with a last newline.

    Raises:
        msgspec.ValidationError: it would not be read again.
    """
    msgspec.convert(msgspec.to_builtins(record), type(record))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


AnyRecord = TypeVar("AnyRecord", bound=Record)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not a number")


class StoredError(ValueError):
    """A stored record that cannot be used; the message gives the fact, the values, the remedy."""


def read_record(
    path: Path, kind: type[AnyRecord], versions: tuple[int, ...], again: str
) -> AnyRecord:
    """Read and check a record that :func:`write_json` wrote.

    Args:
        path: the file.
        kind: the record's class.
        versions: the schema versions that are understood here.
        again: the remedy: how to get a file that is.

    Raises:
        StoredError: missing, not JSON, of another schema version, or malformed.
    """
    content = read_versioned(path, versions, again)
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise StoredError(f"{path} is not a {kind.__name__.lower()}: {error}") from error


def _listed(versions: tuple[int, ...]) -> str:
    *first, last = map(str, versions)
    return f"{', '.join(first)} and {last}" if first else last


def read_versioned(path: Path, versions: tuple[int, ...], again: str) -> Any:
    """The JSON in a file whose ``schema_version`` is understood here.

    Raises:
        StoredError: missing, not JSON, or of another schema version.
    """
    try:
        text = read_regular(path, LARGEST_RECORD_BYTES).decode("utf-8")
        content = json.loads(text, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise StoredError(f"{path.parent} has no {path.name}. {again}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoredError(f"{path} is not JSON: {error}. {again}") from error
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found not in versions:
        raise StoredError(
            f"{path} has schema_version {found!r}; this version of optimize reads "
            f"{_listed(versions)}. "
            f"{again}"
        )
    return content
