"""What is fitted on validation once a model is made: its temperature and out-of-scope bias."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax

from optimize.bundle.classifier import Classifier
from optimize.bundle.folder import CARD_NAME, read_manifest
from optimize.bundle.manifest import MANIFEST_NAME, OutOfScope, write_json
from optimize.data.splits import TrainingData, digest_of
from optimize.models.folder import link
from optimize.quantize.card import model_card
from optimize.settings.training import CalibrateSettings
from optimize.training.thresholds import fitted_thresholds
from optimize.workspace import Workspace

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]
# Temperatures between which the best is looked for.
COLDEST, HOTTEST = 0.05, 20.0
LOGITS_NAME = "logits.npy"


def build_validation_logits(
    result: Path, run: Workspace, *, data: TrainingData, isa: str, model: Path
) -> None:
    """The stage: a model's logits of the validation texts, which a bias is fitted to.

    Args:
        result: folder to fill.
        run: is told nothing.
        data: the texts.
        isa: instruction-set class of this machine, which the last digits hang on.
        model: folder of the ONNX model, or of the PyTorch one where it is not exported.
    """
    texts = data.validation.texts
    if read_manifest(model).format == "torch":
        from optimize.training.predict import logits_of

        np.save(result / LOGITS_NAME, logits_of(model, texts))
    else:
        np.save(result / LOGITS_NAME, Classifier(model).logits(texts))


def build_calibrated(
    result: Path,
    run: Workspace,
    *,
    settings: CalibrateSettings,
    out_of_scope_label: str | None,
    data: TrainingData,
    isa: str,
    model: Path,
    teacher_logits: Path,
    like: Path | None = None,
) -> None:
    """The stage: a model with what was fitted on the validation split in its manifest.

    Args:
        result: folder to fill.
        run: is told nothing.
        settings: what is fitted.
        out_of_scope_label: the label that means none of the others.
        data: the validation split is fitted to.
        isa: instruction-set class of this machine: without VNNI, INT8 products may saturate.
        model: its folder.
        teacher_logits: folder of the teacher's logits of the same texts.
        like: folder of the ONNX model of the same weights that stands in for a PyTorch one.
    """
    manifest = read_manifest(model)
    # INT8 as it is served, one by one; a batch would share its scales.
    size = 1 if manifest.quantization else 32
    validation = data.validation
    label = out_of_scope_label
    seen_digest = digest_of(data.label_names, {"validation": validation}, pairs=data.pairs)
    logits = Classifier(like or model).logits(validation.texts, batch_size=size)
    if data.multi_label:
        found = fit_several(logits, validation.labels, temperature=settings.temperature)
    else:
        found = fit(
            logits,
            validation.labels,
            temperature=settings.temperature,
            out_of_scope=None if label is None else data.label_names.index(label),
            teacher_answers=np.load(teacher_logits / LOGITS_NAME).argmax(axis=1),
            match=settings.out_of_scope,
        )
    for name in manifest.files:
        link(str(model / name), str(result / name))
    fitted = msgspec.structs.replace(
        manifest,
        temperature=found.temperature,
        thresholds=found.thresholds,
        out_of_scope=None if label is None else OutOfScope(label=label, bias=found.bias),
        inputs=manifest.inputs | {"calibration": seen_digest},
        recipe=manifest.recipe | {"calibrate": settings.model_dump()},
    )
    write_json(fitted, result / MANIFEST_NAME)
    if fitted.quantization:
        (result / CARD_NAME).write_text(model_card(fitted), encoding="utf-8")


class Calibration(NamedTuple):
    """What a manifest keeps.

    Attributes:
        temperature: logits are divided by it before the softmax.
        bias: added to the out-of-scope label's logit before that.
        thresholds: of each label's probability, where a text has several.
    """

    temperature: float = 1.0
    bias: float = 0.0
    thresholds: tuple[float, ...] | None = None


def fit_several(logits: Logits, labels: Ids, *, temperature: bool) -> Calibration:
    """Fit a temperature and thresholds, where a text may have several labels.

    Args:
        logits: shape (texts, labels).
        labels: 1 for each label that a text has, else 0; the same shape.
        temperature: whether to fit it.
    """
    chosen = fit_binary_temperature(logits, labels) if temperature else 1.0
    rows = expit(logits.astype(np.float64) / chosen)
    return Calibration(chosen, thresholds=fitted_thresholds(rows, labels))


def fit_binary_temperature(logits: Logits, labels: Ids) -> float:
    """The temperature with the least cross-entropy of the labels' sigmoids.

    Args:
        logits: shape (texts, labels).
        labels: 1 for each label that a text has, else 0; the same shape.
    """
    signed = np.where(labels == 1, logits, -logits).astype(np.float64)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -signed / np.exp(log_temperature)).mean())

    return _coolest(loss)


def _coolest(loss: Callable[[float], float]) -> float:
    """The temperature whose logarithm has the least loss."""
    bounds = (np.log(COLDEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def fit_temperature(logits: Logits, labels: Ids) -> float:
    """The temperature with the least negative log-likelihood.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.

    Args:
        logits: shape (texts, labels).
        labels: true class ids, shape (texts,).
    """

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(labels)), labels].mean())

    return _coolest(loss)


def fit_bias(logits: Logits, label: int, wanted: int) -> float:
    """The bias of one label's logit with which so many of the texts are answered with it.

    A text is answered with the label once the bias is above its margin, the distance from the
    label's logit up to the largest of the others. The bias is midway between the two margins that
    it must part, and 0 where that parts them already.

    Args:
        logits: shape (texts, labels).
        label: column of the label.
        wanted: texts that are to be answered with it, 0 to all of them.

    Raises:
        ValueError: ``wanted`` is out of that range.
    """
    if not 0 <= wanted <= len(logits):
        raise ValueError(f"{wanted} of {len(logits)} texts cannot be answered with a label")
    others = np.delete(logits, label, axis=1).max(axis=1)
    margins = np.sort((others - logits[:, label]).astype(np.float64))
    below = margins[wanted - 1] if wanted else -np.inf
    above = margins[wanted] if wanted < len(margins) else np.inf
    if below < 0 < above:
        return 0.0
    if np.isinf(below):
        return float(above) - 1.0
    return float(below) + 1.0 if np.isinf(above) else float((below + above) / 2)


def fit(
    logits: Logits,
    labels: Ids,
    *,
    temperature: bool,
    out_of_scope: int | None,
    teacher_answers: Ids,
    match: str,
) -> Calibration:
    """Fit what the settings ask for, the bias first, since it changes the probabilities.

    Args:
        logits: the model's, shape (texts, labels).
        labels: true class ids.
        temperature: whether to fit it.
        out_of_scope: column of that label; ``None`` where there is none.
        teacher_answers: class ids that the teacher gives to the same texts.
        match: ``recall`` of out-of-scope texts, the ``rate`` of that answer, or ``none``.
    """
    bias = 0.0
    if out_of_scope is not None and match != "none":
        chosen = labels == out_of_scope if match == "recall" else np.ones(len(labels), dtype=bool)
        wanted = int((teacher_answers[chosen] == out_of_scope).sum())
        if chosen.any():
            bias = fit_bias(logits[chosen], out_of_scope, wanted)
    shifted = logits.copy()
    if out_of_scope is not None:
        shifted[:, out_of_scope] += bias
    return Calibration(fit_temperature(shifted, labels) if temperature else 1.0, bias)
