"""Score tests for paired proportions, and intervals for accuracy, F1 and calibration."""

from __future__ import annotations

import math
from bisect import bisect_left
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optimize.judge.statistics.sequential import Interval

Ints = NDArray[np.int64]

# The one-sided 95 % point of the normal distribution.
Z_95 = 1.6448536269514722
# Roots are sought this far within (-1, 1), where the statistic is still defined.
EDGE = 1e-12
# Places that a root is sought among.
STEPS = 1 << 42
BOOTSTRAP_RESAMPLES = 2000


def tango_z(b: int, c: int, n: int, margin: float) -> float:
    """Tango's score statistic for D = (b - c) / n against a margin.

    Z = (b - c - n d) / sqrt(n (2 q + d (1 - d))), where q solves the restricted likelihood:
    q = (sqrt(B^2 - 4 A C) - B) / 2 A with A = 2 n, B = -b - c + (2 n - b + c) d and
    C = -c d (1 - d). T. Tango, Statistics in Medicine 17 (1998) 891-908. At margin 0 it is
    McNemar's (b - c) / sqrt(b + c).

    Args:
        b: examples where the reference is right and the candidate wrong.
        c: the reverse.
        n: all examples, those where both agree included.
        margin: d, a fraction in (-1, 1).

    Returns:
        Negative where the drop is below the margin; 0 at margin 0 without disagreement.
    """
    _check_pairs(b, c, n)
    if not -1 < margin < 1:
        raise ValueError(f"the margin must be a fraction in (-1, 1), not {margin}")
    return _score(b, c, n, margin)


def _check_pairs(b: int, c: int, n: int) -> None:
    """Refuse counts that no set of examples can give."""
    if not (b >= 0 and c >= 0 and n >= 1 and b + c <= n):
        raise ValueError(f"b = {b} and c = {c} disagreements do not fit n = {n} examples")


def _score(b: float, c: float, n: float, margin: float) -> float:
    """`tango_z` for counts that need not be whole."""
    quadratic_a = 2 * n
    quadratic_b = -b - c + (2 * n - b + c) * margin
    quadratic_c = -c * margin * (1 - margin)
    root = math.sqrt(max(0.0, quadratic_b**2 - 4 * quadratic_a * quadratic_c))
    # The two forms of the same root; this choice subtracts no near-equal numbers.
    if quadratic_b > 0:
        q = -2 * quadratic_c / (root + quadratic_b)
    else:
        q = (root - quadratic_b) / (2 * quadratic_a)
    variance = n * (2 * q + margin * (1 - margin))
    excess = b - c - n * margin
    if variance > 0:
        return excess / math.sqrt(variance)
    return math.copysign(math.inf, excess) if excess else 0.0


def tango_noninferior(b: int, c: int, n: int, margin: float, z: float = Z_95) -> bool:
    """Whether the drop in accuracy is below the margin: Z <= -z.

    Where no pair disagrees the statistic is too generous: at a margin of 1 pp it would accept 268
    examples, though a true drop of 1 pp leaves 268 examples in agreement in 6.8 % of samples. There
    the exact chance (1 - margin)^n must not exceed the level either: 299 examples.

    Raises:
        ValueError: impossible counts, a margin outside (0, 1), or z not above 0.
    """
    if not (0 < margin < 1 and z > 0):
        raise ValueError(f"needs a margin in (0, 1) and z above 0, not {margin} and {z}")
    if not tango_z(b, c, n, margin) <= -z:
        return False
    return b + c > 0 or n >= examples_without_disagreement(margin, z)


def examples_without_disagreement(margin: float, z: float = Z_95) -> int:
    """Smallest n with (1 - margin)^n <= P(N > z)."""
    return math.ceil(math.log(0.5 * math.erfc(z / math.sqrt(2))) / math.log1p(-margin))


def tango_interval(b: int, c: int, n: int, level: float = 0.95) -> Interval:
    """Two-sided score interval for D = (b - c) / n: the margins that Tango's test keeps."""
    _check_pairs(b, c, n)
    z = _two_sided_z(level)
    # Exchanging b and c turns D into -D, so that one search serves both ends.
    return Interval(-_upper_end(c, b, n, z), _upper_end(b, c, n, z))


def _upper_end(b: int, c: int, n: int, z: float) -> float:
    """The margin above D where the statistic falls to -z."""
    if b == n:
        return 1.0
    start = max((b - c) / n, EDGE - 1)
    step = (1 - EDGE - start) / STEPS

    def fallen(steps: int) -> bool:
        return _score(b, c, n, start + steps * step) <= -z

    # The statistic falls as the margin grows. Importing scipy's root finders takes longer than all
    # else that a verdict needs.
    return start + bisect_left(range(STEPS), True, key=fallen) * step


