"""A kit on disk, read and checked: variants and the texts that they are judged on."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from optimize.bundle.folder import MODEL_NAME, BundleError, check_files, read_manifest
from optimize.bundle.manifest import (
    KIT_NAME,
    KIT_SCHEMAS,
    MANIFEST_NAME,
    FileEntry,
    KitManifest,
    Manifest,
    StoredError,
    read_record,
)
from optimize.bundle.onnx_header import read_facts
from optimize.bundle.texts import joined
from optimize.judge.label_sets import LabelSets
from optimize.judge.records import VariantFacts
from optimize.problems import MULTI_LABEL
from optimize.settings.gates import BASELINE
from optimize.settings.variants import VariantSettings

WEIGHTS = (MODEL_NAME, "model.safetensors")
# Stands in a variant of code that is installed, of which the kit holds nothing.
INSTALLED = "installed.txt"


class KitError(ValueError):
    """A kit that cannot be judged; the message gives the fact, the values and the remedy."""


@dataclass(frozen=True)
class Variant:
    """One model under measurement.

    Attributes:
        name: in tables and gates.
        folder: its files.
        manifest: read from there.
        missing: why it cannot be measured, if so.
        python: interpreter of its worker; ``None`` is this one.
    """

    name: str
    folder: Path
    manifest: Manifest
    missing: str | None = None
    python: str | None = None

    @property
    def facts(self) -> VariantFacts:
        """Size and identity, read off the manifest and the files themselves."""
        return VariantFacts(
            # The manifest's list, which the files were held against when the kit was read.
            size_bytes=self.manifest.size_bytes,
            parameters=self.manifest.parameters,
            model_sha256=self._weights_digest(),
            manifest_sha256=FileEntry.of(self.folder / MANIFEST_NAME).sha256,
            missing=self.missing,
        )

    @property
    def facts_with_sizes(self) -> VariantFacts:
        """The same, and where the bytes of an ONNX model are."""
        if self.manifest.format != "onnx":
            return self.facts
        content = (self.folder / MODEL_NAME).read_bytes()
        found = read_facts(content).bytes_by_operator
        return self.facts.model_copy(update={"bytes_by_operator": found})

    def _weights_digest(self) -> str:
        """Of the weights file, or where there is none of all files."""
        files = self.manifest.files
        if self.manifest.format in ("onnx", "torch"):
            return next(files[name].sha256 for name in WEIGHTS if name in files)
        every = "".join(f"{name} {files[name].sha256}\n" for name in sorted(files))
        return hashlib.sha256(every.encode()).hexdigest()


@dataclass(frozen=True)
class Examples:
    """Texts of one split and the ids of their labels (:class:`LabelSets`), equally long.

    A pair of texts is one string, see :mod:`optimize.bundle.texts`.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Kit:
    """What :func:`read_kit` found."""

    folder: Path
    manifest: KitManifest
    variants: dict[str, Variant]

    def examples(self, split: str) -> Examples:
        """The texts of ``validation`` or ``test``."""
        rows = self._rows(split)
        labels = self.label_sets.of_names(map(_names_of, rows))
        return Examples(tuple(map(_text_of, rows)), np.array(labels, dtype=np.int64))

    def _rows(self, split: str) -> list[dict[str, Any]]:
        path = self.folder / self.manifest.splits[split]
        # A line ends at \n alone: a text may hold U+2028 and its like.
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    @cached_property
    def label_sets(self) -> LabelSets:
        """What the ids of labels stand for; answers add to it where a text has several labels."""
        several = self.manifest.problem_type == MULTI_LABEL
        return LabelSets(self.manifest.labels, several=several)

    def trusting(self, own: Mapping[str, VariantSettings]) -> Kit:
        """The same kit, in which no code runs but the code of one's own recipe.

        Args:
            own: ``[variants]`` of settings that are not the kit's.
        """
        checked = {
            name: replace(variant, missing=variant.missing or _foreign_code(variant, own.get(name)))
            for name, variant in self.variants.items()
        }
        return replace(self, variants=checked)

    def with_bundle(self, bundle: Path, variant: str, *, own: bool = False) -> Kit:
        """The same kit with a bundle in place of one of its variants.

        Args:
            bundle: its folder.
            variant: the variant's name.
            own: it was built here from one's own repository, and may hold its code.

        Raises:
            KitError: the bundle's labels are not the kit's, or it is a stranger's code.
        """
        manifest = checked_manifest(variant, bundle)
        if not own:
            refuse_code(bundle, manifest)
        if variant == BASELINE:
            return self._with_baseline(bundle, manifest)
        # The kit may know more labels, which another of its variants brought.
        unknown = set(manifest.labels) - set(self.manifest.labels)
        absent = self._labels_of_texts() - set(manifest.labels)
        if unknown or absent:
            raise KitError(
                f"{bundle} has {len(manifest.labels)} labels, the kit {len(self.manifest.labels)}"
                f"; differing: {sorted(unknown | absent)[:5]}. Judge a bundle with a kit built "
                "from the same data."
            )
        check_problem(bundle, manifest, self.manifest)
        changed = Variant(variant, bundle, manifest)
        return replace(self, variants={**self.variants, variant: changed})

    def _with_baseline(self, bundle: Path, manifest: Manifest) -> Kit:
        """The same kit with what it is held against, which may be from before labels changed.

        It is judged on the texts whose labels it knows, and may answer labels that are no more.
        """
        check_problem(bundle, manifest, self.manifest)
        known, theirs = self.manifest.labels, set(manifest.labels)
        for split in self.manifest.splits:
            if not any(names and theirs.issuperset(names) for names in self._names(split)):
                raise KitError(
                    f"{bundle} knows the labels of none of the {split} texts (they have "
                    f"{', '.join(known[:5])} …, it {', '.join(manifest.labels[:5])} …): nothing "
                    "can be compared. Judge without a baseline (in the action, `baseline: none`)."
                )
        every = (*known, *(label for label in manifest.labels if label not in known))
        return replace(
            self,
            manifest=msgspec.structs.replace(self.manifest, labels=every),
            variants={**self.variants, BASELINE: Variant(BASELINE, bundle, manifest)},
        )

    def lacks(self, variant: str) -> tuple[str, ...]:
        """Labels that texts have and a variant does not know."""
        return tuple(
            sorted(self._labels_of_texts().difference(self.variants[variant].manifest.labels))
        )

    def _labels_of_texts(self) -> set[str]:
        """Labels that a text has."""
        every = self.manifest.splits
        return {name for split in every for names in self._names(split) for name in names}

    def _names(self, split: str) -> list[list[str]]:
        """The labels of each text."""
        return [_names_of(row) for row in self._rows(split)]

    def under(self, python: str) -> Kit:
        """The same kit, its ONNX variants run by another interpreter, which needs the base layer.

        PyTorch variants stay with this one: where a bundle is deployed, there is no torch.
        """
        moved = {
            name: replace(variant, python=python) if variant.manifest.format == "onnx" else variant
            for name, variant in self.variants.items()
        }
        return replace(self, variants=moved)


