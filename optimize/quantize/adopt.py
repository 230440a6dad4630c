"""Models built elsewhere, checked, as folders that the judge and ``Classifier`` read.

A folder of an ONNX model is what optimum's own command line writes: ``model.onnx`` or
``model_quantized.onnx``, ``config.json`` and a tokenizer. A checkpoint is what ``save_pretrained``
writes. What one cannot be told from the files is refused in words, not guessed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from optimize.bundle.classifier import Classifier
from optimize.bundle.folder import MODEL_NAME, TOKENIZER_NAME, BundleError, read_manifest
from optimize.bundle.manifest import MANIFEST_NAME, Manifest, write_json
from optimize.bundle.onnx_header import OnnxFileError, read_facts
from optimize.models.folder import (
    CONFIG_NAME,
    EXPORT_LIBRARIES,
    TOKENIZER_CONFIG_NAME,
    copy_loading_files,
    entries,
    library_versions,
    link,
    save_torch,
)
from optimize.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType
from optimize.quantize.adopted_answers import AdoptError, check_answers, refuse_probabilities

# What optimum names a model: exported, and then optimized or quantized by it.
ONNX_NAMES = ("model_quantized.onnx", "model_optimized.onnx", MODEL_NAME)
COUNTED_BEHIND_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
# Words of a quantized model's operators.
INTEGER_OPERATORS = ("Integer", "QAttention", "QLinear", "DequantizeLinear", "MatMulNBits")
# Tokenizers that know no limit say a number of this size.
NO_LIMIT = 10**6


def kind_of(folder: Path) -> str:
    """What a folder holds: ``bundle``, ``onnx`` or ``checkpoint``.

    Raises:
        AdoptError: it holds none of these.
    """
    if (folder / MANIFEST_NAME).is_file():
        return "bundle"
    if _onnx_files(folder):
        return "onnx"
    if (folder / CONFIG_NAME).is_file():
        return "checkpoint"
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else ""
    raise AdoptError(
        f"{folder} holds no model: a bundle has {MANIFEST_NAME}, optimum writes "
        f"{' or '.join(ONNX_NAMES)}, a checkpoint has {CONFIG_NAME}"
        + (f" (there: {there})" if there else "; there is no such folder")
    )


def adopt(
    folder: Path,
    result: Path,
    *,
    runtime: str = "onnx",
    max_length: int | None = None,
    text_pair: bool = False,
) -> Manifest:
    """Fill ``result`` with the model in ``folder``.

    Args:
        folder: a bundle, an ONNX model as optimum writes it, or a checkpoint.
        result: an empty folder.
        runtime: of a checkpoint: ``torch`` as it is, or ``onnx``, to which it is exported.
        max_length: longest input in tokens; by default what the files say.
        text_pair: whether an input is a pair of texts, which no file says.

    Raises:
        AdoptError: a file is missing, or they contradict each other.
        BundleError: the model is not one that a bundle may hold.
        CheckpointError: weights are missing.
    """
    kind = kind_of(folder)
    if kind == "bundle":
        manifest = read_manifest(folder)
        if text_pair and not manifest.text_pair:
            raise AdoptError(f"{folder} is a bundle, and its manifest says that it takes no pairs")
        for name in manifest.files:
            link(str(folder / name), str(result / name))
        shutil.copy(folder / MANIFEST_NAME, result)
        manifest = _shortened(folder, result, manifest, max_length)
    elif kind == "onnx":
        manifest = _adopt_onnx(folder, result, max_length, text_pair=text_pair)
    else:
        own = {"text_pair": text_pair}
        manifest = _adopt_checkpoint(str(folder), result, runtime, max_length, own)
    if manifest.format == "onnx":
        # That it loads and answers is part of what is checked.
        try:
            classifier = Classifier(result)
        except BundleError as error:
            if kind != "onnx":
                raise
            said = str(error).replace(str(result), str(folder))
            raise AdoptError(
                f"{said} The labels are those of id2label in {folder / CONFIG_NAME}"
            ) from error
        check_answers(folder, classifier)
    return manifest


def _shortened(folder: Path, result: Path, manifest: Manifest, max_length: int | None) -> Manifest:
    """A bundle that is asked to cut texts earlier than it says."""
    if max_length is None or max_length == manifest.max_length:
        return manifest
    if max_length > manifest.max_length:
        raise AdoptError(
            f"max_length = {max_length}, and {folder} is a bundle of at most "
            f"{manifest.max_length} tokens"
        )
    manifest = msgspec.structs.replace(manifest, max_length=max_length)
    write_json(manifest, result / MANIFEST_NAME)
    return manifest


def _onnx_files(folder: Path) -> list[Path]:
    """ONNX files, those that optimum made of others first."""
    found = sorted(folder.glob("*.onnx"))
    known = [folder / name for name in ONNX_NAMES if folder / name in found]
    return [*known, *(path for path in found if path not in known)]


def _adopt_onnx(folder: Path, result: Path, max_length: int | None, *, text_pair: bool) -> Manifest:
    model, *others = _onnx_files(folder)
    if others and model.name not in ONNX_NAMES:
        raise AdoptError(
            f"{folder} holds {', '.join(path.name for path in (model, *others))}; leave the one "
            "that is meant"
        )
    config = _json(folder / CONFIG_NAME, "It names the labels; save it beside the model.")
    labels = _labels(folder, config)
    problem_type = _problem_type(folder, config, labels)
    shutil.copy(model, result / MODEL_NAME)
    _copy_tokenizer(folder, result)
    shutil.copy(folder / CONFIG_NAME, result)
    try:
        facts = read_facts(model.read_bytes())
    except OnnxFileError as error:
        raise AdoptError(f"{model} is not an ONNX model: {error}") from error
    refuse_probabilities(model)
    integer = any(word in name for name in facts.operators for word in INTEGER_OPERATORS)
    manifest = Manifest(
        format="onnx",
        labels=labels,
        max_length=_max_length(folder, config, max_length),
        parameters=0,
        opset=facts.opsets.get(""),
        ir_version=facts.ir_version,
        quantization="adopted" if integer else None,
        problem_type=problem_type,
        text_pair=text_pair,
        files=entries(result),
        libraries={},
        recipe={"adopted": {"model": model.name}},
    )
    write_json(manifest, result / MANIFEST_NAME)
    return manifest


def _adopt_checkpoint(
    checkpoint: str, result: Path, runtime: str, max_length: int | None, own: dict[str, Any]
) -> Manifest:
    from optimize.models.checkpoint import (
        as_stored,
        label_names,
        load_classifier,
        load_tokenizer,
    )

    model, tokenizer = load_classifier(checkpoint), load_tokenizer(checkpoint)
    labels = label_names(checkpoint)
    config = model.config.to_dict()
    problem_type = _problem_type(Path(checkpoint), config, labels)
    length = _limit(max_length or tokenizer.model_max_length, _positions(config))
    if length is None:
        raise _no_length(Path(checkpoint))
    if max_length is not None and length != max_length:
        raise AdoptError(f"max_length = {max_length}, and the model takes 3 to {length}")
    own |= {"labels": labels, "max_length": length, "problem_type": problem_type}
    own["recipe"] = {"adopted": {"runtime": runtime}}
    if runtime == "torch":
        save_torch(as_stored(model, checkpoint), tokenizer, result, **own)
        return read_manifest(result)
    return _exported(model, tokenizer, result, own)


def _exported(model: Any, tokenizer: Any, result: Path, own: dict[str, Any]) -> Manifest:
    """A checkpoint as an ONNX bundle."""
    from tempfile import TemporaryDirectory

    from optimize.quantize.export import export_onnx, versions
    from optimize.settings.quantization import ExportSettings

    with TemporaryDirectory() as work:
        save_torch(model, tokenizer, Path(work), **own)
        export_onnx(model, result / MODEL_NAME, ExportSettings())
        copy_loading_files(Path(work), result)
        opset, ir_version = versions(result / MODEL_NAME)
        manifest = msgspec.structs.replace(
            read_manifest(Path(work)),
            format="onnx",
            opset=opset,
            ir_version=ir_version,
            files=entries(result),
            libraries=library_versions(EXPORT_LIBRARIES),
        )
    write_json(manifest, result / MANIFEST_NAME)
    return manifest


def _copy_tokenizer(folder: Path, result: Path) -> None:
    """``tokenizer.json``, made of a slow tokenizer's files where there is none."""
    for name in (TOKENIZER_NAME, TOKENIZER_CONFIG_NAME):
        if (folder / name).is_file():
            shutil.copy(folder / name, result)
    if (folder / TOKENIZER_NAME).is_file():
        return
    from optimize.models.checkpoint import CheckpointError, load_tokenizer

    try:
        tokenizer = load_tokenizer(str(folder))
    except CheckpointError as error:
        raise AdoptError(
            f"{folder} has no {TOKENIZER_NAME}, and none can be made of its files: {error}. Save "
            "the tokenizer beside the model: AutoTokenizer.from_pretrained(…).save_pretrained"
        ) from error
    tokenizer.backend_tokenizer.save(str(result / TOKENIZER_NAME), pretty=False)


