"""Model folders and kits as they are written: files, digests, manifests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from optimize.bundle.folder import MODEL_NAME, TOKENIZER_NAME
from optimize.bundle.manifest import BUNDLE_SCHEMAS, MANIFEST_NAME, FileEntry, Manifest, write_json
from optimize.models.quiet import quiet


def library_versions(libraries: Sequence[str]) -> dict[str, str]:
    """Installed version of each distribution; one that is not installed has none."""
    found = {}
    for name in libraries:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


TRAIN_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "safetensors")
EXPORT_LIBRARIES = (*TRAIN_LIBRARIES, "optimum", "optimum-onnx", "onnx", "onnxruntime")
# Only what one ships counts as a PyTorch model's size; the rest can be made from it.
CONFIG_NAME, TOKENIZER_CONFIG_NAME = "config.json", "tokenizer_config.json"
WEIGHTS_NAME = "model.safetensors"
SHIPPED = (CONFIG_NAME, WEIGHTS_NAME, TOKENIZER_NAME, TOKENIZER_CONFIG_NAME)
# Above 5 GB transformers 4 would write several files and an index.
ONE_SHARD = "1000TB"


def save_torch(model: Any, tokenizer: Any, folder: Path, **fields: Any) -> None:
    """A PyTorch model with its tokenizer and manifest.

    Args:
        model: the classifier.
        tokenizer: its own.
        folder: an empty one.
        **fields: what the manifest says beside the files and libraries.

    Raises:
        OSError: the weights were not written.
    """
    from optimize.models.encoder import parameter_count

    with quiet():
        model.save_pretrained(folder, safe_serialization=True, max_shard_size=ONE_SHARD)
        tokenizer.save_pretrained(folder)
    if not (folder / WEIGHTS_NAME).is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise OSError(f"{folder}: the weights were not saved as {WEIGHTS_NAME} (there: {found})")
    for path in folder.iterdir():
        if path.name not in SHIPPED:
            path.unlink()
    # The file then says on which side a text is cut, as it was while the model learned.
    tokenizer.backend_tokenizer.enable_truncation(
        fields["max_length"], direction=tokenizer.truncation_side
    )
    compact = tokenizer.backend_tokenizer.to_str(pretty=False)
    (folder / TOKENIZER_NAME).write_text(compact, encoding="utf-8")
    manifest = Manifest(
        format="torch",
        parameters=parameter_count(model),
        files=entries(folder),
        libraries=library_versions(TRAIN_LIBRARIES),
        **fields,
    )
    write_json(manifest, folder / MANIFEST_NAME)


def copy_loading_files(source: Path, target: Path) -> None:
    """All but the weights: what `optimum` and `transformers.pipeline` need to load a model too.

    Args:
        source: a model folder.
        target: the folder of the same model in another form.
    """
    for name in (TOKENIZER_NAME, TOKENIZER_CONFIG_NAME):
        if (source / name).is_file():
            shutil.copy(source / name, target)
    if not (source / CONFIG_NAME).is_file():
        return
    config = json.loads((source / CONFIG_NAME).read_text(encoding="utf-8"))
    # A type of our own, which no other library knows; what differs is inside the ONNX graph.
    if config.get("model_type") == "mean-pooled-bert":
        config |= {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    content = json.dumps(config, ensure_ascii=False, indent=1) + "\n"
    (target / CONFIG_NAME).write_text(content, encoding="utf-8")


def derived(folder: Path, source: Manifest, own: dict[str, Any], **changes: Any) -> Manifest:
    """The manifest of a model made from another one by the settings ``own``."""
    return msgspec.structs.replace(
        source,
        schema_version=BUNDLE_SCHEMAS[-1],
        inputs=source.inputs | {"model": weights_digest(source)},
        libraries=library_versions(EXPORT_LIBRARIES),
        files=entries(folder),
        recipe=source.recipe | own,
        **changes,
    )


def weights_digest(manifest: Manifest) -> str:
    """Digest of a model's weights file, as its manifest has it."""
    name = next(name for name in (MODEL_NAME, "model.safetensors") if name in manifest.files)
    return manifest.files[name].sha256


def entries(folder: Path) -> dict[str, FileEntry]:
    """Every file of a folder but its manifest."""
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST_NAME)
    return {path.name: FileEntry.of(path) for path in paths}


def link(source: str, target: str) -> None:
    """A hard link where the file system has them, a copy elsewhere: a kit repeats no bytes."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
