"""What is fitted on validation once a model is made: its temperature and out-of-scope bias."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]
# Temperatures between which the best is looked for.
COLDEST, HOTTEST = 0.05, 20.0


class Calibration(NamedTuple):
    """What a manifest keeps.

    Attributes:
        temperature: logits are divided by it before the softmax.
        bias: added to the out-of-scope label's logit before that.
    """

    temperature: float = 1.0
    bias: float = 0.0


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

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


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