def examples_needed(
    margin: float, discordant_share: float, observed_drop: float = 0.0, z: float = Z_95
) -> int | None:
    """Smallest n at which the accuracy gate would pass.

    With b = n (s + D) / 2 and c = n (s - D) / 2 for a discordant share s and a drop D, Tango's
    statistic is sqrt(n) times its value at n = 1, so that n = ceil((z / Z(1))^2); never fewer
    than `examples_without_disagreement`. Counts are not rounded to whole examples.

    Args:
        margin: fraction in (0, 1).
        discordant_share: (b + c) / n.
        observed_drop: (b - c) / n; negative where the candidate is better.
        z: normal quantile of the test.

    Returns:
        None where the drop reaches the margin: no number of examples would do.
    """
    if not (0 < margin < 1 and z > 0):
        raise ValueError(f"needs a margin in (0, 1) and z above 0, not {margin} and {z}")
    if not (0 <= discordant_share <= 1 and abs(observed_drop) <= discordant_share):
        raise ValueError(
            f"a drop of {observed_drop} does not fit a discordant share of {discordant_share}"
        )
    if observed_drop >= margin:
        return None
    b, c = (discordant_share + observed_drop) / 2, (discordant_share - observed_drop) / 2
    unit = _score(b, c, 1, margin)
    if unit == 0:
        return None  # so near the margin that the difference is rounding
    return max(math.ceil((z / unit) ** 2), examples_without_disagreement(margin, z))


def _two_sided_z(level: float) -> float:
    """Normal quantile of a two-sided level."""
    if not 0 < level < 1:
        raise ValueError(f"the level must be in (0, 1), not {level}")
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for one proportion.

    Raises:
        ValueError: there are not so many.
    """
    from scipy.stats import binomtest

    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes do not fit n = {n}")
    found = binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(float(found.low), float(found.high))


def macro_f1(labels: ArrayLike, predictions: ArrayLike, classes: int) -> float:
    """Mean F1 over the classes that occur among labels or predictions.

    Args:
        labels: class ids in [0, classes).
        predictions: class ids, as many.
        classes: number of classes.

    Raises:
        ValueError: no examples, unequally many, or an id out of range.
    """
    return float(_macro_f1_of_codes(_cell_codes(labels, predictions, classes), classes))


def _cell_codes(labels: ArrayLike, predictions: ArrayLike, classes: int) -> Ints:
    """Each example's cell of the confusion matrix: label * classes + prediction."""
    true, predicted = np.asarray(labels), np.asarray(predictions)
    if true.shape != predicted.shape or true.ndim != 1 or not true.size:
        raise ValueError(f"needs paired ids, not shapes {true.shape} and {predicted.shape}")
    for role, ids in (("label", true), ("prediction", predicted)):
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"a {role} must be a whole class id, not {ids.dtype}")
        if ids.min() < 0 or ids.max() >= classes:
            raise ValueError(f"{role}s range {ids.min()}-{ids.max()}, outside 0-{classes - 1}")
    codes: Ints = true.astype(np.int64) * classes + predicted
    return codes


def _macro_f1_of_codes(codes: Ints, classes: int, axis: int = -1) -> Any:
    """Macro F1 of samples of cell codes; all leading axes are samples of their own."""
    rows = np.moveaxis(codes, axis, -1)
    samples = rows.reshape(-1, rows.shape[-1])
    true, predicted = np.divmod(samples, classes)
    offset = (np.arange(len(samples)) * classes)[:, None]
    size = len(samples) * classes
    hits = np.bincount((true + offset)[true == predicted], minlength=size)
    # 2 TP / (2 TP + FP + FN); the denominator is all times a class is a label or a prediction.
    times = np.bincount((true + offset).ravel(), minlength=size)
    times = times + np.bincount((predicted + offset).ravel(), minlength=size)
    f1 = np.divide(2 * hits, times, out=np.zeros(size), where=times > 0).reshape(-1, classes)
    occurring = (times > 0).reshape(-1, classes).sum(axis=-1)
    return (f1.sum(axis=-1) / occurring).reshape(rows.shape[:-1])


def macro_f1_interval(
    labels: ArrayLike,
    predictions: ArrayLike,
    classes: int,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """BCa bootstrap interval for `macro_f1`; label and prediction are drawn together.

    Where every resample must give the same value (all predictions right, say), BCa is undefined
    and both ends are that value.
    """
    from scipy.stats import bootstrap

    _two_sided_z(level)
    codes = _cell_codes(labels, predictions, classes)
    estimate = float(_macro_f1_of_codes(codes, classes))
    if estimate in (0.0, 1.0):
        return Interval(estimate, estimate)
    ends = bootstrap(
        (codes,),
        lambda sample, axis: _macro_f1_of_codes(sample, classes, axis),
        n_resamples=BOOTSTRAP_RESAMPLES,
        batch=128,  # bounds the memory: batch * examples * a few int64 arrays
        confidence_level=level,
        method="BCa",
        random_state=seed,
    ).confidence_interval
    return Interval(float(ends.low), float(ends.high))


def expected_calibration_error(
    probabilities: ArrayLike, correct: ArrayLike, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence, by their counts.

    Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.

    Args:
        probabilities: of the predicted label, in [0, 1], shape (examples,).
        correct: whether it was right, shape (examples,).
        bins: bins (0, 1/bins], ...; 0 itself is in the first.
    """
    confidence = np.asarray(probabilities, dtype=np.float64)
    right = np.asarray(correct, dtype=np.float64)
    if confidence.shape != right.shape or confidence.ndim != 1 or not confidence.size:
        raise ValueError(f"needs paired figures, not shapes {confidence.shape} and {right.shape}")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("probabilities must be within [0, 1]")
    if bins < 1:
        raise ValueError(f"needs at least one bin, not {bins}")
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / confidence.size)
