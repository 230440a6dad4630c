"""The frozen values that stages hand on, and the JSON they are stored as.

History of the schema versions:

* bundle 1: first version.
* bundle 2: the out-of-scope rule (``out_of_scope``).
* kit 1: first version.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

BUNDLE_SCHEMAS = (1, 2)
KIT_SCHEMA = 1
MANIFEST_NAME = "manifest.json"
KIT_NAME = "kit.json"


class Prediction(NamedTuple):
    """One answer of a classifier.

    Attributes:
        label: the name of the most probable class.
        probability: its softmax probability, in [0, 1].
    """

    label: str
    probability: float


class Record(BaseModel):
    """Base of every stored value: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _inside(path: str) -> str:
    """Refuse a stored path that could point outside its folder."""
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError(f"path {path!r} must be relative and stay inside its folder")
    return path


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a label that is there twice: an answer could not be told from another."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"label {twice[0]!r} is there more than once")
    return names


RelativePath = Annotated[str, AfterValidator(_inside)]


class FileEntry(Record):
    """Size and SHA-256 of one file."""

    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @classmethod
    def of(cls, path: Path) -> FileEntry:
        """Read the entry off the file at ``path``."""
        with path.open("rb") as stream:
            # hashlib.file_digest needs Python 3.11; the base layer supports 3.10.
            digest = hashlib.sha256()
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        return cls(size_bytes=path.stat().st_size, sha256=digest.hexdigest())


class OutOfScope(Record):
    """The rule for texts that are none of a classifier's business.

    Attributes:
        label: the label that says so.
        bias: added to its logit; above 0, more texts are called so.
    """

    label: str
    bias: float = Field(allow_inf_nan=False)


class Manifest(Record):
    """What is in a model folder: a bundle that one ships, or a PyTorch variant of a kit.

    Attributes:
        format: ``onnx`` folders are read by :class:`optimize.Classifier`; ``torch`` folders only
            by the judge's worker.
        labels: class names in the order of the model's logits.
        max_length: longest input in tokens; longer texts are truncated.
        parameters: number of weights of the model before quantization.
        opset: ONNX opset of the default domain (``onnx`` only).
        ir_version: ONNX IR version (``onnx`` only).
        quantization: name of the INT8 recipe, or ``None`` for fp32.
        temperature: the logits are divided by it before the softmax.
        out_of_scope: a bias added to one label's logit before that; ``None`` adds none.
        files: every file of the folder but the manifest and the model card.
        inputs: digests of what the model was made from (data, teacher, student).
        libraries: versions of the libraries that made it.
        recipe: the settings that it was built with.
    """

    schema_version: Literal[1, 2] = 2
    format: Literal["onnx", "torch"]
    labels: Annotated[tuple[str, ...], AfterValidator(_distinct)] = Field(min_length=2)
    max_length: int = Field(gt=2)  # the two special tokens, and one of the text
    parameters: int = Field(gt=0)
    opset: int | None = None
    ir_version: int | None = None
    quantization: str | None = None
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    out_of_scope: OutOfScope | None = None
    files: dict[RelativePath, FileEntry]
    inputs: dict[str, str] = {}
    libraries: dict[str, str] = {}
    recipe: dict[str, Any] = {}

    @model_validator(mode="after")
    def _rule_names_a_label(self) -> Manifest:
        if self.out_of_scope is not None and self.out_of_scope.label not in self.labels:
            raise ValueError(f"out_of_scope.label {self.out_of_scope.label!r} is not one of labels")
        return self

    @property
    def size_bytes(self) -> int:
        """Bytes of every file that a user would ship, the manifest aside."""
        return sum(entry.size_bytes for entry in self.files.values())


class KitManifest(Record):
    """What is in a kit: every variant's folder and the texts they are judged on.

    Attributes:
        recipe: name of the recipe that built the kit.
        settings: its settings, resolved.
        labels: class names; the label column of the split files holds these names.
        variants: folder of each variant, by the variant's name.
        manifests: SHA-256 of each variant's ``manifest.json``, which in turn holds its files'.
        splits: JSON Lines file of each split, rows ``{"text": …, "label": …}``.
        inputs: digests of what the kit was built from.
        libraries: versions of the libraries that built it.
    """

    # A process that only answers texts never reads one: its schema is made when first used.
    model_config = ConfigDict(defer_build=True)

    schema_version: Literal[1] = 1
    recipe: str
    settings: dict[str, Any]
    labels: tuple[str, ...]
    variants: dict[str, RelativePath]
    manifests: dict[str, str]
    splits: dict[str, RelativePath]
    files: dict[RelativePath, FileEntry]
    inputs: dict[str, str]
    libraries: dict[str, str]


def write_json(record: Record, path: Path) -> None:
    """Write a record as indented JSON, with a last newline."""
    path.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


AnyRecord = TypeVar("AnyRecord", bound=Record)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not a number")


class StoredError(ValueError):
    """A stored record that cannot be used; the message gives the fact, the values, the remedy."""


def read_record(
    path: Path, kind: type[AnyRecord], versions: int | tuple[int, ...], again: str
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
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise StoredError(f"{path.parent} has no {path.name}. {again}") from None
    except (OSError, ValueError) as error:
        raise StoredError(f"{path} is not JSON: {error}. {again}") from error
    found = content.get("schema_version") if isinstance(content, dict) else None
    known = (versions,) if isinstance(versions, int) else versions
    if found not in known:
        raise StoredError(
            f"{path} has schema_version {found!r}; this version of optimize reads "
            f"{' and '.join(map(str, known))}. "
            f"{again}"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise StoredError(f"{path} is not a {kind.__name__.lower()}: {error}") from error