def check_problem(bundle: Path, manifest: Manifest, kit: KitManifest) -> None:
    """Refuse a bundle that would answer the kit's texts as what they are not.

    Raises:
        KitError: one is of one label a text, the other of several; or one of pairs of texts.
    """
    if (manifest.problem_type, manifest.text_pair) == (kit.problem_type, kit.text_pair):
        return

    def words(record: Manifest | KitManifest) -> str:
        return f"{record.problem_type} of {'pairs of texts' if record.text_pair else 'texts'}"

    raise KitError(
        f"{bundle} does {words(manifest)}, the kit {words(kit)}. Judge a bundle with a kit built "
        "from the same data."
    )


def _names_of(row: dict[str, Any]) -> list[str]:
    return row["labels"] if "labels" in row else [row["label"]]


def _text_of(row: dict[str, Any]) -> str:
    text: str = row["text"]
    return joined(text, row["text_pair"]) if "text_pair" in row else text


def read_kit(folder: Path) -> Kit:
    """Read a kit, and check the digests of its texts, its manifests and every file of a variant.

    The worker that loads a variant checks them again.

    Raises:
        KitError: missing, of another schema version, or changed since it was built.
    """
    again = "`optimize build --out DIR` leaves a kit in DIR."
    try:
        manifest = read_record(folder / KIT_NAME, KitManifest, KIT_SCHEMAS, again)
    except StoredError as error:
        raise KitError(f"not a kit: {error}") from error
    for name, entry in manifest.files.items():
        _check(folder / name, entry.sha256)
    variants = {}
    for name, place in manifest.variants.items():
        if name not in manifest.manifests:
            raise KitError(
                f"{folder / KIT_NAME} has no digest of the variant {name!r}: it was changed. Copy "
                "the kit again, or build it again."
            )
        _check(folder / place / MANIFEST_NAME, manifest.manifests[name])
        variants[name] = _variant(name, folder / place)
    return Kit(folder, manifest, variants)


def _variant(name: str, folder: Path) -> Variant:
    manifest = checked_manifest(name, folder)
    needed = {"torch": ("torch", "transformers"), "linear": ("sklearn",)}.get(manifest.format, ())
    absent = [library for library in needed if importlib.util.find_spec(library) is None]
    missing = f"needs {' and '.join(absent)}, not installed here" if absent else None
    return Variant(name, folder, manifest, missing)


def checked_manifest(name: str, folder: Path) -> Manifest:
    """The manifest of a variant whose files are all as it says.

    Raises:
        KitError: they are not, or it has none.
    """
    try:
        manifest = read_manifest(folder)
        check_files(folder, manifest)
    except BundleError as error:
        raise KitError(f"variant {name}: {error}") from error
    return manifest


def _check(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise KitError(f"{path} is missing; the kit lists it. Copy the kit again.")
    found = FileEntry.of(path).sha256
    if found != sha256:
        raise KitError(
            f"{path} has SHA-256 {found}, the kit says {sha256}: it was changed. Copy the kit "
            "again, or build it again."
        )


def refuse_code(folder: Path, manifest: Manifest) -> None:
    """A bundle that is named by its folder is a model, and no code.

    Raises:
        KitError: it is Python code, which runs only as a variant of one's own recipe.
    """
    if manifest.format == "python":
        raise KitError(
            f"{folder} is Python code ({manifest.recipe.get('python')}) and no bundle; it runs "
            "only as one of [variants] of your own recipe"
        )


def _foreign_code(variant: Variant, own: VariantSettings | None) -> str | None:
    """Why a variant's code is not run, if it is code and not that of one's own recipe."""
    if variant.manifest.format != "python":
        return None
    factory = variant.manifest.recipe.get("python")
    if own is None or own.python != factory:
        return (
            f"its code {factory} is not run, since only the kit names it: give the recipe that "
            "does, --recipe FILE"
        )
    for name, entry in variant.manifest.files.items():
        path = Path(own.path, name)
        if name != INSTALLED and not (path.is_file() and FileEntry.of(path) == entry):
            return f"its code is not run: {name} in the kit is not your {path}; build the kit again"
    return None