def _labels(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if not isinstance(names, dict) or not names:
        raise AdoptError(
            f"{folder / CONFIG_NAME} has no id2label, so nobody knows what the model's scores "
            'mean; add it, e.g. "id2label": {"0": "cancel", "1": "refund"}'
        )
    ids = sorted(int(key) for key in names if str(key).isdigit())
    if ids != list(range(len(names))):
        raise AdoptError(
            f"{folder / CONFIG_NAME}: id2label has the ids {', '.join(list(names)[:5])}; scores "
            f"are counted from 0 to {len(names) - 1}"
        )
    return tuple(str(names[str(place)]) for place in ids)


def _problem_type(folder: Path, config: Mapping[str, Any], labels: Sequence[str]) -> ProblemType:
    """Whether a text has one label or several; other tasks are refused.

    Raises:
        AdoptError: scores of the model would be read as what they are not.
    """
    problem = config.get("problem_type") or SINGLE_LABEL
    if problem not in (SINGLE_LABEL, MULTI_LABEL) or len(labels) < 2:
        told = f"{len(labels)} label" if len(labels) < 2 else f"problem_type {problem!r}"
        raise AdoptError(
            f"{folder / CONFIG_NAME} has {told}: this suite judges classifiers of two or more "
            "labels, one or several a text"
        )
    return MULTI_LABEL if problem == MULTI_LABEL else SINGLE_LABEL


def _max_length(folder: Path, config: dict[str, Any], given: int | None) -> int:
    most = _positions(config)
    if given is not None:
        if given < 3 or (most is not None and given > most):
            raise AdoptError(
                f"max_length = {given}, and the model takes 3 to {most or 'so many as it likes'}"
            )
        return given
    tokenizer = {}
    if (folder / TOKENIZER_CONFIG_NAME).is_file():
        tokenizer = _json(folder / TOKENIZER_CONFIG_NAME, "Save the tokenizer again.")
    found = _limit(tokenizer.get("model_max_length"), _positions(config))
    if found is None:
        raise _no_length(folder)
    return found


def _positions(config: Mapping[str, Any]) -> int | None:
    """Positions that are for tokens; some families count them from behind that of padding."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    offset = config.get("model_type") in COUNTED_BEHIND_PADDING
    return positions - (int(config.get("pad_token_id") or 0) + 1 if offset else 0)


def _limit(*values: Any) -> int | None:
    """The least of what is a number of tokens."""
    known = [
        int(value) for value in values if isinstance(value, int | float) and 2 < value < NO_LIMIT
    ]
    return min(known) if known else None


def _no_length(folder: Path) -> AdoptError:
    return AdoptError(
        f"{folder} does not say how many tokens its model takes (model_max_length, "
        "max_position_embeddings); give it with max_length"
    )


def _json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdoptError(f"{path} is missing. {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise AdoptError(f"{path} is not JSON: {error}. {remedy}") from error
    if not isinstance(content, dict):
        raise AdoptError(f"{path} is no JSON object. {remedy}")
    return content


def check_labels(
    name: str,
    manifest: Manifest,
    known: Sequence[str],
    problem_type: ProblemType,
    *,
    text_pair: bool = False,
) -> None:
    """Refuse a model that could never be right on some texts.

    Args:
        name: of the variant.
        manifest: the model's.
        known: the data's labels.
        problem_type: the data's.
        text_pair: whether the data's texts are pairs.

    Raises:
        AdoptError: the data has labels that the model has not, and names some of both; or the one
            has one label a text and the other several, or pairs.
    """
    if manifest.text_pair != text_pair:
        takes, is_of = ("pairs", "texts") if manifest.text_pair else ("single texts", "pairs")
        raise AdoptError(
            f"variants.{name}: the model takes {takes}, and the data is of {is_of}; set "
            "data.text_pair_column, or adopt the model anew"
        )
    if manifest.problem_type != problem_type:
        raise AdoptError(
            f"variants.{name}: the model is of problem_type {manifest.problem_type!r}, the data of "
            f"{problem_type!r}; set data.problem_type, or problem_type in the model's config.json"
        )
    labels = manifest.labels
    if absent := sorted(set(known) - set(labels)):
        others = sorted(set(labels) - set(known))
        raise AdoptError(
            f"variants.{name}: the data has {len(absent)} labels that the model has not "
            f"({', '.join(absent[:5])}); the model has {', '.join(others[:5]) or 'no others'}. "
            "Rename the ones or the others, in the data or in id2label of config.json"
        )
