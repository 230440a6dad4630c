"""The kit: every variant, and the texts that they are judged on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from optimize.bundle.folder import read_manifest
from optimize.bundle.manifest import KIT_NAME, MANIFEST_NAME, FileEntry, KitManifest, write_json
from optimize.bundle.texts import parted
from optimize.data.splits import Splits
from optimize.models.folder import EXPORT_LIBRARIES, library_versions, link
from optimize.workspace import Workspace


def build_kit(
    result: Path,
    run: Workspace,
    *,
    settings: Mapping[str, Any],
    splits: Splits,
    **variants: Path,
) -> None:
    """The stage: all that the judge needs.

    Args:
        result: folder to fill.
        run: is told nothing.
        settings: the recipe, as JSON values.
        splits: validation and test are written.
        **variants: every variant's folder, by its name.
    """
    for name, folder in variants.items():
        shutil.copytree(folder, result / name, copy_function=link)
    files = write_texts(splits, result)
    known = [read_manifest(folder).labels for folder in variants.values()]
    # A model made elsewhere may know labels that no text here has.
    labels = tuple(dict.fromkeys(chain(splits.label_names, *known)))
    manifest = KitManifest(
        recipe=settings["name"],
        settings=dict(settings),
        labels=labels,
        problem_type=splits.training.problem_type,
        text_pair=splits.pairs,
        variants={name: name for name in variants},
        manifests={
            name: FileEntry.of(folder / MANIFEST_NAME).sha256 for name, folder in variants.items()
        },
        splits=files,
        files={path: FileEntry.of(result / path) for path in files.values()},
        inputs={"data": splits.key_part},
        libraries=library_versions(EXPORT_LIBRARIES),
    )
    write_json(manifest, result / KIT_NAME)


def write_texts(splits: Splits, kit: Path) -> dict[str, str]:
    """The evaluation splits as JSON Lines; returns their paths in the kit."""
    (kit / "data").mkdir()
    paths = {}
    for name in ("validation", "test"):
        paths[name] = f"data/{name}.jsonl"
        with (kit / paths[name]).open("w", encoding="utf-8") as stream:
            several = splits.training.multi_label
            for text, labels in zip(splits[name].texts, splits.names_of(name), strict=True):
                row: dict[str, Any] = {"text": text}
                if splits.pairs:
                    row["text"], row["text_pair"] = parted(text)
                row |= {"labels": labels} if several else {"label": labels[0]}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return paths
