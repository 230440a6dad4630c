"""A bundle's folder: its manifest, and files whose digests agree with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from optimize.bundle.manifest import (
    BUNDLE_SCHEMAS,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    StoredError,
    read_record,
)
from optimize.disk import read_regular

MODEL_NAME = "model.onnx"
TOKENIZER_NAME = "tokenizer.json"
CARD_NAME = "README.md"
PAGE_NAME = "report.html"
# What a bundle on the Hub has beside its files: no library reads any of it for the model's.
PUBLISHED = (CARD_NAME, PAGE_NAME, ".gitattributes", ".cache", ".git")
# Protobuf's own limit for one message; no file of a bundle can be larger and be read.
LARGEST_BYTES = 2**31


class BundleError(ValueError):
    """A bundle that cannot be used; the message gives the fact, the values and the remedy."""


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


def check_files(folder: Path, manifest: Manifest) -> None:
    """Hold every file of a model folder against its manifest; the model card may differ.

    Raises:
        BundleError: one is missing, changed, or not of this model.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing; the manifest lists it. Copy it again.")
        if (size := path.stat().st_size) != entry.size_bytes:
            raise BundleError(
                f"{path} has {size:,} bytes, the manifest says {entry.size_bytes:,}: it was "
                "changed or cut short. Copy it again."
            )
        found = FileEntry.of(path)
        if found != entry:
            raise _changed(path, found, entry)
    there = {path.name for path in folder.iterdir()}
    if extra := sorted(there - manifest.files.keys() - {MANIFEST_NAME, *PUBLISHED}):
        raise BundleError(
            f"{folder / extra[0]} is not in the manifest: it is not of this model, and a library "
            "may read it beside the model's own files. Delete it."
        )


def _changed(path: Path, found: FileEntry, entry: FileEntry) -> BundleError:
    return BundleError(
        f"{path} has SHA-256 {found.sha256} and {found.size_bytes} bytes, the manifest says "
        f"{entry.sha256} and {entry.size_bytes}: it was changed or cut short. Copy it again."
    )


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
        content = read_regular(path, LARGEST_BYTES)
    except FileNotFoundError:
        raise BundleError(f"{path} is missing; the manifest lists it. Copy it again.") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{path} cannot be read: {error}. Copy it again.") from None
    found = FileEntry(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    if found != entry:
        raise _changed(path, found, entry)
    return content
