"""A checkpoint, its tokenizer and the settings held against each other, before anything trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from optimize.models.checkpoint import (
    CheckpointError,
    is_decoder,
    load_classifier,
    load_config,
    load_tokenizer,
)
from optimize.models.encoder import keep_layers, parameter_count
from optimize.models.inputs import tokenizer_inputs
from optimize.models.quiet import quiet
from optimize.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType

# Bytes of a protobuf message (protobuf's encoding guide, "Size limits").
LARGEST_ONNX = 2 * 2**30

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PROBLEMS: dict[str | None, str] = {
    SINGLE_LABEL: "one label a text",
    MULTI_LABEL: "several labels a text, or none",
    "regression": "a number a text",
}


def check_fit(
    checkpoint: str,
    revision: str | None,
    max_length: int,
    *,
    fine_tuned: bool,
    layers: int | Sequence[int] | None = None,
    problem_type: ProblemType = SINGLE_LABEL,
) -> PreTrainedTokenizerFast:
    """Refuse a checkpoint that would fail, or answer at random, after hours of training.

    Nothing is trained, and weights are read only where the checkpoint is said to be fine-tuned.

    Args:
        checkpoint: as in the settings.
        revision: of the Hub.
        max_length: longest input in tokens.
        fine_tuned: it is a classifier already.
        layers: those that a student made of it is to keep.
        problem_type: of the data.

    Returns:
        Its tokenizer.

    Raises:
        CheckpointError: with the values that do not fit.
        StudentError: it has not those layers.
    """
    config = load_config(checkpoint, revision)
    _check_problem(checkpoint, config, problem_type, fine_tuned=fine_tuned)
    tokenizer = load_tokenizer(checkpoint, revision)
    model = _without_weights(checkpoint, config)
    _check_positions(checkpoint, model, max_length)
    _check_vocabulary(checkpoint, model, tokenizer)
    keep_layers(model, layers)
    if fine_tuned:
        load_classifier(checkpoint, revision)
    return tokenizer


def check_exportable(checkpoint: str, config: Any) -> None:
    """Refuse a family that no ONNX bundle is made of: one that generates text.

    The last token's state is read there, which padding moves, and attention's caches are traced.

    Raises:
        CheckpointError: it is a decoder, or has one.
    """
    if is_decoder(config) or getattr(config, "is_encoder_decoder", False):
        raise CheckpointError(
            f"checkpoint {checkpoint!r} is a {config.model_type}, which generates text; what is "
            "exported to ONNX is an encoder, as BERT, RoBERTa, ELECTRA, MPNet, DeBERTa or "
            "ModernBERT. As a teacher it can stay in PyTorch: set student.checkpoint to an "
            "encoder, and leave teacher-onnx out of judge.variants"
        )


def check_onnx_size(checkpoint: str, revision: str | None) -> None:
    """Refuse a model that one ONNX file does not hold: protobuf's messages end at 2 GiB.

    Raises:
        CheckpointError: with its size in float32.
    """
    weights = 4 * parameter_count(shape_of(checkpoint, revision))
    if weights >= LARGEST_ONNX:
        raise CheckpointError(
            f"checkpoint {checkpoint!r} has {weights / 2**30:.1f} GiB of weights in float32, and "
            "an ONNX file holds 2 GiB at most. As a teacher it can stay in PyTorch: leave "
            "teacher-onnx out of judge.variants, and set student.layers, or student.checkpoint to "
            "a smaller encoder"
        )


def token_lengths(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, pairs: bool = False
) -> list[int]:
    """Tokens of each text, or pair of texts, uncut."""
    inputs = tokenizer_inputs(texts, pairs=pairs)
    with quiet():
        return [len(ids) for ids in tokenizer(*inputs, truncation=False)["input_ids"]]


def _check_problem(checkpoint: str, config: Any, wanted: ProblemType, *, fine_tuned: bool) -> None:
    problem = getattr(config, "problem_type", None)
    if problem is None and (not fine_tuned or wanted == SINGLE_LABEL):
        return  # a backbone of no problem yet, or the one that everyone takes it for
    if problem != wanted:
        raise CheckpointError(
            f"checkpoint {checkpoint!r} has problem_type {problem!r}: it answers "
            f"{PROBLEMS.get(problem, 'what it does not say')}, and by data.problem_type = "
            f"{wanted!r} it is to answer {PROBLEMS[wanted]}. Give a checkpoint of that kind, or "
            "correct the one that is wrong: problem_type in its config.json, or in the recipe."
        )


def shape_of(checkpoint: str, revision: str | None) -> PreTrainedModel:
    """A classifier of a checkpoint's shape, without weights.

    Raises:
        CheckpointError: there is none such.
    """
    return _without_weights(checkpoint, load_config(checkpoint, revision))


def _without_weights(checkpoint: str, config: Any) -> PreTrainedModel:
    """The model on no device: its shapes, and none of its memory."""
    from transformers import AutoModelForSequenceClassification

    from optimize.models import own_types  # noqa: F401  # they can be loaded from now on

    try:
        with quiet(), torch.device("meta"):
            return AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-any-return]
    except Exception as error:  # a configuration that contradicts itself fails anywhere
        raise CheckpointError(
            f"checkpoint {checkpoint!r}: no classifier can be made of its config.json "
            f"(model_type {config.model_type!r}): {type(error).__name__}: {error}"
        ) from error


def _check_positions(checkpoint: str, model: PreTrainedModel, max_length: int) -> None:
    for name, module in model.named_modules():
        if not name.endswith("position_embeddings") or not isinstance(module, torch.nn.Embedding):
            continue
        # RoBERTa and MPNet count positions from behind that of padding.
        usable = module.num_embeddings - (
            0 if module.padding_idx is None else module.padding_idx + 1
        )
        if max_length > usable:
            raise CheckpointError(
                f"teacher.max_length = {max_length}, but checkpoint {checkpoint!r} has "
                f"{module.num_embeddings} positions, of which {usable} are for tokens; set "
                f"max_length to at most {usable}"
            )


def _check_vocabulary(
    checkpoint: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    embeddings: Any = model.get_input_embeddings()
    rows = getattr(embeddings, "num_embeddings", None)
    highest = max(tokenizer.get_vocab().values())
    if rows is not None and highest >= rows:
        raise CheckpointError(
            f"checkpoint {checkpoint!r}: its tokenizer has token ids up to {highest}, its model "
            f"{rows} rows of embeddings; tokens were added without resize_token_embeddings(), or "
            "the tokenizer is of another model"
        )
